"""What an examination of a run directory has to say."""

from typing import Literal

from pipeline.documents import Document

Remedy = Literal["redo", "drop record", "remove file", "make parent"]
"""How to be rid of a damage: throw the artifact away and make it anew; remove a record that is
none; remove files that belong to nothing; make what is missing and keep what is here."""


class Damage(Document):
    """Something that cannot be trusted.

    Attributes:
        place: where, relative to the run directory.
        kind: of the artifact; `record` for a file of the ledger, `checkpoint` inside a round.
        fingerprint: of the artifact, as far as it is known.
        problems: what is wrong, one sentence each.
        remedy: how to be rid of it.
        files: those to remove, if that is the remedy.
        dependents: places of what was made from it, directly or not.
    """

    place: str
    kind: str
    fingerprint: str
    problems: tuple[str, ...]
    remedy: Remedy
    files: tuple[str, ...] = ()
    dependents: tuple[str, ...] = ()


class Note(Document):
    """Something to know that is no damage.

    Attributes:
        kind: `debris` of interrupted work; `foreign` is nothing of ours; `superseded` is of an
            earlier recipe; `gone` are targets whose student is there, so that nobody needs them.
        places: where, relative to the run directory.
    """

    kind: Literal["debris", "foreign", "superseded", "gone"]
    places: tuple[str, ...]


class Verdict(Document):
    """The result of an examination.

    Attributes:
        artifacts: how many were examined.
        files: how many files they have.
        size: bytes in all of them, by their records.
        damaged: what cannot be trusted.
        notes: what else there is to know.
    """

    artifacts: int
    files: int
    size: int
    damaged: tuple[Damage, ...]
    notes: tuple[Note, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged
