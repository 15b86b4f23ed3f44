"""Features of few rows in fewer dimensions, at the same distances."""

import numpy as np
from jaxtyping import Float

Rows = Float[np.ndarray, "_ _"]


def in_their_span(first: Rows, second: Rows) -> tuple[Rows, Rows]:
    """Two sets of rows `[n, d]` and `[m, d]` by coordinates in the space that both span.

    Distances and angles stay, and so does whatever is made of them, at the cost of matrices of
    n + m rows instead of d. Where d is no more than that, they are returned as they are.
    """
    both = np.concatenate([first, second]).astype(np.float64)
    if len(both) >= both.shape[1]:
        return first, second
    basis, _ = np.linalg.qr(both.T)
    turned = both @ basis
    return turned[: len(first)], turned[len(first) :]
