"""Encoder-decoder pairs and edits: networks and numbers of steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.bundle import Manifest
from pipeline.config import ScheduleConfig
from pipeline.errors import BundleError
from pipeline.evaluation.reports.encoder_report import (
    RoundTrip,
    TranslationReport,
    picture_name,
    score_round_trips,
    write_translation,
)
from pipeline.sampling.ddim_inversion import TranslationInputs, Translator
from pipeline.sampling.sampler import BundleSampler
from stages.evaluation.encoders import edit_plans, encoder_pairs
from tests.support.cases import save_untrained, teacher_manifest
from tests.support.stock_bundles import Make

TEACHER = teacher_manifest("unet").model_copy(
    update={"schedule": ScheduleConfig(kind="scaled_linear", num_train_timesteps=100)}
)


def student(steps: int | None, **told: Any) -> Manifest:
    values = {"role": "student", "steps": steps and (steps,), **told}
    return TEACHER.model_copy(update=values)


def test_pairs_are_of_as_many_steps() -> None:
    manifests = [TEACHER, *(student(steps) for steps in (None, 8, 4, 1))]
    manifests += [student(steps, direction="encode") for steps in (2, 4, 8, 16)]
    manifests += [student(steps, sampler="stochastic") for steps in (16, 8)]
    assert encoder_pairs(manifests, 16) == [(1, 1, 16), (7, 2, 8), (6, 3, 4)]
    # in one step there is nothing to add noise to
    manifests += [student(1, sampler="stochastic"), student(1, direction="encode")]
    assert encoder_pairs(manifests, 16)[-1] == (len(manifests) - 1, 4, 1)
    assert encoder_pairs([TEACHER, *manifests[-2:]], 16) == [(2, 1, 1)]


def test_edits_take_the_nearest_step_of_each_grid() -> None:
    manifests = [TEACHER, student(None), student(1), student(8), student(3)]
    others = [student(8, direction="encode"), student(8, sampler="stochastic")]
    found = list(edit_plans([*manifests, *others], (0.75, 0.4), 16, 64))
    assert found == [
        (0, 64, (24, 48, 64)),
        (0, 66, (22, 44)),  # 1/3 is no time of 64 steps
        (1, 16, (6, 12)),
        (3, 8, (3, 6)),
        (4, 3, (1, 2)),
        (2, 1, (1,)),  # nearer to no step than to one at 0.4
    ]
    assert list(edit_plans(manifests, (), 16, 64)) == []
    assert next(edit_plans(manifests[:4], (0.5,), 16, 64)) == (0, 64, (32, 64))
    # of 100 steps at most, no multiple of 64 is as many as the teacher's 80
    few = [TEACHER, student(64)]
    assert list(edit_plans(few, (0.3,), 16, 80)) == [(0, 64, (19,)), (1, 64, (19,))]


def test_pictures_without_classes_are_titled_by_their_target(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    labels, words = np.zeros(4, np.int64), tuple(f"a picture of {n}" for n in range(4))
    sources = TranslationInputs(pictures, words, labels, (*words[2:], *words[:2]), labels)
    made = {2.0: pictures / 2}
    way = RoundTrip("teacher", 4, {2.0: 12}, pictures, made, made)
    report = TranslationReport(
        run="captions",
        num_pictures=4,
        rows=score_round_trips([way], sources, 0, None),
        pictures=(picture_name(2.0),),
    )
    write_translation(report, sources, [way], (), tmp_path)
    with Image.open(tmp_path / "stylize-w2.png") as picture:
        assert min(picture.size) > 300
    assert report.rows[0].class_accuracy is None


def test_networks_that_cannot_encode_are_refused(made: Make, tmp_path: Path) -> None:
    parts = made("sd-inpaint")
    paints = BundleSampler(parts.teacher(), components=parts.components)
    with pytest.raises(BundleError, match="use stepfold inpaint"):
        Translator(paints, paints, 4).check(2.0)
    manifest = teacher_manifest("unet").model_copy(update={"prediction_type": "sample"})
    opened = BundleSampler(save_untrained(tmp_path / "sample", manifest))
    with pytest.raises(BundleError, match="undefined at t = 0"):
        Translator(opened, opened, 4).check(2.0)
