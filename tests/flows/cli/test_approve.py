"""`stepfold approve`, and the message of a run that stops at the gate."""

import re
import shutil
from pathlib import Path

import pytest

from flows.cli.approve import approve
from flows.cli.status import status_table
from flows.gate_wording import failure_text, verdict_text
from flows.quality_gate import _RoundAttempts, ungated_student
from pipeline.errors import ConfigError, GateError
from pipeline.evaluation.verdicts.checks import Check
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict, WeightChecks
from pipeline.ledger import Ledger
from pipeline.run_dir.gate_history import gate_records
from pipeline.run_dir.recipe_file import prepare_run_dir
from pipeline.run_dir.run_status import read_status
from pipeline.training.gate_policy import JudgedAttempt
from stages.evaluation.sample_sets import SampleInputs
from stages.gate.attempts import accept, find_answer, find_attempt, record_answer
from stages.report.stage_costs import costs_of
from tests.flows.test_completed_round import run_of
from tests.support.gate_case import ENOUGH, GATE, GateCase, gate_case
from tests.support.small_run import small_recipe
from tests.support.terminal import invoke

pytestmark = pytest.mark.slow

FAILS = ("guidance.updates=2", "gate.on_fail=extend", "gate.extend={share: 0.5, times: 1}")
BREAKS = ("guidance.learning_rate=100", "gate.on_fail=retry", "gate.retry.factor=0.9")
ROUND = "round 0: guidance, any w in one evaluation"
FOLDER = "rounds/00-guidance"


def stopped(run_dir: Path, *overrides: str) -> tuple[GateCase, JudgedAttempt]:
    """A run whose gate has no remedy left."""
    prepare_run_dir(small_recipe(*ENOUGH, GATE, *overrides), run_dir, accept_changes=False)
    case = gate_case(run_dir, *overrides)
    return case, case.run_attempts()


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> tuple[GateCase, JudgedAttempt]:
    return stopped(tmp_path_factory.mktemp("failed") / "run", *FAILS)


def test_the_error_has_the_retries_the_reason_and_the_next_steps(
    failed: tuple[GateCase, JudgedAttempt],
) -> None:
    case, outcome = failed
    assert outcome.plan.again is not None
    text = failure_text(case.run_dir, outcome, [outcome.plan.again], "No decision within 1 h")
    assert text.startswith(f"{ROUND}, extended 1: the student failed the gate")
    assert "extended 1 time and was not promoted: " in text
    assert re.search(r"effective w [\d.]+ \(.*\) at w = 2 \(1.5 to 2.5\)", text)
    assert ". No decision within 1 h. See " in text
    assert f"stepfold approve --run-dir {case.run_dir}" in text
    assert Path(text.partition(" See ")[2].partition(". Then")[0]).is_file()
    no = JudgedAttempt(outcome.plan, outcome.student, outcome.record, outcome.verdict, answer=False)
    assert "rejected" in failure_text(case.run_dir, no, [], "")
    assert "after" not in failure_text(case.run_dir, no, [], "").partition(" and was not")[0]


def test_the_costs_of_every_attempt_are_listed_with_its_decision(
    failed: tuple[GateCase, JudgedAttempt],
) -> None:
    case, _ = failed
    seconds = {f"{FOLDER}-extended-1/{stage}": 2.0 for stage in ("train", "judge")}
    seconds |= {f"{FOLDER}/targets": 4.0, f"{FOLDER}/train": 1.0}
    seconds |= {f"{FOLDER}/promote": 8.0, "publish": 16.0}
    rows = {row.title: row for row in costs_of(case.run_dir, case.recipe, seconds)}
    first, over = rows[ROUND], rows[f"{ROUND}, extended 1"]
    assert (first.updates, over.updates) == (2, 1)
    # a guided target takes two teacher evaluations, or one at w = 0 (a tenth of them), an update
    # 128 student evaluations; the gate draws 60 samples at w = 0 and 2, of each student in 4
    # steps, and of the teacher twice in 4, which at w = 2 takes two evaluations each: that once for
    # both attempts. Two updates go over the data twice
    targets = round(1.9 * 96 * (1 - case.recipe.data.holdout))
    student, teacher = 60 * 4 * 2, 2 * 60 * 4 * 3
    assert over.evaluations == targets + 128 + student
    assert first.evaluations == 2 * targets + 2 * 128 + student + teacher
    assert first.bytes == 2 * over.bytes > 0
    assert (first.targets_s, first.rest_s, over.rest_s) == (4.0, 9.0, 4.0)
    assert rows["other"].rest_s == 16.0
    spent = sum((row.targets_s or 0) + (row.rest_s or 0) for row in rows.values())
    assert spent == sum(seconds.values())
    assert first.decision is not None
    assert (first.decision.mark, first.decision.words) == ("fail", "failed")
    assert first.decision.reason.startswith("effective w ")
    assert first.decision.reason.endswith(" (1.5 to 2.5)")
    assert rows["teacher"].decision is None


