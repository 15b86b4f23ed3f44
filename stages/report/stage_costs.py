"""What each stage cost, and each attempt at a round with what its gate decided: the page's table.

Counts are those of work that nothing interrupted, of the data that are committed: what they were
made from may be gone. Seconds are what was measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.config import Recipe
from pipeline.ledger import Artifact, Ledger
from pipeline.page.view_model import Decision, RoundCost
from pipeline.run_dir.gate_history import GateRecord, gate_records, reasons
from pipeline.tracking import read_metrics
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import Again, RoundPlan
from stages.chain import DISTIL, JUDGE, PROMOTE, TARGETS
from stages.gate.samples import is_from_other_noise
from stages.plan.plan import PlanRow, Sizes, committed_sizes, describe_undone, round_rows


def costs_of(
    run_dir: Path, recipe: Recipe, seconds: Mapping[str, float], price_per_hour: float | None = None
) -> tuple[RoundCost, ...]:
    """The rows of the table, in the order of the work; their seconds are all there are.

    Args:
        run_dir: the run directory, with data and teacher in it.
        recipe: of the run.
        seconds: by stage, as they were measured.
        price_per_hour: of all machines together; None to say nothing of money.
    """
    rows = _Costs(run_dir, recipe, dict(seconds)).rows()
    if price_per_hour is None:
        return tuple(rows)
    return tuple(replace(row, money=money_for(row.seconds, price_per_hour)) for row in rows)


def money_for(seconds: float, price_per_hour: float) -> float:
    """What an amount of time costs."""
    return seconds / 3600 * price_per_hour


def attempts_at(plan: RoundPlan, records: Sequence[GateRecord], run_dir: Path) -> list[RoundPlan]:
    """The round as it was tried: as it is planned, then each time it was done over."""
    over = [record for record in records if record.is_of(plan) and record.folder != plan.folder]
    return [plan, *(_done_over(plan, record.folder, run_dir) for record in over)]


def _done_over(plan: RoundPlan, folder: str, run_dir: Path) -> RoundPlan:
    kind, number = folder.removeprefix(f"{plan.folder}-").split("-")
    again = Again.model_validate({"kind": kind, "number": int(number)})
    updates = _last_line(run_dir / folder).get("total_updates", plan.training.updates)
    return _of_length(plan, int(updates)).model_copy(update={"again": again})


def _of_length(plan: RoundPlan, updates: int) -> RoundPlan:
    training = plan.training.model_copy(update={"updates": updates})
    return plan.model_copy(update={"training": training})


def _last_line(folder: Path) -> dict[str, float]:
    lines = list(read_metrics(folder / "metrics.jsonl"))
    return lines[-1] if lines else {}


@dataclass
class _Costs:
    """Gathers rows; what has come into one is in none after it."""

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
        """All of them."""
        rounds = {plan.title: plan for plan in plan_rounds(self.recipe)}
        for title, parts in self._planned().items():
            if title in rounds:
                yield from self._round(rounds[title])
            else:
                yield self._row(title, parts, [title])
        rest = self._take(list(self.seconds))
        if rest:
            yield RoundCost("all else", 0, 0, 0, None, rest)

    def _planned(self) -> dict[str, list[PlanRow]]:
        grouped: dict[str, list[PlanRow]] = {}
        for row in describe_undone(self.recipe, self._sizes):
            title = row.label.removesuffix(TARGETS).removesuffix(DISTIL).removesuffix(JUDGE)
            grouped.setdefault(title, []).append(row)
        return grouped

    def _round(self, plan: RoundPlan) -> Iterator[RoundCost]:
        """One row for each attempt; the promotion is in that of the student that was promoted."""
        by_folder = {record.folder: record for record in self._records if record.is_of(plan)}
        places = {artifact.path: artifact for artifact in self._found.values()}
        student = places.get(f"{plan.folder}/student")
        made = next((record.folder for record in self._records if record.made(student)), "")
        for tried in attempts_at(plan, self._records, self.run_dir):
            record = by_folder.get(tried.folder)
            labels = [tried.title + part for part in (DISTIL, JUDGE)]
            if tried.folder == (made or plan.folder):
                labels.append(plan.title + PROMOTE)
            parts = self._parts(tried, record)
            yield self._row(tried.title, parts, labels, record)

    def _parts(self, tried: RoundPlan, record: GateRecord | None) -> list[PlanRow]:
        """Targets and training; trained only so far where it broke off."""
        *targets, training = round_rows(self.recipe, tried, self._sizes)
        if record is not None and not record.bundles:
            done = int(_last_line(self.run_dir / tried.folder).get("update", 0))
            training = round_rows(self.recipe, _of_length(tried, done), self._sizes)[-1]
        is_new = tried.targets_of.folder == tried.folder
        return [*(targets if is_new else []), training]

    def _row(
        self,
        title: str,
        parts: Sequence[PlanRow],
        labels: Sequence[str],
        record: GateRecord | None = None,
    ) -> RoundCost:
        asked = sum(row.teacher_evaluations + row.student_evaluations for row in parts)
        return RoundCost(
            title=title,
            updates=sum(row.updates for row in parts),
            evaluations=asked + (self._drawn(record) if record else 0),
            bytes=sum(row.bytes for row in parts),
            targets_s=self._take([title + TARGETS]),
            rest_s=self._take(labels),
            decision=_decided(record) if record else None,
        )

    def _drawn(self, record: GateRecord) -> int:
        """Evaluations of what the gate drew for an attempt, and had not drawn for one before."""
        sets = [
            artifact
            for artifact in self._found.values()
            if "/gate-" in artifact.path
            and artifact.parents[0] in record.bundles
            # its student's from other noise are drawn for whom it teaches
            and not (
                artifact.parents[:1] == record.bundles[:1]
                and is_from_other_noise(artifact.path, record.verdict.seed)
            )
        ]
        for each in sets:
            del self._found[each.fingerprint]
        return sum(each.details["evaluations"] * each.details["count"] for each in sets)

    def _take(self, labels: Sequence[str]) -> float | None:
        found = [self.seconds.pop(label) for label in labels if label in self.seconds]
        return sum(found) if found else None


def _decided(record: GateRecord) -> Decision:
    if record.verdict.passed:
        return Decision("pass", "passed", "")
    why = reasons(record.verdict, most=1)
    if record.answer is True:
        return Decision("person", "accepted by a person", why)
    no = "; a person said no" if record.answer is False else ""
    return Decision("fail", "failed", why + no)
