"""Encoders are rounds: planned, distilled, evaluated, and refused where they do not fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.bundle import Lineage, read_manifest
from pipeline.config import Recipe, WDistribution
from pipeline.config.profile import ComputeConfig, Profile
from pipeline.documents import apply_override, build, read_yaml, to_yaml
from pipeline.errors import BundleError, ConfigError
from pipeline.ledger import Ledger, fingerprint
from pipeline.models.assemble import family_of, save_bundle
from pipeline.run_dir.layout import RECIPE
from pipeline.run_dir.recipe_file import completed_students
from pipeline.sampling.ddim_inversion import Editor, TranslationInputs
from pipeline.sampling.sampler import BundleSampler
from pipeline.training.plan import plan_decoders, plan_rounds
from pipeline.training.round_plan import TEACHER_ROUND
from stages.chain import StageId
from stages.data.shard import shard
from stages.evaluation.encoder_worker import CHUNK
from stages.evaluation.encoders import encoders_key, evaluate_encoders
from stages.evaluation.evaluate import report_key
from stages.evaluation.sample_sets import SampleInputs
from stages.export.export import check_exportable
from stages.inference.sample import sample_bundle
from stages.inference.stylize import find_pair
from stages.plan.plan import plan_run
from stages.teacher.adopt import adopt
from stages.workspace import StageResult, Workspace
from tests.support.cases import teacher_manifest
from tests.support.family_chain import ask_here, train_here
from tests.support.stock_bundles import tiny
from tests.support.terminal import ROOT, invoke
from tests.support.tiny_pipelines import PIXELS
from tests.support.told import Told

pytestmark = pytest.mark.slow

GAUSSIAN = ROOT / "flows/recipes/gaussian.yaml"
ENCODING = {"steps": [4, 2, 1], "updates": 2, "batch_size": 8}


def recipe(**changes: Any) -> Recipe:
    tree = read_yaml(GAUSSIAN) | {"encoding": ENCODING} | changes
    tree["data"] = {"source": "gaussian", "num_samples": 800, "shard_size": 800}
    few = {"updates": 2, "batch_size": 8}
    for part in ("guidance", "halving"):
        tree[part] = {**read_yaml(GAUSSIAN)[part], **few, **changes.get(part, {})}
    evaluation = {"num_samples": CHUNK + 8, "w": [0, 2], "baseline_steps": [1], "edits": [0.5]}
    tree["evaluation"] = evaluation | changes.get("evaluation", {})
    return build(Recipe, tree, "test")


def test_encoders_are_a_ladder_of_their_own_and_change_no_other_round() -> None:
    plans = plan_rounds(recipe())
    encoders = [plan for plan in plans if plan.direction == "encode"]
    assert [plan.folder for plan in encoders] == [
        "rounds/03-4-to-2-encode",
        "rounds/04-2-to-1-encode",
    ]
    assert [plan.parent for plan in encoders] == [0, 3]
    assert all(plan.w == WDistribution(min=0, max=0, mass_at_min=0) for plan in encoders)
    without = recipe(encoding=None, evaluation={"edits": []})
    assert plan_decoders(recipe()) == plan_rounds(without)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": {**ENCODING, "steps": [6, 3]}}, "encoding.steps: 6 steps"),
        ({"encoding": {**ENCODING, "steps": [4, 1]}, "halving": {"steps": [4, 2]}}, "of 1 steps"),
        ({"halving": {"sampler": "stochastic"}}, "an encoder of 2 steps needs a det"),
        (
            {"guidance": {"w": {"min": 1, "max": 4}}, "evaluation": {"w": [2]}},
            r"outside guidance\.w \[1",
        ),
        ({"encoding": None}, "evaluation.edits: edits need encoding"),
        ({"evaluation": {"edits": [0.5, 0.1]}}, "strength 0.1 rounds to 0 of 4 steps"),
        ({"evaluation": {"edits": [1.5]}}, "less than or equal to 1"),
    ],
)
def test_encoders_that_cannot_be_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        recipe(**changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("run")
    (run_dir / RECIPE).write_text(to_yaml(recipe()), encoding="utf-8")
    data = shard(Workspace(run_dir, recipe())).value
    made = {TEACHER_ROUND: adopt(Workspace(run_dir, recipe()), data).value}
    for plan in plan_rounds(recipe()):
        assert plan.parent is not None
        teacher = made[plan.parent]
        targets = None
        if plan.folder == "rounds/03-4-to-2-encode":
            targets = [ask_here(run_dir, plan, data, teacher)]
        made[plan.index] = train_here(run_dir, recipe(), plan, data, teacher, targets)
    return run_dir


def test_a_manifest_has_the_direction_of_its_student(run: Path, tmp_path: Path) -> None:
    encoder, decoder = run / "rounds/03-4-to-2-encode/student", run / "rounds/01-4-to-2/student"
    assert read_manifest(encoder).direction == "encode"
    assert "direction" not in json.loads((decoder / "manifest.json").read_text())
    with pytest.raises(BundleError, match=r"direction.*stepfold stylize"):
        sample_bundle(encoder, tmp_path / "out.npz", steps=2, w=0.0, seed=0, samples=4)
    with pytest.raises(BundleError, match=r"direction.*stepfold sample"):
        find_pair(decoder, None)
    assert find_pair(encoder, None) == (encoder, decoder, 2)
    assert find_pair(run, None)[2] == 2
    assert find_pair(run, 1)[2] == 1
    stage_1 = run / "rounds/00-guidance/student"
    assert find_pair(run, 4) == (stage_1, stage_1, 4)  # there is no encoder of 4 steps
    assert find_pair(run / "teacher", 4) == (run / "teacher", run / "teacher", 4)
    with pytest.raises(ConfigError, match=r"no stock pipeline supports; use stepfold stylize"):
        check_exportable(read_manifest(encoder), "it")


def test_failed_students_and_students_of_an_earlier_recipe_are_not_listed(run: Path) -> None:
    known = completed_students(run, recipe())
    assert [place.parent.name for place in known] == [
        *("00-guidance", "01-4-to-2", "02-2-to-1", "03-4-to-2-encode", "04-2-to-1-encode"),
    ]
    for place in ("01-4-to-2-extended-1/candidate", "07-8-to-4/student"):
        shutil.copytree(known[1], run / "rounds" / place)
    try:
        assert completed_students(run, recipe()) == known
    finally:
        shutil.rmtree(run / "rounds/01-4-to-2-extended-1")
        shutil.rmtree(run / "rounds/07-8-to-4")


def test_the_report_of_encoders_has_the_teacher_and_every_pair(run: Path) -> None:
    ledger = Ledger(run)
    by_path = {each.path: each for each in ledger.records()}
    bundles = [by_path["teacher"]]
    bundles += [by_path[f"{plan.folder}/student"] for plan in plan_rounds(recipe())]
    told_of: list[tuple[int, int]] = []
    told: dict[str, Any] = {
        "bundles": bundles,
        "sample_inputs": SampleInputs(by_path["data"], None),
        "observer": Told(told_of),
    }
    inline = Profile(compute=ComputeConfig(launcher="inline", workers=1))
    work = Workspace(run, recipe(), inline)
    found = evaluate_encoders(work, **told).value
    parts = (4 + 4) * 2  # ways there and back, who edits, and parts of each
    assert told_of == [(done, parts) for done in range(1, parts + 1)]
    assert evaluate_encoders(work, **told) == StageResult(found, reused=True)
    assert not list(run.rglob("*.tmp"))
    report = json.loads((run / found.path / "report.json").read_text())
    rows = [row for row in report["rows"] if row["w"] == 2]
    assert [(row["who"], row["steps"]) for row in rows] == [
        ("teacher", recipe().teacher.reference_steps),
        ("stage-1 student", 4),
        ("encoder and student", 2),
        ("encoder and student", 1),
        *(("teacher", 4), ("stage-1 student", 4), ("student", 2)),  # edits, half of the way
        *(("teacher", 4), ("student", 1)),  # from noise alone
    ]
    for row in rows:
        for name in ("round_trip", "to_source", "fresh_to_source", "to_teacher"):
            if name == "round_trip" and row["taken"] is not None:
                assert row[name] is None
                continue
            low, high = row[f"{name}_interval"]
            assert low <= row[name] <= high
    rows, edits = rows[:4], rows[4:]
    assert [row["taken"] for row in edits] == [2, 2, 1, 4, 1]
    assert [row["evaluations"] for row in edits] == [4, 2, 1, 8, 1]
    assert edits[0]["to_teacher"] == edits[3]["to_teacher"] == 0 < edits[2]["to_teacher"]
    unguided = [row for row in report["rows"] if row["w"] == 0][4:]
    assert all(row["to_source"] < row["fresh_to_source"] for row in unguided[:3])
    assert all(row["to_source"] == row["fresh_to_source"] for row in edits[3:])
    # students of two updates are near the teacher they began as; a round trip in few steps is not
    assert rows[0]["to_teacher"] == 0 < rows[1]["to_teacher"]
    assert rows[0]["round_trip"] < rows[3]["round_trip"]
    assert [row["evaluations"] for row in rows] == [3 * rows[0]["steps"], 8, 4, 2]
    assert (run / found.path / "stylize-w2.png").is_file()
    assert (run / found.path / "edits-w2.png").is_file()
    assert "student, edit at 0.5, 1 of 2 steps" in (run / found.path / "report.md").read_text()
    row = next(row for row in plan_run(work) if row.step.stage is StageId.ENCODERS)
    assert row.state == "done"


def test_edits_belong_to_the_encoders_report_alone(run: Path) -> None:
    by_path = {each.path: each for each in Ledger(run).records()}
    sample_inputs = SampleInputs(by_path["data"], None)
    bundles = [by_path["teacher"], by_path["rounds/00-guidance/student"]]
    without = recipe(evaluation={"edits": []})
    assert encoders_key(recipe(), sample_inputs, bundles) != encoders_key(
        without, sample_inputs, bundles
    )
    key = report_key(recipe(), sample_inputs, bundles[0], bundles[1:])
    assert key == report_key(without, sample_inputs, bundles[0], bundles[1:])
    # what makes pixels of latents is of a report as well
    other = SampleInputs(by_path["data"], bundles[0])
    assert key != report_key(recipe(), other, bundles[0], bundles[1:])
    assert encoders_key(recipe(), other, bundles) != encoders_key(recipe(), sample_inputs, bundles)


def test_an_edit_keeps_little_or_all_of_a_picture_by_its_strength(tmp_path: Path) -> None:
    """Parts equal the whole, from the noise of a new sample of the seed."""
    manifest = teacher_manifest("unet")
    family = family_of(manifest)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_bundle(tmp_path / "teacher", manifest, family.build())
    opened, steps, weights = BundleSampler(tmp_path / "teacher"), 16, (0.0, 2.0)
    pictures = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 1)).astype(np.float32)
    labels = np.arange(4)
    sources = TranslationInputs(pictures, labels, labels, labels + 4, labels + 4)
    editor = Editor(opened, steps, (1, steps))
    made = np.stack(editor.turn(sources, weights, 5, 0)).reshape(3, 2, *pictures.shape)
    for place, w in enumerate(weights):
        fresh = opened.sample(steps=steps, w=w, conditions=labels + 4, seed=5)
        np.testing.assert_array_equal(made[1, place], fresh)
        np.testing.assert_array_equal(made[2, place], fresh)
        kept, lost = (np.sqrt(np.square(each - pictures).mean()) for each in made[:2, place])
        assert kept < 0.2 * lost
    later = np.stack(editor.turn(sources.rows(2, 2), weights, 5, 2)).reshape(3, 2, 2, 8, 8, 1)
    np.testing.assert_allclose(later, made[:, :, 2:], atol=1e-5)
    assert [editor.evaluations(2.0, taken) for taken in editor.taken] == [2, 2 * steps]


def publish(run_dir: Path, place: str, manifest: Any, module: torch.nn.Module) -> None:
    def write(folder: Path) -> dict[str, Any]:
        save_bundle(folder, manifest, module)
        return {}

    Ledger(run_dir).publish("student", fingerprint({"at": place}), f"{place}/student", write)


@pytest.mark.parametrize("kind", ["digits", "text"])
def test_the_command_stylizes_pictures(kind: str, tmp_path: Path) -> None:
    """Untrained students: class-conditional on pixels, or text-conditional on latents."""
    run_dir, side, mode = tmp_path / "run", 8, "L"
    if kind == "digits":
        manifest = teacher_manifest("unet")
        module = family_of(manifest).student_of(family_of(manifest).build(), (0.0, 4.0))
        told = ("--from", "3", "--to", "8")
    else:
        parts = tiny("sd", run_dir)
        manifest, side, mode = parts.manifest, PIXELS, "RGB"
        module = family_of(manifest).student_of(parts.module, (0.0, 4.0))
        told = ("--from", "a red 3", "--to", "8")
    tree = read_yaml(ROOT / "flows/recipes/digits.yaml")
    for change in ("halving.steps=[8, 4, 2]", "encoding={steps: [8, 4], updates: 2}"):
        apply_override(tree, change)
    asked = build(Recipe, {**tree, "halving": {**tree["halving"], "updates": 2}}, "test")
    run_dir.mkdir(exist_ok=True)
    (run_dir / RECIPE).write_text(to_yaml(asked), encoding="utf-8")
    first, *plans = plan_rounds(asked)
    for number, plan in enumerate(plans):
        steps, way = plan.student_steps, plan.direction
        law = WDistribution(min=0, max=4 if way == "decode" else 0)
        values = {"role": "student", "steps": (steps,), "direction": way, "w": law}
        lineage = Lineage(run="test", round=number, parent="f" * 64)
        student = manifest.model_copy(update={**values, "lineage": lineage})
        publish(run_dir, plan.folder, student, module)
    image = tmp_path / "in.png"
    pixels = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    Image.fromarray(pixels).convert(mode).save(image)
    output = tmp_path / "out.png"
    command = ("stylize", str(run_dir), str(image), "--guidance-weight", "2")
    code, said = invoke(*command, *told, "--output", str(output))
    assert code == 0, said
    assert "4 + 4 steps, 8 evaluations" in said
    assert "RMS error of decoding the input" in said
    with Image.open(output) as made:
        assert (made.size, made.mode) == ((side, side), mode)
    code, said = invoke(*command, *told, "--output", str(output), "--steps", "2")
    assert code == 2
    assert "available steps: 4" in said
    any_steps = manifest.model_copy(
        update={"role": "student", "w": WDistribution(min=0, max=4), "lineage": lineage}
    )
    publish(run_dir, first.folder, any_steps, module)
    code, said = invoke(*command, *told, "--output", str(output), "--steps", "2")
    assert code == 0, said
    assert "2 + 2 steps with one network for both directions, 4 evaluations" in said
    wrong = ("--from", "3", "--to", " ") if kind == "text" else ("--from", "3", "--to", "eight")
    code, said = invoke(*command, *wrong, "--output", str(output))
    assert code == 2
    assert ("--to:" if kind == "text" else "--to eight:") in said
