"""`stepfold accept`, and what a run says when it stops at the gate."""

from pathlib import Path

import pytest

from flows.cli.approve import accept_failed
from flows.cli.status import status_table
from flows.gate_wording import found, last_word
from flows.quality_gate import _Course
from pipeline.errors import ConfigError
from pipeline.evaluation.verdicts.checks import Check
from pipeline.evaluation.verdicts.gate_documents import AtWeight, RoundVerdict
from pipeline.ledger import Ledger
from pipeline.run_dir.gate_history import gate_records
from pipeline.run_dir.recipe_file import prepare
from pipeline.run_dir.run_status import stand
from pipeline.training.gate_policy import Judged
from stages.gate.attempts import accept, find_answer, look_up
from stages.report.stage_costs import costs_of
from tests.flows.test_made_round import run_of
from tests.support.gate_case import ENOUGH, GATE, GateCase, gate_case
from tests.support.small_run import small_recipe
from tests.support.terminal import invoke

FAILS = ("guidance.updates=2", "gate.on_fail=extend", "gate.extend={share: 0.5, times: 1}")
BREAKS = ("guidance.learning_rate=100", "gate.on_fail=retry", "gate.retry.factor=0.9")
ROUND = "round 0: guidance, any w in one evaluation"


def stopped(run_dir: Path, *overrides: str) -> tuple[GateCase, Judged]:
    """A run that came to the end of what its gate has tried."""
    prepare(small_recipe(*ENOUGH, GATE, *overrides), run_dir, accept_changes=False)
    case = gate_case(run_dir, *overrides)
    return case, case.settle()


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[GateCase, Judged]:
    return stopped(tmp_path_factory.mktemp("failed") / "run", *FAILS)


def test_the_last_word_says_what_was_tried_why_and_what_to_do(
    failed: tuple[GateCase, Judged],
) -> None:
    case, outcome = failed
    assert outcome.plan.again is not None
    said = last_word(case.run_dir, outcome, [outcome.plan.again], "Nobody could be asked")
    assert said.startswith(
        f"{ROUND}, extended 1: the student failed the gate after being extended 1 time and was "
        "not promoted: distance "
    )
    assert "times the floor at w = 2 (at most 2)" in said
    assert ". Nobody could be asked. Look at " in said
    assert f"stepfold accept --run-dir {case.run_dir}" in said
    assert Path(said.partition("Look at ")[2].partition(". Then")[0]).is_file()
    no = Judged(outcome.plan, outcome.student, outcome.record, outcome.verdict, answer=False)
    assert "A person said no." in last_word(case.run_dir, no, [], "")
    assert "after" not in last_word(case.run_dir, no, [], "").partition(" and was not")[0]


def test_the_costs_of_every_attempt_are_told_with_what_became_of_it(
    failed: tuple[GateCase, Judged],
) -> None:
    case, _ = failed
    seconds = {f"{ROUND}, extended 1, {part}": 2.0 for part in ("distil", "judge")}
    seconds |= {f"{ROUND}, pre-generate targets": 4.0, f"{ROUND}, distil": 1.0}
    seconds |= {f"{ROUND}, promote": 8.0, "publish the report": 16.0}
    rows = {row.title: row for row in costs_of(case.run_dir, case.recipe, seconds)}
    first, over = rows[ROUND], rows[f"{ROUND}, extended 1"]
    assert (first.updates, over.updates) == (2, 1)
    # a guided target of each sample asks the teacher twice, an update the student 128 times; the
    # gate draws 60 samples at w = 0 and 2, of each student in 4 steps, and of the teacher twice in
    # 4, which at w = 2 takes two evaluations each: that once for both attempts. Two updates go over
    # the data twice
    targets = 2 * round(96 * (1 - case.recipe.data.holdout))
    student, teacher = 60 * 4 * 2, 2 * 60 * 4 * 3
    assert over.evaluations == targets + 128 + student
    assert first.evaluations == 2 * targets + 2 * 128 + student + teacher
    assert first.bytes == 2 * over.bytes > 0
    assert (first.targets_s, first.rest_s, over.rest_s) == (4.0, 9.0, 4.0)
    assert rows["all else"].rest_s == 16.0
    spent = sum((row.targets_s or 0) + (row.rest_s or 0) for row in rows.values())
    assert spent == sum(seconds.values())
    assert first.decision is not None
    assert (first.decision.mark, first.decision.words) == ("fail", "failed")
    assert first.decision.reason.startswith("distance ")
    assert first.decision.reason.endswith(" (at most 2)")
    assert rows["teacher"].decision is None


