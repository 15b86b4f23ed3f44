"""Cost table of the HTML report: each stage and attempt, with the gate's decision.

Counts assume uninterrupted work on the committed data. Seconds are measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.config import Recipe
from pipeline.ledger import Artifact, Ledger
from pipeline.page.view_model import Decision, RoundCost
from pipeline.run_dir import layout
from pipeline.run_dir.gate_history import GateRecord, gate_records, reasons
from pipeline.tracking import read_metrics
from pipeline.training.round_plan import Retry, RoundPlan
from stages.chain import StageId, Step
from stages.gate.gate_samples import is_from_other_noise
from stages.plan.plan import PlanRow, Sizes, committed_sizes, plan_from_scratch, round_rows

_IN_ROUNDS = (StageId.TARGETS, StageId.TRAIN, StageId.JUDGE, StageId.PROMOTE)


def costs_of(
    run_dir: Path, recipe: Recipe, seconds: Mapping[str, float], price_per_hour: float | None = None
) -> tuple[RoundCost, ...]:
    """Return the rows of the cost table, in the order of the work; they cover all measured seconds.

    Args:
        run_dir: run directory, with data and teacher.
        recipe: recipe of the run.
        seconds: measured seconds by step id.
        price_per_hour: price of the whole cluster; None to leave out costs.
    """
    rows = _Costs(run_dir, recipe, dict(seconds)).rows()
    if price_per_hour is None:
        return tuple(rows)
    return tuple(replace(row, money=price_of(row.seconds, price_per_hour)) for row in rows)


def price_of(seconds: float, price_per_hour: float) -> float:
    """Return the price of an amount of time."""
    return seconds / 3600 * price_per_hour


def attempts_at(plan: RoundPlan, records: Sequence[GateRecord], run_dir: Path) -> list[RoundPlan]:
    """Return the plans of all attempts at a round: the original, then each retry."""
    retries = [
        record for record in records if record.belongs_to(plan) and record.folder != plan.folder
    ]
    return [plan, *(_retry(plan, record.folder, run_dir) for record in retries)]


def _retry(plan: RoundPlan, folder: str, run_dir: Path) -> RoundPlan:
    kind, number = folder.removeprefix(f"{plan.folder}-").split("-")
    retry = Retry.model_validate({"kind": kind, "number": int(number)})
    updates = _last_line(run_dir / folder / layout.METRICS).get(
        "total_updates", plan.training.updates
    )
    return plan.attempt(retry, int(updates))


def _of_length(plan: RoundPlan, updates: int) -> RoundPlan:
    return plan.attempt(plan.again, updates)


def _last_line(metrics: Path) -> dict[str, float]:
    lines = list(read_metrics(metrics))
    return lines[-1] if lines else {}


@dataclass
class _Costs:
    """Collects rows; each second and sample set is counted in one row only."""

    run_dir: Path
    recipe: Recipe
    seconds: dict[str, float]
    _sizes: Sizes = field(init=False)
    _found: dict[str, Artifact] = field(init=False)
    _records: list[GateRecord] = field(init=False)

    def __post_init__(self) -> None:
        ledger = Ledger(self.run_dir)
        self._sizes = committed_sizes(self.run_dir)
        self._found = {artifact.fingerprint: artifact for artifact in ledger.records()}
        self._records = gate_records(ledger)

    def rows(self) -> Iterator[RoundCost]:
        """Yield all rows."""
        rounds: set[str] = set()
        for row in plan_from_scratch(self.recipe, self._sizes):
            plan = row.step.plan
            if row.step.stage not in _IN_ROUNDS or plan is None:
                yield self._row(row.step.title, [row], [row.step])
            elif plan.folder not in rounds:
                rounds.add(plan.folder)
                yield from self._round(plan)
        rest = self._take(list(self.seconds))
        if rest:
            yield RoundCost("other", 0, 0, 0, None, rest)

    def _round(self, plan: RoundPlan) -> Iterator[RoundCost]:
        """Yield one row per attempt; promotion belongs to the attempt of the promoted student."""
        by_folder = {record.folder: record for record in self._records if record.belongs_to(plan)}
        by_path = {artifact.path: artifact for artifact in self._found.values()}
        student = by_path.get(layout.student_of(plan))
        promoted = next((record.folder for record in self._records if record.judges(student)), "")
        for attempt in attempts_at(plan, self._records, self.run_dir):
            record = by_folder.get(attempt.folder)
            steps = [Step(stage, attempt) for stage in (StageId.TRAIN, StageId.JUDGE)]
            if attempt.folder == (promoted or plan.folder):
                steps.append(Step(StageId.PROMOTE, plan))
            targets = Step(StageId.TARGETS, attempt)
            yield self._row(attempt.title, self._parts(attempt, record), steps, record, targets)

    def _parts(self, attempt: RoundPlan, record: GateRecord | None) -> list[PlanRow]:
        """Return the rows of targets and training, the latter up to where it diverged."""
        *targets, training = round_rows(attempt, self._sizes)
        if record is not None and not record.bundles:
            done = int(_last_line(self.run_dir / attempt.folder / layout.METRICS).get("update", 0))
            training = round_rows(_of_length(attempt, done), self._sizes)[-1]
        is_new = attempt.targets_of.folder == attempt.folder
        return [*(targets if is_new else []), training]

    def _row(
        self,
        title: str,
        parts: Sequence[PlanRow],
        steps: Sequence[Step],
        record: GateRecord | None = None,
        targets: Step | None = None,
    ) -> RoundCost:
        evaluations = sum(row.teacher_evaluations + row.student_evaluations for row in parts)
        return RoundCost(
            title=title,
            updates=sum(row.updates for row in parts),
            evaluations=evaluations + (self._gate_evaluations(record) if record else 0),
            bytes=sum(row.bytes for row in parts),
            targets_s=self._take([targets.id]) if targets else None,
            rest_s=self._take([step.id for step in steps]),
            decision=_decision(record) if record else None,
        )

    def _gate_evaluations(self, record: GateRecord) -> int:
        """Return the evaluations of samples that the gate drew for this attempt first."""
        sample_sets = [
            artifact
            for artifact in self._found.values()
            if "/gate-" in artifact.path
            and artifact.parents[0] in record.bundles
            # the student's noise-floor reference is drawn by the next round's gate
            and not (
                artifact.parents[:1] == record.bundles[:1]
                and is_from_other_noise(artifact.path, record.verdict.seed)
            )
        ]
        for each in sample_sets:
            del self._found[each.fingerprint]
        return sum(each.details["evaluations"] * each.details["count"] for each in sample_sets)

    def _take(self, ids: Sequence[str]) -> float | None:
        found = [self.seconds.pop(each) for each in ids if each in self.seconds]
        return sum(found) if found else None


def _decision(record: GateRecord) -> Decision:
    if record.verdict.passed:
        return Decision("pass", "passed", "")
    reason = reasons(record.verdict, most=1)
    if record.answer is True:
        return Decision("person", "approved by a person", reason)
    rejected = "; rejected by a person" if record.answer is False else ""
    return Decision("fail", "failed", reason + rejected)
