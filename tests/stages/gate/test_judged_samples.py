"""Features of the gate's samples: by the classifier, by an extractor, or none."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import CaptionedDigitsData, GateRules, GaussianConfig
from pipeline.config.profile import Profile
from pipeline.data.shards.writer import write_dataset
from pipeline.data.sources.datasets import load_source
from pipeline.data.sources.loaded_source import unlabelled_split
from pipeline.evaluation.documents import Role
from pipeline.evaluation.verdicts.gate_checks import compute_checks, with_bounds
from pipeline.evaluation.verdicts.gate_documents import RoundVerdict
from pipeline.ledger import Artifact, Ledger
from stages.evaluation.features import ExtractorSpec, FeatureSource, extract_features
from stages.evaluation.sample_sets import SampleInputs, write_array
from stages.gate.gate_samples import DrawnSamples, GateCell, unmeasured_reasons
from stages.gate.judge import extractor_of
from tests.support.extractor_weights import write_dino
from tests.support.recipes import shipped_recipe

COUNT = 12
OFF = {"noise_floor": 0.0, "teacher": 0.0, "student": 1.5}


@dataclass
class Here:
    """Extracts features in this process; `told` has the extracted parts."""

    told: list[tuple[int, int]] = field(default_factory=list)

    def read(
        self, ledger: Ledger, reader: ExtractorSpec, sources: Sequence[FeatureSource]
    ) -> dict[str, Path]:
        quick = replace(reader, few=1000)
        return extract_features(ledger, Profile(), quick, sources, lambda *at: self.told.append(at))


def publish(ledger: Ledger, kind: str, path: str, write: Any) -> Artifact:
    return ledger.publish(kind, f"{kind}-{path}".encode().hex().ljust(64, "0"), path, write)


def captions_without_classes(ledger: Ledger) -> Artifact:
    config = CaptionedDigitsData(source="captioned_digits", count=30, holdout_count=10)
    source = load_source(config, 0, GaussianConfig(family="gaussian", means=((0.0,),)))
    bare = replace(source, labels=None, class_names=())
    bare = replace(bare, splits=unlabelled_split(40, 0.25, 0, "here"))

    def write(folder: Path) -> dict[str, Any]:
        write_dataset(folder, bare, config)
        return {"train": 30, "heldout": 10}

    return publish(ledger, "data", "data", write)


def drawn(ledger: Ledger, role: Role, w: float) -> tuple[GateCell, Artifact]:
    """Noise around a grey level that depends on guidance weight and role."""
    noise = np.random.default_rng([len(role), int(w)]).normal(size=(COUNT, 16, 16, 3))
    images = np.clip(0.2 * noise - 0.9 + w / 4 + OFF[role], -1, 1).astype(np.float32)
    cell = GateCell(
        role=role,
        bundle="b",
        digest=role * 3,
        round=None,
        sampler="ddim",
        steps=2,
        w=w,
        seed=int(role == "noise_floor"),
    )

    def write(path: Path) -> dict[str, int]:
        write_array(path, images)
        return {"evaluations": 2, "count": COUNT}

    return cell, publish(ledger, "samples", f"evaluation/{cell.file}", write)


@pytest.fixture
def seen(tmp_path: Path) -> tuple[DrawnSamples, Here]:
    ledger, here = Ledger(tmp_path / "run"), Here()
    sample_inputs = SampleInputs(captions_without_classes(ledger), None)
    sets = tuple(drawn(ledger, role, w) for w in (0.0, 2.0) for role in OFF)
    return DrawnSamples(ledger, sample_inputs, sets, here.read), here


def test_without_classes_the_recipes_extractor_measures_distance_and_recall(
    seen: tuple[DrawnSamples, Here], tmp_path: Path
) -> None:
    samples, here = seen
    dino = write_dino(tmp_path / "dino")
    instrument = samples.measure_features(dino)
    assert instrument is not None
    assert instrument.extractor == "DINOv2 (not FID)"
    found = compute_checks(samples.load(), GateRules(), instrument, seed=0)
    for at in found:
        assert [check.name for check in at.checks] == ["relative distance", "RMS", "effective w"]
        assert [check.is_bounded for check in at.checks] == [True, True, at.w > 0]
    # seven held-out images are too few to compare recalls
    assert unmeasured_reasons(samples.load(), instrument, found) == tuple(
        f"recall at w = {w:g}: the teacher's samples cover too few held-out images to compare"
        for w in (0, 2)
    )
    verdict = RoundVerdict(
        title="t", num_samples=COUNT, seed=0, found=found, extractor=instrument.extractor
    )
    strict = with_bounds(verdict, GateRules(relative_distance=0.001))
    assert "in the features of DINOv2 (not FID) at w = 0 (at most 0.001)" in strict.reasons[0]
    assert here.told[-1] == (7, 7)  # six sets and the held-out images
    here.told.clear()
    assert samples.measure_features(dino) is not None
    assert here.told == []


def test_without_classes_and_extractors_unmeasured_checks_have_reasons(
    seen: tuple[DrawnSamples, Here],
) -> None:
    samples, _ = seen
    assert samples.measure_features(None) is None
    (reason,) = unmeasured_reasons(samples.load(), None)
    assert reason.startswith("relative distance and recall: ")


def test_the_gate_uses_the_first_extractor_only_without_classes(tmp_path: Path) -> None:
    config = write_dino(tmp_path / "dino")
    ours = f"evaluation.extractors=[{{kind: dinov2, path: {config.path}}}]"
    bare = "data={source: captioned_folder, path: here, size: 16}"
    for overrides, expected in (
        ((ours,), None),
        ((ours, bare), config),
        ((bare, "evaluation.extractors=[]"), None),
    ):
        assert extractor_of(shipped_recipe("captions", *overrides)) == expected
