"""Draws are functions of the row, whatever chunks and workers, with the right distribution."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, kstest, norm

from pipeline.randomness import RowRandom, philox

ROWS = 200_000
KNOWN = [-0.20011965930461884, 0.3734425902366638, -0.9782451391220093, -0.16094383597373962]
"""The first normal numbers of two rows of a stream."""


def moment_bounds(count: int) -> float:
    """Four standard errors of a mean of unit variance: one false alarm in 16,000."""
    return 4 / math.sqrt(count)


@given(
    first=st.integers(0, 2**40),
    cuts=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    shape=st.sampled_from([(), (1,), (3,), (4,), (1, 8, 8)]),
)
def test_rows_are_the_same_in_chunks_of_any_size(
    first: int, cuts: list[int], shape: tuple[int, ...]
) -> None:
    whole = RowRandom((0, 1), first, sum(cuts)).uniform("time", *shape)
    parts, at = [], first
    for count in cuts:
        parts.append(RowRandom((0, 1), at, count).uniform("time", *shape))
        at += count
    assert torch.equal(torch.cat(parts), whole)
    assert whole.shape == (sum(cuts), *shape)


# rows of 1 to 9,000 numbers: a block of intermediate results holds many, some, or one
@pytest.mark.parametrize("shape", [(), (3,), (4,), (7, 9), (1, 8, 8), (4, 45, 50)])
@pytest.mark.parametrize("first", [0, 5, 2**40])
def test_normal_numbers_are_the_same_in_chunks_of_any_size(
    first: int, shape: tuple[int, ...]
) -> None:
    whole = RowRandom((3, 1), first, 60).normal("noise", *shape)
    at = 0
    for count in (1, 0, 2, 13, 31, 13):
        part = RowRandom((3, 1), first + at, count).normal("noise", *shape)
        assert torch.equal(part, whole[at : at + count])
        at += count
    assert at == len(whole)


@pytest.mark.parametrize("first", [0, 5, 2**31 - 3, 2**40])
def test_words_for_a_device_are_numpys(first: int) -> None:
    random = RowRandom((3, 1), first, 50)
    key = random._key("noise")
    words = np.random.Philox(key=key, counter=first).random_raw(200).view(np.int64)
    found = philox(key, first, 50, torch.device("cpu"))
    assert torch.equal(found.flatten(), torch.from_numpy(words))
    assert torch.equal(
        random._words_on(torch.device("cpu"), "noise", 13),
        torch.from_numpy(random._words("noise", 13)),
    )


@pytest.mark.parametrize("kind", ["uniform", "normal", "integers"])
def test_every_law_is_a_function_of_the_row(kind: str) -> None:
    def draw(first: int, count: int) -> torch.Tensor:
        random = RowRandom((7,), first, count)
        return random.integers("x", 10, 3) if kind == "integers" else getattr(random, kind)("x", 3)

    whole = draw(100, 50)
    assert torch.equal(whole[17:30], draw(117, 13))
    assert torch.equal(whole, draw(100, 50))
    assert torch.equal(whole[:0], draw(100, 0))


def test_the_numbers_do_not_change_with_versions() -> None:
    """A run resumed by a later version must draw the same numbers."""
    found = RowRandom((0, 1), 5, 2).uniform("time")
    assert [value.hex() for value in found.tolist()] == [
        "0x1.502c546bd40c6p-2",
        "0x1.0d499a0c9c9b9p-1",
    ]
    normal = RowRandom((0, 1), 5, 2).normal("time", 2).flatten().tolist()
    # other processors round the logarithm and the cosine otherwise, by 2 units in the last place
    assert normal == pytest.approx(KNOWN, rel=2**-22)


def test_types_are_what_the_docstrings_say() -> None:
    random = RowRandom((0,), 0, 4)
    assert random.uniform("a").dtype is torch.float64
    assert random.normal("a").dtype is torch.float32
    assert random.integers("a", 3).dtype is torch.int64


def test_uniform_numbers_are_uniform_and_inside() -> None:
    drawn = RowRandom((1,), 0, ROWS).uniform("a")
    assert float(drawn.min()) > 0
    assert float(drawn.max()) < 1
    assert float(drawn.mean()) == pytest.approx(0.5, abs=moment_bounds(ROWS) / math.sqrt(12))
    fourth = math.sqrt(1 / 80 - 1 / 144)  # standard deviation of (u - 1/2)^2
    square = (drawn - 0.5).square().mean()
    assert float(square) == pytest.approx(1 / 12, abs=moment_bounds(ROWS) * fourth)
    assert kstest(drawn.numpy(), "uniform").pvalue > 1e-3


def test_normal_numbers_are_normal() -> None:
    drawn = RowRandom((1,), 0, ROWS).normal("a").double()
    for power, (mean, variance) in {1: (0, 1), 2: (1, 2), 3: (0, 15), 4: (3, 96)}.items():
        found = float((drawn**power).mean())
        assert found == pytest.approx(mean, abs=moment_bounds(ROWS) * math.sqrt(variance)), power
    assert kstest(drawn.numpy(), "norm").pvalue > 1e-3
    assert bool(drawn.isfinite().all())


def test_integers_are_equally_likely_and_below_their_bound() -> None:
    drawn = RowRandom((1,), 0, ROWS).integers("a", 7)
    counts = torch.bincount(drawn, minlength=7)
    assert len(counts) == 7
    chi_squared = float(((counts - ROWS / 7) ** 2 / (ROWS / 7)).sum())
    assert chi_squared < 6 + 4 * math.sqrt(12)  # mean and standard deviation with 6 degrees
    assert RowRandom((1,), 0, 100).integers("a", 1).tolist() == [0] * 100


def test_names_paths_and_rows_are_independent_of_each_other() -> None:
    streams = [
        RowRandom(path, first, ROWS).normal(name)
        for path, first, name in (
            ((0,), 0, "time"),
            ((0,), 0, "noise"),
            ((1,), 0, "time"),
            ((0, 0), 0, "time"),
            ((0, 1), 0, "time"),
            ((0,), ROWS, "time"),
            ((0,), 1, "time"),
        )
    ]
    for a, b in itertools.combinations(range(len(streams)), 2):
        correlation = float((streams[a] * streams[b]).mean())
        assert abs(correlation) < moment_bounds(ROWS), (a, b)


def test_columns_of_a_row_are_independent_of_each_other() -> None:
    drawn = RowRandom((3,), 0, 50_000).normal("noise", 6)
    covariance = drawn.T @ drawn / len(drawn)
    off = covariance - torch.diag(covariance.diag())
    assert float(off.abs().max()) < 1.2 * moment_bounds(50_000)  # the largest of 15


def test_normal_numbers_have_the_right_share_in_every_bin_and_beyond() -> None:
    drawn = RowRandom((5,), 0, 2**14).normal("noise", 256).flatten().double().numpy()
    count, bins = len(drawn), 1000
    found = np.histogram(norm.cdf(drawn), bins=bins, range=(0, 1))[0]
    statistic = float(((found - count / bins) ** 2).sum() / (count / bins))
    assert chi2.sf(statistic, bins - 1) > 1e-4
    for bound in (3.0, 4.0, 4.5):
        expected = count * 2 * norm.sf(bound)
        assert abs((np.abs(drawn) > bound).sum() - expected) < 4 * math.sqrt(expected), bound
    assert np.abs(drawn).max() < 6.67


def correlations(streams: np.ndarray) -> np.ndarray:
    """z of the correlation of each two rows, which has a standard deviation of 1 / sqrt(n)."""
    count = streams.shape[1]
    products = streams @ streams.T / math.sqrt(count)
    z: np.ndarray = products[np.triu_indices(len(streams), 1)]
    return z


@pytest.mark.parametrize("power", [1, 2])
def test_sub_streams_are_uncorrelated_in_rounds_passes_and_seeds(power: int) -> None:
    """Eight names, and neighbouring seeds, rounds and passes; squares show a common radius."""
    keys = [((0, 0, 0), f"name-{number}") for number in range(8)]
    keys += [(path, "name-0") for path in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 0))]
    drawn = np.stack(
        [RowRandom(path, 0, 2**12).normal(name, 64).flatten().numpy() for path, name in keys]
    ).astype(np.float64)
    centred = drawn if power == 1 else (drawn**2 - 1) / math.sqrt(2)
    assert np.abs(correlations(centred)).max() < 4  # of 78: one false alarm in 200


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("per_row", [1, 8, 64])
def test_numbers_are_uncorrelated_at_lags_up_to_1000(per_row: int, power: int) -> None:
    rows = 2**18 // per_row
    pooled = np.zeros(1000)
    for number in range(8):
        drawn = RowRandom((9, number), 0, rows).normal("noise", per_row).flatten().double().numpy()
        values = drawn if power == 1 else (drawn**2 - 1) / math.sqrt(2)
        spectrum = np.fft.rfft(values, n=2 * len(values))
        products = np.fft.irfft(spectrum * spectrum.conj())[1:1001]
        pooled += products / np.sqrt(8 * (len(values) - np.arange(1, 1001)))
    assert np.abs(pooled).max() < 4.4  # of 1,000: one false alarm in 92
    assert kstest(pooled, "norm").pvalue > 1e-3
