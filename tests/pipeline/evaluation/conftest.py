"""Fixtures of the tests of evaluation."""

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_blas_thread() -> Iterator[None]:
    # matrices are small, and thread contention on a busy machine costs minutes
    with threadpool_limits(1, user_api="blas"):
        yield
