"""Ladders of all kinds by the product's worker code, in this process: no Ray, no DeepSpeed."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from torch import Tensor

from pipeline.bundle import read_manifest
from pipeline.config import GateConfig, Recipe
from pipeline.data.latents import read_data_info
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.documents import EvaluatedBundle, Row, SampleSpec, plan_cells
from pipeline.evaluation.figures.curves import draw_lines
from pipeline.evaluation.reports.comparisons import rows_by_sampler
from pipeline.evaluation.scores import Scores
from pipeline.evaluation.verdicts.gate_documents import read_verdict
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import load_module
from pipeline.run_dir.recipe_file import prepare_run_dir
from pipeline.training.checkpoint import claim
from pipeline.training.engines import TorchEngine
from pipeline.training.plan import plan_rounds, round_key
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan
from pipeline.verification.examine import Inventory, lineage_problem
from stages.data.shard import shard
from stages.evaluation.sample_sets import SampleInputs
from stages.gate.judge import Candidate, judge
from stages.inference.sample import sample_bundle
from stages.rounds.target_worker import TargetWorker
from stages.rounds.targets import shard_jobs
from stages.rounds.train import round_job
from stages.rounds.train_worker import RoundJob, train_with
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.support.gate_case import workers_here
from tests.support.small_run import small_recipe

pytestmark = pytest.mark.slow

SHORT = (
    "halving.sampler=both",
    "halving.on_policy_fraction=0.25",
    "halving.updates=3",
    "guidance.updates=3",
    "guidance.w={values: [0, 2, 4]}",
    "guidance.time={distribution: logit_normal, std: 2}",
)


def distil(
    run_dir: Path,
    recipe: Recipe,
    plan: RoundPlan,
    data: Artifact,
    teacher: Artifact,
    start: Artifact | None,
) -> Artifact:
    """Run one round: its targets and three updates."""
    ledger, online = Ledger(run_dir), recipe.targets.mode == "online"
    key = round_key(plan, recipe, "float32", data, teacher)
    worker = TargetWorker(
        {
            "run_dir": str(run_dir),
            "plan": plan.model_dump(mode="json"),
            "data": str(ledger.locate(data)),
            "teacher": str(ledger.locate(teacher)),
            "parents": [],
            "dtype": "float32",
        }
    )
    split = read_data_info(ledger.locate(data)).splits["train"]
    jobs = [] if online else shard_jobs(plan, split, key)
    targets = None if online else [Artifact(**worker.serve(job)) for job in jobs]
    asked: dict[str, Any] = {"data": data, "teacher": teacher, "targets": targets}
    job = round_job(Workspace(run_dir, recipe), plan, **asked)
    claim(Path(job["checkpoints"]), job["attempt"])

    def write(output: Path) -> dict[str, Any]:
        train_with(RoundJob.model_validate({**job, "output": str(output)}), TorchEngine)
        return {}

    parents = tuple(each.fingerprint for each in (data, teacher, start) if each)
    return ledger.publish("student", key, f"{plan.folder}/student", write, parents)


def chain(run_dir: Path, *overrides: str) -> tuple[Recipe, list[Artifact]]:
    """Teacher and students of every round."""
    recipe = small_recipe(*SHORT, *overrides)
    prepare_run_dir(recipe, run_dir, accept_changes=False)
    data = shard(Workspace(run_dir, recipe)).value
    made: dict[int | None, Artifact] = {
        TEACHER_ROUND: adopt(Workspace(run_dir, recipe), data).value
    }
    for planned in plan_rounds(recipe):
        start = None if planned.init_from is None else made[planned.init_from]
        plan = planned.starting_from(start)
        made[plan.index] = distil(run_dir, recipe, plan, data, made[plan.parent], start)
    return recipe, list(made.values())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe, list[Artifact]]:
    run_dir = tmp_path_factory.mktemp("kinds")
    return run_dir, *chain(run_dir)


Run = tuple[Path, Recipe, list[Artifact]]


def test_students_say_how_they_are_sampled(run: Run) -> None:
    manifests = [read_manifest(run[0] / artifact.path) for artifact in run[2]]
    assert [manifest.sampler for manifest in manifests] == ["deterministic"] * 4 + [
        "stochastic"
    ] * 2
    assert [manifest.steps for manifest in manifests[2:]] == [(2,), (1,), (2,), (1,)]
    assert [manifest.lineage.round for manifest in manifests] == [None, 0, 1, 2, 3, 4]
    assert manifests[1].lineage.parent == run[2][0].digest
    assert manifests[4].lineage.parent == run[2][1].digest


def test_a_report_samples_each_student_its_own_way(run: Run) -> None:
    run_dir, recipe, made = run
    entrants = [
        EvaluatedBundle(
            manifest=read_manifest(run_dir / each.path), path=each.path, digest=each.digest
        )
        for each in made
    ]
    cells = plan_cells(recipe, entrants[0], entrants[1:], ["ddim"])
    students = [cell for cell in cells if cell.role == "student" and cell.w == 0]
    assert [cell.title for cell in students] == [
        "stage-1 student, 4 steps",
        "student, 2 steps",
        "student, 1 step",
        "student, 2 steps, stochastic",
        "student, 1 step, stochastic",
    ]
    # in one step both are sampled alike
    assert [cell.sampler for cell in students[-2:]] == ["stochastic", "ddim"]
    files = [SampleSpec.file.fget(cell) for cell in cells]
    assert len(set(files)) == len(files)


def test_the_two_kinds_are_two_lines_and_two_columns(run: Run) -> None:
    run_dir, recipe, made = run
    entrants = [
        EvaluatedBundle(
            manifest=read_manifest(run_dir / each.path), path=each.path, digest=each.digest
        )
        for each in made
    ]
    cells = plan_cells(recipe, entrants[0], entrants[1:], ["ddim"])
    scores = Scores.model_construct(distance_to_real=1.0, distance_to_real_interval=(0.9, 1.1))
    rows = [
        Row.model_construct(cell=cell, evaluations=cell.steps, scores=scores)
        for cell in cells
        if cell.w == 0 and cell.role == "student"
    ]
    counts = {name: len(found) for name, found in rows_by_sampler(rows).items()}
    assert counts == {"distilled students": 3, "distilled students, stochastic": 2}
    figure, ax = plt.subplots()
    draw_lines(ax, rows, "distance_to_real")
    assert ax.get_legend_handles_labels()[1][:2] == list(counts)
    plt.close(figure)


def test_a_stochastic_student_draws_by_its_own_sampler_and_no_other(
    run: Run, tmp_path: Path
) -> None:
    bundle, output = run[0] / "rounds/03-4-to-2-stochastic/student", tmp_path / "drawn.npz"
    how: dict[str, Any] = {"steps": 2, "w": 2.0, "seed": 0, "samples": 6}
    sample_bundle(bundle, output, **how)
    with np.load(output) as content:
        own = content["images"]
    sample_bundle(bundle, output, **how, sampler="stochastic")
    with np.load(output) as content:
        np.testing.assert_array_equal(content["images"], own)
    with pytest.raises(BundleError, match="use --sampler stochastic"):
        sample_bundle(bundle, output, **how, sampler="ddim")
    other = run[0] / "rounds/01-4-to-2/student"
    with pytest.raises(BundleError, match="use --sampler ddim"):
        sample_bundle(other, output, **how, sampler="stochastic")
    with pytest.raises(BundleError, match=r"w = 1\.0 .*\{0, 2, 4\}"):
        sample_bundle(other, output, **(how | {"w": 1.0}))


@pytest.mark.parametrize(
    ("index", "unasked"),
    # in one step nothing is noised back, but its teacher of two is
    [(1, set()), (2, set()), (3, {"RMS"}), (4, {"RMS"})],
)
def test_the_gate_does_not_check_rms_of_stochastic_students(
    run: Run, index: int, unasked: set[str]
) -> None:
    run_dir, recipe, made = run
    gated = recipe.model_copy(update={"gate": GateConfig(num_samples=12, w=(0.0, 2.0))})
    plan = plan_rounds(gated)[index]
    assert plan.parent is not None
    (data,) = [each for each in Ledger(run_dir).records() if each.kind == "data"]
    who = Candidate(plan, made[index + 1], made[plan.parent + 1], SampleInputs(data, None))
    found = read_verdict(
        Ledger(run_dir).locate(judge(Workspace(run_dir, gated), who, workers_here()))
    )
    for at in found.found:
        assert [check.name for check in at.checks] == [
            "relative distance",
            "RMS",
            "recall",
            "effective w",
        ]
        of_no_w = {"effective w"} if at.w == 0 else set()
        unbounded = {check.name for check in at.checks if not check.is_bounded}
        assert unbounded == unasked | of_no_w
    assert bool(found.unmeasured) == bool(unasked)


def test_targets_computed_online_train_the_same_kinds(tmp_path: Path) -> None:
    _, made = chain(tmp_path, "targets.mode=online", "halving.sampler=stochastic")
    assert [read_manifest(tmp_path / each.path).sampler for each in made[2:]] == ["stochastic"] * 2


def test_halvings_of_the_original_teacher_start_from_students(tmp_path: Path) -> None:
    recipe, (teacher, *students) = chain(tmp_path, "halving.teacher=original", "halving.updates=1")
    manifests = [read_manifest(tmp_path / each.path) for each in students]
    assert {manifest.lineage.parent for manifest in manifests} == {teacher.digest}
    starts = [None, *(students[at].digest for at in (0, 1, 0, 3))]
    assert [manifest.lineage.start for manifest in manifests] == starts
    inventory = Inventory({each.path: each for each in Ledger(tmp_path).records()}, [], [])
    assert [lineage_problem(tmp_path, each, inventory) for each in students] == [None] * 5
    # one small update leaves the weights close to those that they started from
    first, second = (weights_of(tmp_path / each.path) for each in students[:2])
    change = max(float((first[name] - second[name]).abs().max()) for name in first)
    assert recipe.halving is not None
    assert 0 < change <= 1.01 * recipe.halving.learning_rate


def weights_of(bundle: Path) -> dict[str, Tensor]:
    module = load_module(bundle, read_manifest(bundle))
    return dict(module.state_dict())


def test_a_stochastic_student_is_not_exported(run: Run, tmp_path: Path) -> None:
    from stages.export.export import check_exportable

    manifest = read_manifest(run[0] / "rounds/03-4-to-2-stochastic/student")
    with pytest.raises(ConfigError, match="one eta for all steps"):
        check_exportable(manifest, "the bundle")