def test_checks_that_do_not_apply_are_listed_for_a_student_that_passed() -> None:
    at = WeightChecks(w=2, checks=(Check(name="RMS", value=0.1, most=0.3),))
    fields = {"title": ROUND, "num_samples": 8, "seed": 0, "found": (at,)}
    verdict = RoundVerdict(**fields, unmeasured=("control of w: there is one guidance weight",))
    expected = "passed (rms 0.1); not checked: control of w: there is one guidance weight"
    assert verdict_text(verdict) == expected


def test_a_student_is_approved_once(failed: tuple[GateCase, JudgedAttempt]) -> None:
    case, outcome = failed
    place = str(case.run_dir)
    code, output = invoke("approve", "--run-dir", place)
    assert code == 0
    assert output.startswith(f"Approved {ROUND}, extended 1 ({verdict_text(outcome.verdict)}).")
    assert output.endswith("stepfold run")
    assert find_answer(Ledger(case.run_dir), outcome.record) is True
    judged = find_attempt(case.context, outcome.plan).judged
    assert judged is not None
    assert judged.is_accepted
    assert [record.is_accepted for record in gate_records(Ledger(case.run_dir))] == [False, True]
    assert invoke("approve", "--run-dir", place)[0] == 2  # no other student waits
    code, output = invoke("status", "--run-dir", place)
    assert re.search(f"✗ {ROUND} failed: [^✓]*effective w", output)
    assert re.search(f"✓ {ROUND}, extended 1 failed: .*effective w", output)
    assert output.count("; approved by a person") == 1


def test_a_student_that_was_rejected_and_passes_other_bounds_can_be_approved(
    failed: tuple[GateCase, JudgedAttempt], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(failed[0].run_dir, run_dir)
    off = ("relative_distance", "rms", "recall", "effective_w")
    looser = gate_case(run_dir, *FAILS, *(f"gate.{bound}=off" for bound in off))
    record_answer(run_dir, failed[1].record, accepted=False)
    judged = looser.attempt(failed[1].plan)
    assert (judged.verdict.passed, judged.answer) == (True, False)
    text = failure_text(run_dir, judged, [], "")
    assert (
        "the student passed the gate, but was rejected by a person, and was not promoted." in text
    )
    assert invoke("approve", "--run-dir", str(run_dir))[0] == 0
    assert looser.attempt(failed[1].plan).is_accepted


def test_without_a_gate_a_rejected_student_is_not_promoted(
    failed: tuple[GateCase, JudgedAttempt], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(failed[0].run_dir, run_dir)
    case = gate_case(run_dir, *FAILS)
    first = find_attempt(case.context, case.plan).judged
    assert first is not None
    record_answer(run_dir, first.record, accepted=False)
    run = run_of(gate_case(run_dir, FAILS[0], "gate=null"))
    with pytest.raises(GateError, match=r"a person rejected the student in .*/candidate"):
        ungated_student(run, case.plan, case.data, case.teacher, SampleInputs(case.data, None))


def test_without_a_student_there_is_nothing_to_approve(tmp_path: Path) -> None:
    case, outcome = stopped(tmp_path / "run", *BREAKS)
    assert outcome.student is None
    with pytest.raises(ConfigError, match="no student to approve"):
        approve(case.run_dir)
    rows = {row.title: row for row in costs_of(case.run_dir, case.recipe, {})}
    over = rows[f"{ROUND}, retried 1"]
    assert over.bytes == 0  # on the targets of the first time
    assert over.updates < 150
    assert over.decision is not None
    assert "training diverged" in over.decision.reason
    assert status_table(case.run_dir, read_status(case.run_dir))


def test_an_attempt_that_failed_makes_room_for_the_next(tmp_path: Path) -> None:
    """A student that passed a looser gate occupies the path of the next accepted student."""
    off = [f"gate.{bound}=off" for bound in ("relative_distance", "rms", "recall")]
    looser, passed = stopped(tmp_path / "run", *FAILS, *off, "gate.effective_w=off")
    assert accept(looser.run_dir, looser.plan, passed).path == "rounds/00-guidance/student"
    case = gate_case(looser.run_dir, *FAILS)
    judged = case.attempt(case.plan)
    assert not judged.verdict.passed
    attempts = _RoundAttempts(
        run_of(case), case.rules, case.context, done=[(case.plan, judged.student)]
    )
    attempts.on_failure(judged, (), "extend")
    aside = attempts.done[-1][1]
    assert aside is not None
    assert aside.path == "rounds/00-guidance/candidate"
    assert not (case.run_dir / "rounds/00-guidance/student").exists()
    # so another student at that path does not replace the failed one, which is looked up again
    outcome = case.run_attempts()
    accept_anyway = JudgedAttempt(
        outcome.plan, outcome.student, outcome.record, outcome.verdict, True
    )
    accept(case.run_dir, case.plan, accept_anyway)
    assert case.context.find_student(case.plan) == aside
