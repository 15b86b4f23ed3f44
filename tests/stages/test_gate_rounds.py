"""Every way on from a bad round, with rounds that are really bad, and killed in between."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.bundle import read_manifest
from pipeline.errors import BundleError
from pipeline.ledger import Ledger
from pipeline.training.attempts import Judged
from pipeline.verification.examine import examine
from stages.attempts import accept, find_accepted, look_up, set_aside
from stages.evaluate import classifier_of
from tests.chain import digests
from tests.gate_case import GateCase, gate_case

# at 20 updates the tables have not settled: 1000 times the floor and more
TOO_FEW = ("guidance.updates=20", "gate.then=extend", "gate.extend.share=7")
# a hundred times the rate that is good diverges in ten updates
TOO_FAST = ("guidance.learning_rate=100", "gate.then=retry", "gate.retry.factor=0.01")
STUDENT = "rounds/00-guidance/student"

Make = Callable[..., GateCase]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, teacher and classifier, which all cases share."""
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


def promoted(case: GateCase, outcome: Judged) -> str:
    return accept(case.run_dir, case.plan, outcome).path


def places(case: GateCase) -> set[str]:
    found = (path.relative_to(case.run_dir) for path in case.run_dir.glob("rounds/*/*"))
    return {path.as_posix() for path in found}


def test_a_good_round_passes_at_once_and_lies_where_students_lie(make: Make) -> None:
    case = make()
    outcome = case.settle()
    assert outcome.verdict.passed
    assert outcome.verdict.reasons == ()
    assert [at.w for at in outcome.verdict.found] == [0, 2]
    assert case.made == ["rounds/00-guidance"]
    assert promoted(case, outcome) == STUDENT
    assert not (case.run_dir / "rounds/00-guidance/candidate").exists()
    assert find_accepted(case.setting, case.plan) is not None
    assert examine(case.run_dir).damaged == ()


def test_a_gate_changes_nothing_of_the_student_it_lets_through(make: Make) -> None:
    gated, plain = make(name="gated"), make(name="plain")
    student = gated.settle().student
    object.__setattr__(plain, "recipe", plain.recipe.model_copy(update={"gate": None}))
    trained = plain.train(plain.plan)
    assert student is not None
    assert (student.digest, student.fingerprint) == (trained.digest, trained.fingerprint)


def test_stop_leaves_a_failed_student_where_nobody_looks_for_one(make: Make) -> None:
    case = make("guidance.updates=20")
    outcome = case.settle()
    assert case.remedies == ["stop"]
    assert not outcome.is_accepted
    assert "distance" in outcome.verdict.reasons[0]
    with pytest.raises(BundleError, match="a student that failed the gate is not promoted"):
        accept(case.run_dir, case.plan, outcome)
    assert places(case) == {
        "rounds/00-guidance/candidate",
        "rounds/00-guidance/checkpoints",
        "rounds/00-guidance/metrics.jsonl",
        "rounds/00-guidance/verdict",
    }
    pictures = sorted(p.name for p in (case.run_dir / "rounds/00-guidance/verdict").glob("*.png"))
    assert pictures == ["samples-w0.png", "samples-w2.png"]
    assert find_accepted(case.setting, case.plan) is None


def test_extend_trains_the_failed_student_on(make: Make) -> None:
    case = make(*TOO_FEW)
    outcome = case.settle()
    assert case.made == ["rounds/00-guidance", "rounds/00-guidance-extended-1"]
    assert case.remedies == ["extend"]
    assert outcome.verdict.passed
    first = look_up(case.setting, case.plan)
    assert first is not None
    assert first.student is not None
    assert outcome.student is not None
    assert first.student.fingerprint in outcome.student.parents
    # it began where the first ended: one update moves a weight by the rate at most
    assert outcome.plan.again is not None
    assert outcome.plan.again.start == first.student.digest
    assert outcome.plan.training.updates == 140
    assert promoted(case, outcome) == STUDENT
    lineage = read_manifest(case.run_dir / STUDENT).lineage
    assert (lineage.round, lineage.parent) == (0, case.teacher.digest)
    assert examine(case.run_dir).damaged == ()


