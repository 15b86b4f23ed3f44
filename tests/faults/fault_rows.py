"""One line of the table of faults: what was done to which stage, and what came of it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

PROPERTY = "fault"

Outcome = Literal["resumed", "refused", "quarantined"]


@dataclass
class FaultRow:
    """What a test found; lines that agree in the first three become one, with their worst numbers.

    Attributes:
        number: of the fault in the matrix, such as "1" or "21c".
        fault: what was done, in a few words.
        stage: to whom.
        outcome: what the run made of it: it went on to the same end, it stopped and said why with
            nothing lost, or it set the bad part aside.
        noticed_s: seconds until the run or its user knew; None where nobody waited.
        recovered_s: seconds from there until it was as far as before; None for a refusal.
        lost: work done twice, in seconds, or in words.
    """

    number: str
    fault: str
    stage: str
    outcome: Outcome | None = None
    noticed_s: float | None = None
    recovered_s: float | None = None
    lost: float | str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON."""
        return asdict(self)