def test_what_could_not_be_asked_is_said_of_a_student_that_passed() -> None:
    at = AtWeight(w=2, checks=(Check(name="RMS", value=0.1, most=0.3),))
    told = {"title": ROUND, "num_samples": 8, "seed": 0, "found": (at,)}
    verdict = RoundVerdict(**told, unmeasured=("control of w: there is one guidance weight",))
    expected = "passed (rms 0.1); not asked: control of w: there is one guidance weight"
    assert found(verdict) == expected


def test_a_student_is_accepted_once(failed: tuple[GateCase, Judged]) -> None:
    case, outcome = failed
    place = str(case.run_dir)
    code, said = invoke("accept", "--run-dir", place)
    assert code == 0
    assert said.startswith(f"Accepted {ROUND}, extended 1, which {found(outcome.verdict)}.")
    assert said.endswith("It is promoted when the run goes on: stepfold run")
    assert find_answer(Ledger(case.run_dir), outcome.record) is True
    judged = look_up(case.setting, outcome.plan)
    assert judged is not None
    assert judged.is_accepted
    assert [record.is_accepted for record in gate_records(Ledger(case.run_dir))] == [False, True]
    assert invoke("accept", "--run-dir", place)[0] == 2  # nobody waits any more
    code, said = invoke("status", "--run-dir", place)
    assert f"✗ {ROUND} failed: distance" in said
    assert f"✓ {ROUND}, extended 1 failed: distance" in said
    assert said.count("; a person said yes") == 1


def test_where_training_broke_off_there_is_nobody_to_accept(tmp_path: Path) -> None:
    case, outcome = stopped(tmp_path / "run", *BREAKS)
    assert outcome.student is None
    with pytest.raises(ConfigError, match="training broke off, so there is no student to accept"):
        accept_failed(case.run_dir)
    rows = {row.title: row for row in costs_of(case.run_dir, case.recipe, {})}
    over = rows[f"{ROUND}, retried 1"]
    assert over.bytes == 0  # on the targets of the first time
    assert over.updates < 150
    assert over.decision is not None
    assert "training diverged" in over.decision.reason
    assert status_table(case.run_dir, stand(case.run_dir))


def test_an_attempt_that_failed_makes_room_for_the_next(tmp_path: Path) -> None:
    """Its student was let through by a looser gate, and lies where the next one may come to lie."""
    off = [f"gate.{bound}=off" for bound in ("distance", "rms", "recall")]
    looser, passed = stopped(tmp_path / "run", *FAILS, *off, "gate.w_consistency=false")
    assert accept(looser.run_dir, looser.plan, passed).path == "rounds/00-guidance/student"
    case = gate_case(looser.run_dir, *FAILS)
    judged = case.attempt(case.plan)
    assert not judged.verdict.passed
    course = _Course(run_of(case), case.rules, case.setting, made=[(case.plan, judged.student)])
    course.decide(judged, (), "extend")
    made = course.made[-1][1]
    assert made is not None
    assert made.path == "rounds/00-guidance/candidate"
    assert not (case.run_dir / "rounds/00-guidance/student").exists()
    # so that another one at its place does not cost the failed one, which is asked for again
    outcome = case.settle()
    accept_anyway = Judged(outcome.plan, outcome.student, outcome.record, outcome.verdict, True)
    accept(case.run_dir, case.plan, accept_anyway)
    assert case.setting.find_student(case.plan) == made