def test_extend_has_a_limit(make: Make) -> None:
    case = make("guidance.updates=4", "gate.then=extend", "gate.extend={share: 1, times: 2}")
    assert not case.settle().is_accepted
    assert case.made == [
        "rounds/00-guidance",
        "rounds/00-guidance-extended-1",
        "rounds/00-guidance-extended-2",
    ]


def test_retry_begins_anew_at_a_lower_rate_after_training_broke_off(make: Make) -> None:
    case = make(*TOO_FAST)
    outcome = case.settle()
    assert case.made == ["rounds/00-guidance", "rounds/00-guidance-retried-1"]
    first = look_up(case.setting, case.plan)
    assert first is not None
    assert first.student is None
    assert "training diverged" in first.verdict.bad_numbers
    assert outcome.verdict.passed
    assert outcome.plan.learning_rate == pytest.approx(1.0)
    assert promoted(case, outcome) == STUDENT
    assert examine(case.run_dir).damaged == ()


def test_a_person_says_yes(make: Make) -> None:
    case = make("guidance.updates=20", "gate.then=ask")
    case.answers = [True]
    outcome = case.settle()
    assert (outcome.verdict.passed, outcome.answer) == (False, True)
    assert promoted(case, outcome) == STUDENT
    again = make("guidance.updates=20", "gate.then=ask")  # nobody is asked twice
    assert again.settle().answer is True
    assert again.made == []


def test_a_person_says_no_and_the_next_remedy_follows(make: Make) -> None:
    asked = (*TOO_FEW, "gate.then=[ask, extend]")
    case = make(*asked)
    case.answers = [False]
    assert case.settle().verdict.passed
    assert case.remedies == ["ask", "extend"]
    again = make(*asked)
    assert again.settle().verdict.passed
    assert again.made == []
    assert again.remedies == ["extend"]


def test_nobody_to_ask_is_no(make: Make) -> None:
    case = make("guidance.updates=20", "gate.then=[ask, extend]")
    outcome = case.settle()
    assert (outcome.is_accepted, outcome.answer) == (False, None)
    assert case.remedies == ["ask"]


def test_run_again_it_decides_the_same_and_makes_nothing(make: Make) -> None:
    first = make(*TOO_FEW)
    student = accept(first.run_dir, first.plan, first.settle())
    before = digests(first.run_dir)
    again = make(*TOO_FEW)
    assert accept(again.run_dir, again.plan, again.settle()) == student
    assert again.made == []
    assert digests(again.run_dir) == before


def test_a_bound_that_is_loosened_lets_the_same_student_through(make: Make) -> None:
    case = make("guidance.updates=20")
    failed = case.settle()
    looser = make(
        "guidance.updates=20",
        "gate.distance=off",
        "gate.rms=off",
        "gate.recall=off",
        "gate.follows_w=false",
    )
    passed = looser.settle()
    assert passed.verdict.passed
    assert passed.student == failed.student
    values = [[check.value for check in at.checks] for at in passed.verdict.found]
    assert values == [[check.value for check in at.checks] for at in failed.verdict.found]
    assert promoted(looser, passed) == STUDENT
    # and tightened again it is taken away from where teachers are looked for
    tighter = make("guidance.updates=20")
    set_aside(tighter.run_dir, tighter.plan, tighter.settle())
    assert not (case.run_dir / STUDENT).exists()
    assert (case.run_dir / "rounds/00-guidance/candidate").is_dir()


def test_samples_are_drawn_from_noise_of_the_gates_own(make: Make) -> None:
    case = make("guidance.updates=20")
    outcome = case.settle()
    assert outcome.verdict.seed == case.recipe.evaluation.seed + 1000
    drawn = [a for a in Ledger(case.run_dir).records() if a.kind in ("samples", "reference")]
    assert len(drawn) == 6
    assert {a.path.split("/")[2].split("-")[0] for a in drawn} == {"gate"}
    arrays = [np.load(case.run_dir / a.path) for a in drawn]
    assert all(array.shape == (60, 1, 1, 2) for array in arrays)
