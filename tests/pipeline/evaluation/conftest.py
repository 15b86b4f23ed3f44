"""Settings of the tests of metrics."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_blas_thread() -> Iterator[None]:
    # the matrices are small, and on a busy machine threads that wait for each other take minutes
    with threadpool_limits(1, user_api="blas"):
        yield
