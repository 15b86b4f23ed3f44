"""Outcomes of failed gates, with diverging rounds and kills in between."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from pipeline.bundle import read_manifest
from pipeline.config.profile import Profile
from pipeline.documents import to_yaml
from pipeline.errors import BundleError, ConfigError
from pipeline.ledger import Ledger
from pipeline.run_dir.gate_history import gate_records
from pipeline.run_dir.layout import RECIPE
from pipeline.training.gate_policy import JudgedAttempt
from pipeline.verification.examine import examine
from stages.evaluation.features import classifier_of, classifier_spec, heldout_source, on_workers
from stages.gate.attempts import (
    accept,
    find_accepted,
    find_attempt,
    find_promoted,
    find_ungated,
    is_rejected,
    keep_answer,
    move_to_round,
    record_answer,
    refusal_of_promoted,
    set_aside,
)
from stages.plan.changes import check_changes
from tests.support.chain import digests
from tests.support.gate_case import GateCase, gate_case

pytestmark = pytest.mark.slow

# at 20 updates the tables have not settled, and follow no w
TOO_FEW = (
    *("guidance.updates=20", "gate.on_fail=extend", "gate.extend.share=7"),
    "gate.relative_distance=10",
)
# a hundred times the rate that is good diverges in ten updates
TOO_FAST = ("guidance.learning_rate=100", "gate.on_fail=retry", "gate.retry.factor=0.01")
BAD = "guidance.updates=20"
STUDENT = "rounds/00-guidance/student"

Make = Callable[..., GateCase]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, teacher and classifier, shared by all cases."""
    run_dir = tmp_path_factory.mktemp("base") / "run"
    case = gate_case(run_dir)
    classifier_of(Ledger(run_dir), case.data)
    return run_dir


@pytest.fixture
def make(base: Path, tmp_path: Path) -> Make:
    def case(*overrides: str, name: str = "run") -> GateCase:
        if not (tmp_path / name).exists():
            shutil.copytree(base, tmp_path / name)
        return gate_case(tmp_path / name, *overrides)

    return case


def promoted(case: GateCase, outcome: JudgedAttempt) -> str:
    return accept(case.run_dir, case.plan, outcome).path


def places(case: GateCase) -> set[str]:
    found = (path.relative_to(case.run_dir) for path in case.run_dir.glob("rounds/*/*"))
    return {path.as_posix() for path in found}


def test_a_good_round_passes_at_once_and_is_the_student_it_would_be_without_a_gate(
    make: Make,
) -> None:
    case = make()
    outcome = case.run_attempts()
    assert outcome.verdict.passed, outcome.verdict.reasons
    assert outcome.verdict.reasons == ()
    assert [at.w for at in outcome.verdict.found] == [0, 2]
    assert case.made == ["rounds/00-guidance"]
    assert promoted(case, outcome) == STUDENT
    assert not (case.run_dir / "rounds/00-guidance/candidate").exists()
    accepted = find_accepted(case.context, case.plan)
    assert accepted is not None
    assert examine(case.run_dir).damaged == ()
    plain = make(name="plain")
    plain.recipe = plain.recipe.model_copy(update={"gate": None})
    trained = plain.train(plain.plan)
    assert (accepted.digest, accepted.fingerprint) == (trained.digest, trained.fingerprint)


def test_stop_keeps_a_failed_student_in_its_attempt(make: Make) -> None:
    case = make(BAD)
    outcome = case.run_attempts()
    assert case.remedies == ["stop"]
    assert not outcome.is_accepted
    assert "distance" in outcome.verdict.reasons[0]
    with pytest.raises(BundleError, match="stepfold approve"):
        accept(case.run_dir, case.plan, outcome)
    assert places(case) == {
        "rounds/00-guidance/candidate",
        "rounds/00-guidance/checkpoints",
        "rounds/00-guidance/metrics.jsonl",
        "rounds/00-guidance/verdict",
    }
    pictures = sorted(p.name for p in (case.run_dir / "rounds/00-guidance/verdict").glob("*.png"))
    assert pictures == ["samples-w0.png", "samples-w2.png"]
    assert find_accepted(case.context, case.plan) is None
    # its samples are of noise that no report uses
    assert outcome.verdict.seed == case.recipe.evaluation.seed + 1000
    drawn = [a for a in Ledger(case.run_dir).records() if a.kind in ("samples", "reference")]
    assert len(drawn) == 6
    assert {a.path.split("/")[2].split("-")[0] for a in drawn} == {"gate"}
    arrays = [np.load(case.run_dir / a.path) for a in drawn]
    assert all(array.shape == (60, 1, 1, 2) for array in arrays)


