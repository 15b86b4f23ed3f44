"""Preview images after a round: from the same noise, without effect on the student."""

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from infra.trackers.mlflow.tracker import MlflowTracker
from pipeline.config.profile import Profile, TrackingConfig
from pipeline.evaluation.figures.grids import draw_pairs
from pipeline.ledger import Artifact, Ledger
from pipeline.sampling.conditions import choose_conditions
from pipeline.sampling.preview import Preview, draw_preview, read_preview
from pipeline.sampling.sampler import BundleSampler
from pipeline.training.plan import plan_rounds
from pipeline.verification.examine import examine
from stages.rounds.preview_images import (
    log_previews,
    log_to_chain,
    make_previews,
    plan_preview,
)
from stages.rounds.provenance import inputs_of_chain, inputs_of_round, tags_of_round
from stages.workspace import Workspace
from tests.support.small_run import make_run, small_recipe

RECIPE = small_recipe()
PLAN = plan_rounds(RECIPE)[1]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("pictures") / "run")


def student_of(run_dir: Path) -> Artifact:
    return next(a for a in Ledger(run_dir).records() if a.path == f"{PLAN.folder}/student")


def drawing(pictures: int) -> Profile:
    return Profile(tracking=TrackingConfig(pictures=pictures))


def drawn(run_dir: Path, profile: Profile) -> Preview:
    student = student_of(run_dir)
    preview = plan_preview(Workspace(run_dir, RECIPE, profile), PLAN, student.fingerprint)
    assert preview is not None
    draw_preview(preview, run_dir / student.path)
    return preview


def test_a_round_is_shown_beside_the_first_teacher(run_dir: Path) -> None:
    student, profile = student_of(run_dir), drawing(6)
    before = sorted(run_dir.rglob("*"))
    preview = drawn(run_dir, profile)
    made = set(run_dir.rglob("*")) - set(before)
    assert {path.parent.name for path in made if path.is_file()} == {"pictures"}
    samples = [read_preview(Path(each.place)) for each in preview.drawings]
    sampler = BundleSampler(run_dir / student.path)
    w = preview.w[-1]
    asked = choose_conditions(run_dir / "data", 6).network_inputs
    again = sampler.sample(steps=PLAN.student_steps or 0, w=w, conditions=asked, seed=0)
    np.testing.assert_array_equal(samples[-1][w], again)
    pictures = make_previews(Workspace(run_dir, RECIPE, profile), PLAN, student)
    assert [each.w for each in pictures] == list(preview.w)
    expected = np.sqrt(np.mean((samples[1][w] - samples[0][w]) ** 2))
    assert pictures[-1].rms == pytest.approx(float(expected))
    assert pictures[-1].path is not None
    with Image.open(pictures[-1].path) as image:
        assert image.size[0] > 200
    # nothing of it is anybody's debris, or changes what is verified
    verdict = examine(run_dir)
    assert [note for note in verdict.notes if note.kind in ("foreign", "debris")] == []


def test_previews_are_drawn_once_and_only_if_enabled(run_dir: Path) -> None:
    profile = Profile()
    preview = drawn(run_dir, profile)
    times = [Path(each.place).stat().st_mtime_ns for each in preview.drawings]
    assert drawn(run_dir, profile) == preview
    assert [Path(each.place).stat().st_mtime_ns for each in preview.drawings] == times
    assert plan_preview(Workspace(run_dir, RECIPE, drawing(0)), PLAN, "ab" * 32) is None


def test_a_failed_preview_does_not_fail_the_round(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    preview = plan_preview(Workspace(run_dir, RECIPE, drawing(4)), PLAN, "cd" * 32)
    assert preview is not None
    draw_preview(preview, tmp_path / "nothing")
    assert "preview failed" in caplog.text
    place = Path(preview.drawings[-1].place)
    assert read_preview(place) == {}
    place.write_bytes(b"half a file")
    assert read_preview(place) == {}


def test_mlflow_shows_them_and_where_all_came_from(run_dir: Path) -> None:
    store = MlflowTracker(None, run_dir.parent, "stepfold")
    client = MlflowClient(tracking_uri=store.uri)
    chain = store.start("chain", "gaussian", {}, {})
    child = store.start("chain/1", "round 1", {"round": 1}, {}, parent=chain)
    student = student_of(run_dir)
    drawn(run_dir, Profile())
    pictures = make_previews(Workspace(run_dir, RECIPE), PLAN, student)
    for _ in range(2):
        log_previews(pictures, store, child, PLAN.sampling_steps)
        log_to_chain(pictures, RECIPE, PLAN, store, chain)
    assert len(client.list_artifacts(chain, "images")) == 2 * len(pictures)
    assert len(client.get_metric_history(chain, "preview/rms_w0")) == 1
    noisy = PLAN.model_copy(
        update={"config": PLAN.config.model_copy(update={"sampler": "stochastic"})}
    )
    log_to_chain(pictures, RECIPE, noisy, store, chain)  # as many steps, and another ladder
    for name in ("preview/rms_w0", "preview/rms_w0_stochastic"):
        assert len(client.get_metric_history(chain, name)) == 1
    assert [source.context for source in inputs_of_chain(run_dir)] == ["training", "teacher"]
    sources = inputs_of_round(run_dir, PLAN, student)
    assert [source.context for source in sources] == ["training", "teacher", "targets"]
    records = Ledger(run_dir).records()
    first = next(a for a in records if a.path == "rounds/00-guidance/student")
    assert sources[1].digest == first.digest
    marks = tags_of_round(run_dir, PLAN, student)
    assert (marks["bundle.digest"], marks["parent.digest"]) == (student.digest, first.digest)


def test_images_are_pairs_and_what_is_neither_image_nor_point_has_no_picture(
    tmp_path: Path,
) -> None:
    rows = np.full((7, 8, 8, 1), -1, np.float32), np.zeros((7, 8, 8, 1), np.float32)
    named = [("teacher, 8 steps", rows[0]), ("student, 1 step", rows[1])]
    assert draw_pairs("w = 2", named, tmp_path / "pairs.png")
    with Image.open(tmp_path / "pairs.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    # in the first line of pairs, the middle one; the second line has two pairs only
    middle = pixels[:, pixels.shape[1] // 2].astype(int)
    changes = middle[np.flatnonzero(np.diff(middle)) + 1]
    np.testing.assert_allclose(changes, [0, 255, 128, 255], atol=1)
    neither = [("a", np.zeros((2, 4, 4, 4), np.float32))]
    assert not draw_pairs("w", neither, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
