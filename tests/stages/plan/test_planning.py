"""The plan's states and costs."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import BundleError
from stages.chain import StageId
from stages.data.shard import shard
from stages.plan.plan import plan_notes, plan_run
from stages.workspace import Workspace
from tests.support.recipes import adopting_recipe, shipped_recipe
from tests.support.small_run import data_and_teacher
from tests.support.tiny_pipelines import TOKENS, tiny_pipeline


def test_an_empty_directory_has_everything_to_do(tmp_path: Path) -> None:
    digits = shipped_recipe("digits")
    rows = plan_run(Workspace(tmp_path, digits))
    assert {row.state for row in rows} == {"to do"}
    by_id = {row.step.id: row for row in rows}
    stage_1 = by_id["rounds/00-guidance/targets"]
    assert stage_1.step.title == "round 0: guidance, any w in one evaluation, generate targets"
    # 600 updates of 128 with each tuple drawn at most twice, in whole passes over 1198 samples
    assert stage_1.tuples == 1198 * -(-600 * 128 // (2 * 1198))
    # a quarter of them have w = 0, at which one evaluation suffices; a quarter are states of
    # trajectories, which take 8 steps on average
    assert stage_1.teacher_evaluations == round(1.75 * (1 + 8 / 4) * stage_1.tuples)
    assert by_id["rounds/04-2-to-1/train"].updates == 800
    assert not list(tmp_path.iterdir())


def test_online_targets_cost_evaluations_and_no_bytes(tmp_path: Path) -> None:
    rows = plan_run(Workspace(tmp_path, shipped_recipe("digits", "targets.mode=online")))
    assert sum(row.bytes for row in rows) == 0
    halving = next(row for row in rows if row.step.id == "rounds/01-16-to-8/train")
    # from 16 steps of 4 sub-steps to 8: eight evaluations make one target
    assert halving.teacher_evaluations == 8 * 300 * 128


def test_a_target_is_two_images_in_size(tmp_path: Path) -> None:
    canvases = shipped_recipe("digits32", "data.per_class=30", "targets={dtype: float16}")
    row = next(row for row in plan_run(Workspace(tmp_path, canvases)) if row.bytes)
    assert row.tuples % 3000 == 0
    assert row.bytes == row.tuples * (2 * 3 * 32 * 32 * 2 + 32)


def test_committed_stages_are_done(tmp_path: Path) -> None:
    gaussian = shipped_recipe("gaussian")
    data_and_teacher(tmp_path, gaussian)
    states = [row.state for row in plan_run(Workspace(tmp_path, gaussian))]
    assert states[:3] == ["done", "done", "to do"]


def test_a_teacher_bundle_is_copied_and_checked(tmp_path: Path) -> None:
    gaussian = shipped_recipe("gaussian")
    first, second = tmp_path / "first", tmp_path / "second"
    _, teacher = data_and_teacher(first, gaussian)
    assert data_and_teacher(first, gaussian)[1] == teacher
    bundle = {"bundle": str(first / "teacher")}
    again = gaussian.model_copy(update={"teacher": gaussian.teacher.model_copy(update=bundle)})
    assert data_and_teacher(second, again)[1].digest == teacher.digest
    other = shipped_recipe("gaussian", "teacher.network.means=[[0.0, 1.0, 2.0], [1.0, 0.0, 0.5]]")
    mismatched = other.model_copy(update={"teacher": other.teacher.model_copy(update=bundle)})
    with pytest.raises(BundleError, match=r"\(2, 1, 1\) in 3 classes; .* \(3, 1, 1\) in 2"):
        data_and_teacher(tmp_path / "third", mismatched)


def test_the_gate_reuses_samples_of_earlier_gates(tmp_path: Path) -> None:
    gated = shipped_recipe(
        "digits",
        "gate={num_samples: 50, w: [0, 2, 4], rounds: {'3': {relative_distance: off, rms: off, "
        "recall: off, effective_w: off}}}",
        "halving.sampler=both",
    )
    rows = plan_run(Workspace(tmp_path, gated))
    costs = {
        row.step.plan.title: (row.teacher_evaluations, row.student_evaluations)
        for row in rows
        if row.step.stage is StageId.JUDGE and row.step.plan is not None
    }
    # teacher twice in the 64 steps that round 1 folds, of 1 evaluation at w = 0 and of 2 at w = 2
    # and 4; the student once
    assert costs["round 0: guidance, any w in one evaluation"] == (
        2 * 50 * 64 * (1 + 2 + 2),
        3 * 50 * 64,
    )
    # its samples were drawn when it was the student, those from other noise were not
    assert costs["round 1: 16 -> 8 steps"] == (3 * 50 * 64, 3 * 50 * 8)
    assert costs["round 2: 8 -> 4 steps"] == (3 * 50 * 8, 3 * 50 * 4)
    assert "round 3: 4 -> 2 steps" not in costs  # no checks, so no samples
    assert costs["round 4: 2 -> 1 steps"] == (2 * 3 * 50 * 2, 3 * 50 * 1)
    stochastic = next(title for title in costs if title.startswith("round 5"))
    assert costs[stochastic] == (0, 3 * 50 * 8)  # the first ladder had all of their teacher


def test_captions_that_are_cut_and_images_with_holes_are_planned(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    rows = []
    for number in range(6):
        image = Image.new("RGBA", (16, 16), (number, 0, 0, 0 if number < 2 else 255))
        image.save(images / f"{number}.png")
        text = "word " * 2000 if number == 3 else "red"
        rows.append(json.dumps({"file_name": f"{number}.png", "text": text}))
    (images / "metadata.jsonl").write_text("\n".join(rows))
    data = f"{{source: captioned_folder, path: {images}, size: 16}}"
    pipeline = tiny_pipeline("sd", tmp_path / "pipeline")
    work = Workspace(tmp_path / "run", adopting_recipe(tmp_path, pipeline, data=data))
    holes, cut = plan_notes(work, plan_run(work))
    assert holes.startswith("6 of 6 images have an alpha channel (first: 0.png)")
    assert cut.startswith(f"1 of 2 distinct captions has more than the {TOKENS} tokens that")
    assert cut.endswith("word ...', 8002 tokens); the rest is cut.")
    shard(work)
    holes, cut_again = plan_notes(work, plan_run(work))
    assert holes.startswith("2 of 6 images have transparent pixels (first: 0.png)")
    assert cut_again == cut