def test_extend_trains_the_failed_student_on_and_decides_the_same_when_run_again(
    make: Make,
) -> None:
    case = make(*TOO_FEW)
    outcome = case.run_attempts()
    assert case.made == ["rounds/00-guidance", "rounds/00-guidance-extended-1"]
    assert case.remedies == ["extend"]
    assert outcome.verdict.passed
    first = find_attempt(case.context, case.plan)
    assert first.student is not None
    assert outcome.student is not None
    assert first.student.fingerprint in outcome.student.parents
    assert outcome.plan.again is not None
    assert outcome.plan.again.start == first.student.digest
    assert outcome.plan.training.updates == 140
    student = accept(case.run_dir, case.plan, outcome)
    assert student.path == STUDENT
    lineage = read_manifest(case.run_dir / STUDENT).lineage
    assert (lineage.round, lineage.parent) == (0, case.teacher.digest)
    assert examine(case.run_dir).damaged == ()
    before = digests(case.run_dir)
    again = make(*TOO_FEW)
    assert accept(again.run_dir, again.plan, again.run_attempts()) == student
    assert again.made == []
    assert digests(again.run_dir) == before


def test_extended_it_begins_where_the_failed_student_ended_up_to_a_limit(make: Make) -> None:
    """One update changes a weight by at most the learning rate."""
    case = make(
        *(BAD, "guidance.learning_rate=0.0001", "gate.on_fail=extend"),
        "gate.extend={share: 0.05, times: 2}",
    )
    outcome = case.run_attempts()
    assert outcome.plan.training.updates == 1
    assert not outcome.is_accepted
    folders = [f"rounds/00-guidance{retry}" for retry in ("", "-extended-1", "-extended-2")]
    assert case.made == folders
    tables = [
        load_file(case.run_dir / folder / "candidate/gaussian/tables.safetensors")
        for folder in folders
    ]
    for first, last in pairwise(tables):
        moved = max(float((first[name] - last[name]).abs().max()) for name in first)
        assert 0 < moved <= 0.0001 * 1.001


def test_retry_after_divergence_uses_a_lower_rate(make: Make) -> None:
    case = make(*TOO_FAST)
    outcome = case.run_attempts()
    assert case.made == ["rounds/00-guidance", "rounds/00-guidance-retried-1"]
    first = find_attempt(case.context, case.plan)
    assert first.student is None
    assert first.judged is not None
    assert "training diverged" in first.judged.verdict.bad_numbers
    assert outcome.verdict.passed
    assert outcome.plan.learning_rate == pytest.approx(1.0)
    assert promoted(case, outcome) == STUDENT
    assert examine(case.run_dir).damaged == ()


def test_a_decision_is_recorded_once(make: Make) -> None:
    asked = (BAD, "gate.on_fail=[ask, extend]", "gate.extend.share=0.05")
    nobody = make(*asked)
    outcome = nobody.run_attempts()
    assert (outcome.is_accepted, outcome.answer) == (False, None)
    assert nobody.remedies == ["ask"]  # without a decision the run does not continue
    no = make(*asked)
    no.answers = [False, True]
    accepted = no.run_attempts()  # no to the first, yes to the one that was trained on
    assert no.remedies == ["ask", "extend", "ask"]
    assert no.made == ["rounds/00-guidance-extended-1"]
    assert (accepted.verdict.passed, accepted.answer) == (False, True)
    assert promoted(no, accepted) == STUDENT
    again = make(*asked)
    assert again.run_attempts().answer is True
    assert (again.made, again.remedies) == ([], ["extend"])


