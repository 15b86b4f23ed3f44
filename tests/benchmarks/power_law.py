"""The law `y = c x^a` through measured points."""

from collections.abc import Sequence

import numpy as np


def fit_power(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Exponent and logarithm of the factor of y = c x^a, least squares in logarithms.

    The third number is the largest ratio between a point and the law, less one.
    """
    log_x, log_y = np.log(x), np.log(y)
    exponent, logarithm = np.polyfit(log_x, log_y, 1)
    misfit = np.abs(log_y - (exponent * log_x + logarithm)).max()
    return float(exponent), float(logarithm), float(np.expm1(misfit))
