"""Playground: options, samples, and rejected requests."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.bundle import read_manifest
from pipeline.config import WDistribution
from pipeline.errors import BundleError
from pipeline.page.play_page import StepOptions, render_play
from pipeline.sampling.sampler import BundleSampler
from stages.inference.output_file import image_grid
from stages.inference.playground import Playground, SampleRequest, SampleResponse, find_networks
from tests.support.cases import save_untrained, student_manifest, teacher_manifest
from tests.support.playable import ANY, FOUR, ONE, playable_run
from tests.support.stock_bundles import Make, Tiny

EIGHT = "teacher.reference_steps=8"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return playable_run(tmp_path_factory.mktemp("runs") / "digits", EIGHT)


@pytest.fixture
def words(made: Make) -> Tiny:
    return made("sd")


def pixels(answer: SampleResponse) -> np.ndarray:
    kind, _, content = answer.picture.partition("base64,")
    assert kind == "data:image/png;"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_a_run_offers_its_students_from_many_steps_to_few(run_dir: Path) -> None:
    offer = Playground(find_networks(run_dir, None)).offer
    assert offer.students == ("stage 1", "4 steps", "1 step")
    assert offer.teacher == "teacher"
    assert offer.teacher_steps is not None
    free, *own = offer.steps
    assert own == [StepOptions((4,), 4), StepOptions((1,), 1)]
    assert (free.usual, offer.teacher_steps.usual) == (64, 8)
    assert free.counts == (1, 2, 4, 8, 16, 32, 64, 128, 256)  # what divides 1024
    assert offer.teacher_steps.counts == free.counts
    assert offer.classes == tuple("0123456789")
    law = student_manifest(teacher_manifest("unet")).w
    assert law is not None
    assert (offer.w_min, offer.w_max) == (law.min, law.max)
    alone = Playground(find_networks(run_dir / FOUR, None)).offer
    assert (alone.students, alone.teacher) == (("4 steps",), "teacher")


def test_pictures_are_those_of_the_sampler_and_costs_are_counted(run_dir: Path) -> None:
    playground = Playground(find_networks(run_dir, None))
    drawn = {}
    told = {"w": 2.0, "seed": 5, "count": 4, "label": 3}
    for asked, bundle, steps, evaluations in (
        ({"who": "student", "student": 2}, ONE, 1, 1),
        ({"who": "student", "student": 0}, ANY, 64, 64),
        ({"who": "student", "student": 0, "steps": 2}, ANY, 2, 2),
        ({"who": "teacher", "student": 2}, "teacher", 8, 16),
        ({"who": "teacher", "student": 2, "steps": 4}, "teacher", 4, 8),
    ):
        answer = playground.draw(SampleRequest.model_validate(asked | told))
        labels = np.full(4, 3)
        expected = BundleSampler(run_dir / bundle).sample(
            steps=steps, w=2.0, conditions=labels, seed=5
        )
        np.testing.assert_array_equal(pixels(answer), image_grid(expected, 4).squeeze())
        assert answer.evaluations == evaluations
        assert answer.milliseconds >= 1
        drawn[answer.title] = answer.picture
    assert list(drawn) == [
        *("1 step", "stage 1, 64 steps", "stage 1, 2 steps"),
        *("teacher, 8 steps", "teacher, 4 steps"),
    ]
    assert len(set(drawn.values())) == 5
    # unguided, the teacher is evaluated once a step
    assert playground.draw(SampleRequest(who="teacher", student=0, w=0.0)).evaluations == 8


def test_a_text_conditioned_network_needs_a_prompt(words: Tiny) -> None:
    playground = Playground(find_networks(words.student(2), words.teacher()))
    assert playground.offer.classes == ()
    question = SampleRequest(who="student", student=0, w=3.0, prompt="a red of red")
    answer = playground.draw(question)
    opened = BundleSampler(words.student(2), components=words.components)
    expected = opened.sample(
        steps=2,
        w=3.0,
        conditions=["a red of red"],
        seed=0,
    )
    np.testing.assert_array_equal(pixels(answer), image_grid(expected, 1))
    other = playground.draw(question.model_copy(update={"prompt": "of"}))
    assert other.picture != answer.picture


def test_a_student_without_its_run_has_no_teacher(words: Tiny) -> None:
    playground = Playground(find_networks(words.student(2), None))
    # there is a teacher beside it, but no recipe that relates it to this student
    assert playground.offer.teacher == ""
    assert "--teacher" in playground.offer.no_teacher_reason
    with pytest.raises(BundleError, match="--teacher"):
        playground.draw(SampleRequest(who="teacher", student=0, w=3.0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"student": 3}, "there are 3 students"),
        ({"student": 1, "steps": 2}, "--steps 4"),
        ({"steps": 3}, "3 steps do not divide the schedule's 1024"),
        ({"w": 99.0}, "w = 99"),
        ({"label": 10}, "classes 0 to 9"),
    ],
)
def test_unavailable_options_are_refused(
    run_dir: Path, change: dict[str, object], said: str
) -> None:
    playground = Playground(find_networks(run_dir, None))
    question = {"who": "student", "student": 0, "w": 1.0, **change}
    with pytest.raises(BundleError, match=said):
        playground.draw(SampleRequest.model_validate(question))


def test_unsupported_bundles_are_refused(run_dir: Path, words: Tiny, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="neither a student's bundle nor a run with students"):
        find_networks(tmp_path, None)
    with pytest.raises(BundleError, match="holds a teacher; give one of its students"):
        find_networks(run_dir / "teacher", None)
    with pytest.raises(BundleError, match="holds a student; give the guided teacher"):
        find_networks(run_dir / ONE, run_dir / FOUR)
    with pytest.raises(BundleError, match="--teacher"):
        find_networks(run_dir / ONE, words.teacher())
    plane = save_untrained(tmp_path / "plane", student_manifest(teacher_manifest("gaussian")))
    with pytest.raises(BundleError, match="not images"):
        find_networks(plane, None)


def test_encoders_are_left_out_and_students_have_unique_names(tmp_path: Path) -> None:
    encoding = "encoding={steps: [8, 4], updates: 2}"
    run_dir = playable_run(tmp_path / "run", "halving.sampler=both", encoding)
    manifest = read_manifest(run_dir / ONE)
    # beside them a student of a few guidance weights, an encoder, and one of an earlier recipe
    few = manifest.model_copy(update={"w": WDistribution.model_validate({"values": [0, 2, 4]})})
    save_untrained(run_dir / "rounds/04-4-to-1-stochastic/student", few)
    encoder = run_dir / "rounds/05-8-to-4-encode/student"
    save_untrained(encoder, manifest.model_copy(update={"direction": "encode"}))
    save_untrained(run_dir / "rounds/07-2-to-1/student", manifest)
    playground = Playground(find_networks(run_dir, None))
    offer = playground.offer
    alike = ("1 step, 02-4-to-1", "1 step, 04-4-to-1-stochastic")
    assert offer.students == ("stage 1", "4 steps", *alike)
    with pytest.raises(BundleError, match="use stepfold stylize"):
        find_networks(encoder, None)
    assert (offer.w_values, offer.w_min, offer.w_max) == ((0.0, 2.0, 4.0), 0.0, 4.0)
    page = render_play(offer)
    assert "<option>0</option><option>2</option><option>4</option>" in page
    assert 'type="range"' not in page
    assert playground.draw(SampleRequest(who="student", student=3, w=2.0)).evaluations == 1


def test_a_damaged_student_is_refused_before_there_is_a_page(tmp_path: Path) -> None:
    run_dir = playable_run(tmp_path / "run")
    (weights,) = (run_dir / ONE / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    playground = Playground(find_networks(run_dir, None))
    with pytest.raises(BundleError):
        playground.open_first()