def test_a_bound_that_is_loosened_lets_the_same_student_through(make: Make) -> None:
    case = make(BAD)
    failed = case.run_attempts()
    ledger = Ledger(case.run_dir)
    read = [each for each in ledger.records() if each.kind == "features"]
    assert len(read) == 7  # teacher twice and student at two w, and the held-out data
    off = [f"gate.{bound}=off" for bound in ("relative_distance", "recall", "effective_w")]
    looser = make(BAD, *off, "gate.rms=9")
    passed = looser.run_attempts()
    assert passed.verdict.passed
    assert passed.student == failed.student
    values = [[check.value for check in at.checks] for at in passed.verdict.found]
    assert values == [[check.value for check in at.checks] for at in failed.verdict.found]
    # nothing was read again, and a report will not read the held-out data again either
    assert [each for each in ledger.records() if each.kind == "features"] == read
    parts: list[tuple[int, int]] = []
    reader = classifier_spec(ledger, classifier_of(ledger, case.data))
    on_workers(Profile(), lambda *part: parts.append(part))(
        ledger, reader, [heldout_source(ledger, case.data)]
    )
    assert parts == []
    assert promoted(looser, passed) == STUDENT
    # and tightened again it is taken away from where teachers are looked for
    tighter = make(BAD)
    set_aside(tighter.run_dir, tighter.plan, tighter.run_attempts())
    assert not (case.run_dir / STUDENT).exists()
    assert (case.run_dir / "rounds/00-guidance/candidate").is_dir()


def test_a_promoted_attempt_stays_under_looser_bounds_and_other_remedies(make: Make) -> None:
    case = make(*TOO_FEW)
    student = accept(case.run_dir, case.plan, case.run_attempts())
    for changes in (
        ["gate.relative_distance=1e6"],
        ["gate.relative_distance=1e6", "gate.on_fail=[retry, extend]"],
    ):
        looser = make(*TOO_FEW, *changes)  # of which the first attempt satisfies the bounds too
        found = find_promoted(looser.context, looser.plan)
        assert found is not None
        assert [plan.folder for plan, _ in found] == [
            "rounds/00-guidance",
            "rounds/00-guidance-extended-1",
        ]
        assert found[-1][1] == student
        assert find_accepted(looser.context, looser.plan) == student
    stricter = make(*TOO_FEW, "gate.relative_distance=0.001")
    assert find_promoted(stricter.context, stricter.plan) is not None
    assert find_accepted(stricter.context, stricter.plan) is None
    assert refusal_of_promoted(stricter.context, stricter.plan).startswith(
        "fails relative distance "
    )
    longer = make(*TOO_FEW, "guidance.updates=21", "gate.relative_distance=1e6")  # another training
    assert find_promoted(longer.context, longer.plan) is None


def test_stricter_bounds_list_the_checks_that_a_promoted_student_fails(make: Make) -> None:
    off = [f"gate.{bound}=off" for bound in ("recall", "rms", "effective_w")]
    loose = (BAD, "gate.relative_distance=1e6", *off)
    case = make(*loose)
    accept(case.run_dir, case.plan, case.run_attempts())
    (case.run_dir / RECIPE).write_text(to_yaml(case.recipe))
    stricter = make(*loose, "gate.rms=0.0001").recipe
    with pytest.raises(ConfigError) as refused:
        check_changes(stricter, Profile(), case.run_dir, accept_changes=False)
    [line] = [line for line in str(refused.value).splitlines() if "promoted student" in line]
    assert line.startswith(f"  {case.plan.title}, quality gate, its promoted student fails RMS")
    assert "at w = 2 (at most 0.0001)" in line
    assert "evaluations of the teacher" in line


@pytest.mark.parametrize(
    ("made", "changed"),
    [
        (TOO_FEW, "gate.extend.share=6"),
        (TOO_FAST, "gate.retry.factor=0.02"),
        (TOO_FEW, "gate=null"),
    ],
)
def test_a_promoted_attempt_is_recognised_by_its_record(
    make: Make, made: tuple[str, ...], changed: str
) -> None:
    case = make(*made)
    outcome = case.run_attempts()
    student = accept(case.run_dir, case.plan, outcome)
    first = find_attempt(case.context, case.plan).student
    settings = [each for each in made if changed != "gate=null" or not each.startswith("gate")]
    other = make(*settings, changed)
    assert find_accepted(other.context, other.plan) == student
    expected = ((case.plan, first), (outcome.plan, student))
    assert find_promoted(other.context, other.plan) == expected
    if changed == "gate=null":
        assert find_ungated(other.context, other.plan) == expected
    else:
        judged = find_attempt(other.context, outcome.plan).judged
        assert judged is not None
        assert judged.is_accepted


