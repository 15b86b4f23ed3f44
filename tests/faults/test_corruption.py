"""Every cut, flip and swap in a run is detected: a few by default, 10,000 in `make faults`."""

import resource
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.records import RecordShards
from pipeline.data.shards.reader import SampleShards
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import load_denoiser
from pipeline.training.checkpoint import Checkpoints
from pipeline.verification.contents import content_problem
from tests.support.small_run import CHECKPOINTS, ROUND, engine_of, make_checkpoints, make_run
from tests.support.watching import nothing_but_reading, refusal_of


@dataclass(frozen=True)
class Victim:
    """An artifact, the ledger that commits it, and its files with its record."""

    ledger: Ledger
    artifact: Artifact
    files: tuple[Path, ...]


def victims_of(run_dir: Path) -> list[Victim]:
    """Every artifact of a run, checkpoints too."""
    found = []
    for ledger in (Ledger(run_dir), Ledger(run_dir / CHECKPOINTS)):
        for artifact in sorted(ledger.records(), key=lambda each: each.path):
            place = ledger.locate(artifact)
            files = [place if name == "." else place / name for name in sorted(artifact.files)]
            record = ledger.record_path(artifact.fingerprint)
            found.append(Victim(ledger, artifact, (*files, record)))
    return found


@dataclass(frozen=True)
class Damage:
    """Damage to one file; positions are fractions, so that they apply to every file.

    Attributes:
        kind: one of `KINDS`.
        victim: which artifact.
        file: which of its files.
        place: where in the file.
        mask: which bits, never 0.
    """

    kind: str
    victim: float
    file: float
    place: float
    mask: int


def _flip(content: bytes, damage: Damage, _older: bytes) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[int(damage.place * len(changed))] ^= damage.mask
    return bytes(changed)


def _cut(content: bytes, damage: Damage, _older: bytes) -> bytes:
    return content[: int(damage.place * len(content))]


def _cut_a_block(content: bytes, damage: Damage, _older: bytes) -> bytes:
    return content[: int(damage.place * len(content)) // 512 * 512]


def _lose(content: bytes, damage: Damage, _older: bytes) -> bytes:
    at = int(damage.place * len(content))
    return content[:at] + content[at + damage.mask :]


def _blank(content: bytes, damage: Damage, _older: bytes) -> bytes:
    at = int(damage.place * len(content))
    blank = bytes(min(512, len(content) - at))
    return content[:at] + blank + content[at + len(blank) :]


def _append(content: bytes, damage: Damage, _older: bytes) -> bytes:
    return content + bytes([damage.mask]) * 512


def _older(_content: bytes, _damage: Damage, older: bytes) -> bytes:
    return older


def _mix(content: bytes, damage: Damage, older: bytes) -> bytes:
    at = int(damage.place * len(content))
    return older[:at] + content[at:]


KINDS: dict[str, Callable[[bytes, Damage, bytes], bytes]] = {
    "flip": _flip,
    "cut": _cut,
    "cut a block": _cut_a_block,
    "lose bytes": _lose,
    "blank": _blank,
    "append": _append,
    "older": _older,
    "mix": _mix,
}


@dataclass
class Runs:
    """A sound run, and an older one of the same shape and other content.

    Attributes:
        sound: directory of the run that is damaged, and whole again afterwards.
        older: directory of the other.
        counts: cases by kind of damage.
    """

    sound: Path
    older: Path
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.victims = victims_of(self.sound)
        self.others = victims_of(self.older)

    def notices(self, damage: Damage) -> bool:
        """Inject and undo one damage; return whether it was detected, if it changed anything."""
        number = int(damage.victim * len(self.victims))
        victim, other = self.victims[number], self.others[number]
        chosen = int(damage.file * len(victim.files))
        path, older = victim.files[chosen], other.files[chosen]
        content = path.read_bytes()
        changed = KINDS[damage.kind](content, damage, older.read_bytes())
        is_record = path == victim.files[-1]
        # keys that the small run made up are equal in both; a real one covers what it is made from
        is_namesake = victim.artifact.fingerprint == other.artifact.fingerprint
        if changed == content or (is_record and is_namesake and changed == older.read_bytes()):
            return True
        self.counts[damage.kind] = self.counts.get(damage.kind, 0) + 1
        path.write_bytes(changed)
        try:
            return self._is_noticed(victim, is_record=is_record)
        finally:
            path.write_bytes(content)

    def notices_swap(self, number: int) -> bool:
        """Replace an artifact and its record by older ones, and undo it."""
        victim, other = self.victims[number], self.others[number]
        kept = [path.read_bytes() for path in victim.files]
        try:
            for path, older in zip(victim.files, other.files, strict=True):
                shutil.copyfile(older, path)
            return victim.ledger.find(victim.artifact.fingerprint) is None
        finally:
            for path, content in zip(victim.files, kept, strict=True):
                path.write_bytes(content)

    def _is_noticed(self, victim: Victim, *, is_record: bool) -> bool:
        with nothing_but_reading():
            found = victim.ledger.find(victim.artifact.fingerprint)
        # a record may be written in other words, such as one blank more; files may not
        is_kept_out = found is None or (is_record and found == victim.artifact)
        here = [each for each in victim.ledger.records() if each.path == victim.artifact.path]
        is_said = refusal_of(lambda: use(victim)) != ""  # even if its hashes had been right
        return is_kept_out and all(record == victim.artifact for record in here) and is_said


def use(victim: Victim) -> None:
    """Read an artifact without its hashes: its counts are right, or there is an error."""
    place, artifact = victim.ledger.locate(victim.artifact), victim.artifact
    content_problem(place, artifact)  # returns a result, never raises
    match artifact.kind:
        case "data":
            for split in ("train", "heldout"):
                samples = SampleShards(place, split, cache_bytes=0)
                assert len(samples) == artifact.details[split]
                assert len(samples.read(np.arange(len(samples))).x) == len(samples)
        case "targets":
            records = RecordShards([place / "targets.tar"])
            assert len(records) == artifact.details["tuples"]
            records.verify()
        case "teacher" | "student":
            load_denoiser(place)
        case "checkpoint":
            restored = engine_of(0.0)
            state = Checkpoints(victim.ledger.run_dir, ROUND, 2, "other").restore(restored)
            weights = restored.full_weights()["weight"]
            # the other checkpoint is whole, so there always is one, and it is what was saved
            assert torch.equal(weights, torch.full((2, 3), float(state["update"])))


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
