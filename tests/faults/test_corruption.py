"""Every cut, flip and swap in a run is noticed: a few each time, ten thousand in `make faults`."""

import resource
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.corruption import KINDS, Damage, Runs
from tests.support.small_run import make_checkpoints, make_run

MANY = 10_000
shares = st.floats(0, 1, exclude_max=True)
damages = st.builds(
    Damage,
    kind=st.sampled_from(sorted(KINDS)),
    victim=shares,
    file=shares,
    place=shares,
    mask=st.integers(1, 255),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("corruption")
    for number, name in enumerate(("sound", "older")):
        make_run(root / name, f"run.seed={number}")
        make_checkpoints(root / name, 0.5 * number)
    return Runs(root / "sound", root / "older")


def kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@given(damage=damages)
def test_damage_is_noticed(runs: Runs, damage: Damage) -> None:
    assert runs.notices(damage)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("file", ["first", "record"])
def test_every_kind_of_damage_is_noticed_in_every_artifact(
    runs: Runs, kind: str, file: str
) -> None:
    for number in range(len(runs.victims)):
        victim = (number + 0.5) / len(runs.victims)
        assert runs.notices(Damage(kind, victim, 0.0 if file == "first" else 0.999, 0.4, 4))
    assert runs.counts[kind] > 0


def test_an_older_artifact_with_its_own_record_is_not_taken_for_a_newer_one(runs: Runs) -> None:
    pairs = zip(runs.victims, runs.others, strict=True)
    differing = [
        number
        for number, (one, other) in enumerate(pairs)
        if one.artifact.fingerprint != other.artifact.fingerprint
    ]
    assert len(differing) >= 5
    assert all(runs.notices_swap(number) for number in differing)


@pytest.mark.nightly
def test_of_ten_thousand_damages_none_is_accepted(runs: Runs) -> None:
    runs.counts.clear()
    before = kilobytes()
    chance = Random(0)
    while sum(runs.counts.values()) < MANY:  # of those that changed a file
        damage = Damage(
            kind=chance.choice(sorted(KINDS)),
            victim=chance.random(),
            file=chance.random(),
            place=chance.random(),
            mask=1 << chance.randrange(8),
        )
        assert runs.notices(damage), damage
    assert all(runs.counts[kind] > 100 for kind in KINDS)
    assert kilobytes() - before < 200_000
    assert Path(runs.sound, "recipe.yaml").is_file()
