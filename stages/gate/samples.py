"""The samples that the students' gate looks at: whose, in how many steps, from which noise."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.bundle import read_manifest
from pipeline.config import ExtractorConfig, Recipe
from pipeline.data.shards.dataset_info import read_info
from pipeline.evaluation.candidates import SampleSet, columns_of
from pipeline.evaluation.documents import YARDSTICK_SEED_OFFSET, Cell, Role
from pipeline.evaluation.features.classifier import Reading
from pipeline.evaluation.figures.grids import draw_prompts, draw_samples, why_no_picture
from pipeline.evaluation.metrics.frechet import Features
from pipeline.evaluation.metrics.manifold import RealManifold
from pipeline.evaluation.verdicts.gate_checks import Drawn, Instrument, ReadDrawn
from pipeline.ledger import Artifact, Ledger
from pipeline.sampling.conditions import asked_of
from pipeline.sampling.solvers import own_sampler
from pipeline.training.round_plan import RoundPlan
from stages.evaluation.features import Reader, classifier_reader, extractor_reader
from stages.evaluation.measurements import (
    Read,
    Readings,
    classifier_of,
    heldout_source,
    sample_sources,
)
from stages.evaluation.sample_sets import Subject

SEED_OFFSET = 1000
"""From the evaluation's seed to the gate's."""


class GateCell(Cell):
    """A set of samples that the gate looks at; its name says whose content it is."""

    @property
    def file(self) -> str:
        """A name that no other set of an evaluation of this size has."""
        w = str(self.w).removesuffix(".0")
        return f"gate-{self.digest[:16]}-{self.sampler}-{self.steps}-w{w}-seed{self.seed}.npy"


def seed_of(recipe: Recipe) -> int:
    """The seed of the noise that the gate's samples start from."""
    return recipe.evaluation.seed + SEED_OFFSET


def is_from_other_noise(path: str, seed: int) -> bool:
    """Whether this set of a gate of that seed is the second of a teacher; students have one."""
    return path.endswith(f"-seed{seed + YARDSTICK_SEED_OFFSET}.npy")


def gate_cells(
    ledger: Ledger, recipe: Recipe, plan: RoundPlan, teacher: Artifact, student: Artifact
) -> list[Cell]:
    """At each guidance weight: the teacher from other noise, the teacher, the student."""
    seed = seed_of(recipe)
    of = functools.partial(_cell, ledger, recipe, plan)
    return [
        cell
        for w in recipe.gate_weights
        for cell in (
            of("yardstick", teacher, w, seed + YARDSTICK_SEED_OFFSET),
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
) -> Cell:
    manifest = read_manifest(ledger.locate(bundle))
    # the stage-1 student is good at any time: it is sampled in the steps round 1 takes of it
    steps = recipe.halving.first_steps
    if manifest.role == "student" and manifest.steps is not None:
        (steps,) = manifest.steps
    return GateCell(
        role=role,
        bundle=bundle.path,
        digest=bundle.digest,
        round=plan.index if role == "student" else manifest.lineage.round,
        sampler=own_sampler(manifest),
        steps=steps,
        w=w,
        seed=seed,
        ladder=manifest.sampler,
    )


@dataclass(frozen=True)
class Seen:
    """Samples and what they are of.

    Attributes:
        ledger: of the run.
        subject: what is drawn.
        sets: each cell with its samples; at each guidance weight teacher and student.
        read: has them read.
    """

    ledger: Ledger
    subject: Subject
    sets: tuple[tuple[Cell, Artifact], ...]
    read: Read

    @property
    def weights(self) -> list[float]:
        """The guidance weights, in order."""
        return list(dict.fromkeys(cell.w for cell, _ in self.sets))

    @property
    def data(self) -> Path:
        """Where the data set lies."""
        return self.ledger.locate(self.subject.data)

    def load(self) -> dict[float, Drawn]:
        """All samples, by guidance weight."""
        arrays = {
            (cell.w, cell.role): np.load(self.ledger.locate(samples), allow_pickle=False)
            for cell, samples in self.sets
        }
        is_paired = not any(cell.adds_noise for cell, _ in self.sets)
        return {
            w: Drawn(
                student=arrays[w, "student"],
                teacher=arrays[w, "teacher"],
                other=arrays[w, "yardstick"],
                is_paired=is_paired,
            )
            for w in self.weights
        }

    def instrument(self, extractor: ExtractorConfig | None) -> Instrument | None:
        """What the report's classifier sees, or the extractor in data without classes; or None."""
        info, data = read_info(self.data), self.subject.data
        if info.num_classes:
            reader = classifier_reader(self.ledger, classifier_of(self.ledger, data))
            return self._instrument(reader, lambda array: Reading.of(array).features, "")
        if extractor is None:
            return None
        reader = extractor_reader(extractor)
        return self._instrument(reader, lambda array: array, reader.name)

    def _instrument(
        self, reader: Reader, features_of: Callable[[np.ndarray], Features], name: str
    ) -> Instrument:
        has_images = read_info(self.data).encoding is not None
        heldout = [heldout_source(self.ledger, self.subject.data)] if has_images else []
        found = Readings(self.read(self.ledger, reader, [*sample_sources(self.sets), *heldout]))
        read = {(cell.w, cell.role): features_of(found.array(cell.file)) for cell, _ in self.sets}
        return Instrument(
            extractor=name,
            read={
                w: ReadDrawn(read[w, "student"], read[w, "teacher"], read[w, "yardstick"])
                for w in self.weights
            },
            heldout=RealManifold.of(features_of(found.array(heldout[0].name))) if heldout else None,
        )

    def draw_pictures(self, title: str, folder: Path) -> tuple[str, ...]:
        """Write a picture for each guidance weight, teacher beside student; their names."""
        info = read_info(self.data)
        asked = asked_of(self.data, self.sets[0][1].details["count"])
        names = []
        for w in self.weights:
            columns = columns_of([self._set(*each) for each in self.sets if each[0].w == w])
            if why_no_picture(columns[0].images.shape[1:]):
                return ()
            name, above = f"samples-w{w:g}.png", f"{title}\nthe same noise, w = {w:g}"
            if asked.prompts is None:
                draw_samples(above, columns, asked.labels, info.class_names, folder / name)
            else:
                draw_prompts(above, columns, asked, folder / name)
            names.append(name)
        return tuple(names)

    def _set(self, cell: Cell, samples: Artifact) -> SampleSet:
        load = functools.partial(np.load, self.ledger.locate(samples))
        return SampleSet(cell, samples.details["evaluations"], load)


def unmeasured(drawn: Mapping[float, Drawn], instrument: Instrument | None) -> tuple[str, ...]:
    """What cannot be asked of these samples, and why."""
    found = []
    if instrument is None:
        found.append("distance and recall: the data have no classes, so there are no features")
    elif instrument.heldout is None:
        found.append("recall: the data are prompts alone, so there are no real images")
    if not all(sets.is_paired for sets in drawn.values()):
        what = "RMS and control of w" if instrument is None else "RMS"
        found.append(f"{what}: noise is added on the way, so no two samples are a pair")
    if len(drawn) == 1:
        found.append("control of w: there is one guidance weight")
    return tuple(found)
