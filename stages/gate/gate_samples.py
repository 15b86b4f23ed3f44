"""The quality gate's samples: bundles, steps, noise, features and images."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.bundle import read_manifest
from pipeline.config import ExtractorConfig, Recipe
from pipeline.data.shards.dataset_info import read_info
from pipeline.evaluation.candidates import SampleSet, columns_of
from pipeline.evaluation.dataset_images import labels_of
from pipeline.evaluation.documents import NOISE_FLOOR_SEED_OFFSET, Role, SampleSpec
from pipeline.evaluation.features.classifier import ClassifierOutputs
from pipeline.evaluation.figures.grids import draw_prompts, draw_samples, unsupported_shape_reason
from pipeline.evaluation.metrics.frechet import Features
from pipeline.evaluation.metrics.real import RealImages
from pipeline.evaluation.verdicts.gate_checks import GateExtractor, GateFeatures, GateSamples
from pipeline.evaluation.verdicts.gate_documents import RECALL, WeightChecks
from pipeline.ledger import Artifact, Ledger
from pipeline.sampling.conditions import choose_conditions
from pipeline.sampling.solvers import default_sampler
from pipeline.training.round_plan import RoundPlan
from stages.evaluation.features import (
    ExtractFeatures,
    ExtractorSpec,
    FeatureFiles,
    classifier_of,
    classifier_spec,
    extractor_spec,
    heldout_source,
    sample_sources,
)
from stages.evaluation.sample_sets import SampleInputs, load_samples

SEED_OFFSET = 1000
"""Offset of the gate's seed from the evaluation's."""


class GateCell(SampleSpec):
    """A set of samples of the gate, named by its content."""

    @property
    def file(self) -> str:
        """File name, unique among the sample sets of this size."""
        w = str(self.w).removesuffix(".0")
        return f"gate-{self.digest[:16]}-{self.sampler}-{self.steps}-w{w}-seed{self.seed}.npy"


def gate_seed(recipe: Recipe) -> int:
    """Return the noise seed of the gate's samples."""
    return recipe.evaluation.seed + SEED_OFFSET


def is_from_other_noise(path: str, seed: int) -> bool:
    """Return whether a gate's sample set is the noise-floor reference of a teacher."""
    return path.endswith(f"-seed{seed + NOISE_FLOOR_SEED_OFFSET}.npy")


def gate_cells(
    ledger: Ledger, recipe: Recipe, plan: RoundPlan, teacher: Artifact, student: Artifact
) -> list[SampleSpec]:
    """Return three cells per guidance weight: teacher from other noise, teacher, student."""
    seed = gate_seed(recipe)
    of = functools.partial(_cell, ledger, recipe, plan)
    return [
        cell
        for w in recipe.gate_weights
        for cell in (
            of("noise_floor", teacher, w, seed + NOISE_FLOOR_SEED_OFFSET),
            of("teacher", teacher, w, seed),
            of("student", student, w, seed),
        )
    ]


def _cell(
    ledger: Ledger,
    recipe: Recipe,
    plan: RoundPlan,
    role: Role,
    bundle: Artifact,
    w: float,
    seed: int,
) -> SampleSpec:
    manifest = read_manifest(ledger.locate(bundle))
    return GateCell(
        role=role,
        bundle=bundle.path,
        digest=bundle.digest,
        round=plan.index if role == "student" else manifest.lineage.round,
        sampler=default_sampler(manifest),
        steps=manifest.own_steps or recipe.any_steps,
        w=w,
        seed=seed,
        ladder=manifest.sampler,
    )