def test_without_its_gate_a_round_keeps_the_student_of_its_first_attempt(make: Make) -> None:
    failed = make(BAD)
    candidate = failed.run_attempts().student
    assert candidate is not None
    case = make(BAD, "gate=null")
    [(plan, student)] = find_ungated(case.context, case.plan)
    assert (plan, student) == (case.plan, candidate)
    assert student is not None
    moved = move_to_round(case.run_dir, case.plan, plan, student)
    assert (moved.path, moved.digest) == (STUDENT, candidate.digest)
    assert find_accepted(case.context, case.plan) == moved
    assert examine(case.run_dir).damaged == ()


def test_a_rejection_holds_for_looser_bounds_and_without_a_gate_until_an_approval(
    make: Make,
) -> None:
    asked = (BAD, "gate.on_fail=ask")
    case = make(*asked)
    case.answers = [False]
    assert not case.run_attempts().is_accepted
    off = [f"gate.{bound}=off" for bound in ("relative_distance", "recall", "rms", "effective_w")]
    looser = make(*asked, *off)
    outcome = looser.run_attempts()
    assert (outcome.verdict.passed, outcome.answer, outcome.is_accepted) == (True, False, False)
    assert looser.remedies == ["stop"]  # a person is not asked twice
    assert find_accepted(looser.context, looser.plan) is None
    with pytest.raises(BundleError, match="stepfold approve"):
        accept(looser.run_dir, looser.plan, outcome)
    keep_answer(looser.run_dir, outcome)
    [shown] = gate_records(Ledger(looser.run_dir))
    assert (shown.answer, shown.is_accepted) == (False, False)
    ungated = make(BAD, "gate=null")
    assert find_accepted(ungated.context, ungated.plan) is None
    record_answer(looser.run_dir, outcome.record, accepted=True)
    assert outcome.student is not None
    assert not is_rejected(Ledger(looser.run_dir), outcome.student)
    assert looser.run_attempts().is_accepted
    assert find_accepted(ungated.context, ungated.plan) == outcome.student
    assert find_accepted(case.context, case.plan) is None  # it failed checks that no one approved


def test_an_approval_holds_for_looser_bounds_and_not_for_a_check_that_it_is_not_about(
    make: Make,
) -> None:
    asked = (BAD, "gate.on_fail=ask", "gate.recall=off", "gate.effective_w=off")
    case = make(*asked, "gate.rms=off")
    case.answers = [True]
    student = accept(case.run_dir, case.plan, case.run_attempts())
    looser = make(*asked, "gate.rms=off", "gate.relative_distance=2")  # and it still fails
    assert find_accepted(looser.context, looser.plan) == student
    outcome = looser.run_attempts()
    assert (outcome.verdict.passed, outcome.answer) == (False, True)
    keep_answer(looser.run_dir, outcome)
    assert [each.answer for each in gate_records(Ledger(looser.run_dir))] == [True]
    stricter = make(*asked, "gate.rms=0.0001")
    assert find_accepted(stricter.context, stricter.plan) is None
    assert stricter.run_attempts().answer is None


def test_a_promoted_student_that_another_attempt_replaces_is_kept_in_its_attempt(
    make: Make,
) -> None:
    case = make(*TOO_FEW)
    extended = accept(case.run_dir, case.plan, case.run_attempts())
    off = [f"gate.{bound}=off" for bound in ("relative_distance", "recall", "rms", "effective_w")]
    looser = make(*TOO_FEW, *off)
    first = accept(looser.run_dir, looser.plan, looser.run_attempts())
    assert first.path == extended.path == STUDENT
    assert first.digest != extended.digest
    kept = Ledger(case.run_dir).find(extended.fingerprint)
    assert kept is not None
    assert (kept.digest, kept.path) == (extended.digest, "rounds/00-guidance-extended-1/candidate")
    again = make(*TOO_FEW)
    assert accept(again.run_dir, again.plan, again.run_attempts()) == extended
    assert again.made == ["rounds/00-guidance"]  # judged again by the old bounds, not trained
    assert examine(case.run_dir).damaged == ()