@dataclass(frozen=True)
class DrawnSamples:
    """Drawn samples of the gate: every cell of `gate_cells` with its samples."""

    ledger: Ledger
    sample_inputs: SampleInputs
    sets: tuple[tuple[SampleSpec, Artifact], ...]
    extract_features: ExtractFeatures

    @property
    def weights(self) -> list[float]:
        """Guidance weights, in order."""
        return list(dict.fromkeys(cell.w for cell, _ in self.sets))

    @property
    def data(self) -> Path:
        """Path of the data set."""
        return self.ledger.locate(self.sample_inputs.data)

    def load(self) -> dict[float, GateSamples]:
        """Load all samples, by guidance weight; the student's may contain NaN, which is judged.

        Raises:
            DivergenceError: a sample of the teacher is not finite.
        """
        arrays = {}
        for cell, samples in self.sets:
            place = self.ledger.locate(samples)
            is_judged = cell.role == "student"
            images = np.load(place, allow_pickle=False) if is_judged else load_samples(place)
            arrays[cell.w, cell.role] = images
        is_paired = not any(cell.adds_noise for cell, _ in self.sets)
        return {
            w: GateSamples(
                student=arrays[w, "student"],
                teacher=arrays[w, "teacher"],
                other=arrays[w, "noise_floor"],
                is_paired=is_paired,
            )
            for w in self.weights
        }

    def measure_features(self, extractor: ExtractorConfig | None) -> GateExtractor | None:
        """Extract features by the report's classifier, else by the extractor, else return None."""
        info, data = read_info(self.data), self.sample_inputs.data
        if info.num_classes:
            spec = classifier_spec(self.ledger, classifier_of(self.ledger, data))
            return self._measure(spec, lambda array: ClassifierOutputs.of(array).features, "")
        if extractor is None:
            return None
        spec = extractor_spec(extractor)
        return self._measure(spec, lambda array: array, spec.name)

    def _measure(
        self, spec: ExtractorSpec, features_of: Callable[[np.ndarray], Features], name: str
    ) -> GateExtractor:
        has_images = read_info(self.data).encoding is not None
        heldout = [heldout_source(self.ledger, self.sample_inputs.data)] if has_images else []
        features = FeatureFiles(
            self.extract_features(self.ledger, spec, [*sample_sources(self.sets), *heldout])
        )
        by_cell = {
            (cell.w, cell.role): features_of(features.array(cell.file)) for cell, _ in self.sets
        }
        return GateExtractor(
            extractor=name,
            read={
                w: GateFeatures(
                    by_cell[w, "student"], by_cell[w, "teacher"], by_cell[w, "noise_floor"]
                )
                for w in self.weights
            },
            labels=choose_conditions(self.data, self.sets[0][1].details["count"]).labels,
            heldout=RealImages(
                features_of(features.array(heldout[0].name)), labels_of(self.data, "heldout")
            )
            if heldout
            else None,
        )

    def draw_pictures(self, title: str, folder: Path) -> tuple[str, ...]:
        """Write an image per guidance weight, teacher beside student; return their names."""
        info = read_info(self.data)
        conditions = choose_conditions(self.data, self.sets[0][1].details["count"])
        names = []
        for w in self.weights:
            columns = columns_of([self._set(*each) for each in self.sets if each[0].w == w])
            if unsupported_shape_reason(columns[0].images.shape[1:]):
                return ()
            name, above = f"samples-w{w:g}.png", f"{title}\nthe same noise, w = {w:g}"
            if conditions.prompts is None:
                draw_samples(above, columns, conditions.labels, info.class_names, folder / name)
            else:
                draw_prompts(above, columns, conditions, folder / name)
            names.append(name)
        return tuple(names)

    def _set(self, cell: SampleSpec, samples: Artifact) -> SampleSet:
        load = functools.partial(load_samples, self.ledger.locate(samples))
        return SampleSet(cell, samples.details["evaluations"], load)


def unmeasured_reasons(
    samples: Mapping[float, GateSamples],
    extractor: GateExtractor | None,
    found: Sequence[WeightChecks] = (),
) -> tuple[str, ...]:
    """Return the checks that do not apply to these samples, with the reasons."""
    reasons = []
    if extractor is None:
        reasons.append(
            "relative distance and recall: the data have no classes, and the recipe no extractor"
        )
    elif extractor.heldout is None:
        reasons.append("relative distance and recall: the data are prompts without real images")
    else:
        few = [at.w for at in found if RECALL not in {check.name for check in at.checks}]
        reasons += [
            f"recall at w = {w:g}: the teacher's samples cover too few held-out images to compare"
            for w in few
        ]
    if not all(sets.is_paired for sets in samples.values()):
        what = "RMS and effective w" if extractor is None else "RMS"
        reasons.append(f"{what}: the sampler adds noise, so samples are not paired")
    if len(samples) == 1:
        reasons.append("effective w: there is only one guidance weight")
    return tuple(reasons)
