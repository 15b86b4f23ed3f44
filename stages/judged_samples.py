"""The samples that the gate looks at: loaded, read by the report's instrument, shown."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.shards import read_info
from pipeline.evaluation.asking import asked_of
from pipeline.evaluation.assessment import real_images
from pipeline.evaluation.classifier import Classifier
from pipeline.evaluation.comparing import SampleSet, columns_of
from pipeline.evaluation.grids import draw_samples, why_no_picture
from pipeline.evaluation.judging import Drawn, Instrument
from pipeline.evaluation.neighbourhood import RealManifold
from pipeline.evaluation.prompt_grid import draw_prompts
from pipeline.evaluation.protocol import Cell
from pipeline.ledger import Artifact, Ledger
from stages.evaluate import classifier_of
from stages.sample_sets import Subject


@dataclass(frozen=True)
class Seen:
    """Samples and what they are of.

    Attributes:
        ledger: of the run.
        subject: what is drawn.
        sets: each cell with its samples; at each guidance weight teacher and student.
    """

    ledger: Ledger
    subject: Subject
    sets: tuple[tuple[Cell, Artifact], ...]

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
        return {
            w: Drawn(
                student=arrays[w, "student"],
                teacher=arrays[w, "teacher"],
                other=arrays[w, "yardstick"],
            )
            for w in self.weights
        }

    def instrument(self) -> Instrument | None:
        """The classifier that the report will use; None for data without classes."""
        if not read_info(self.data).num_classes:
            return None
        at = self.ledger.locate(classifier_of(self.ledger, self.subject.data))
        classifier = Classifier(at)
        heldout, _ = real_images(self.data, "heldout")
        return Instrument(classifier, RealManifold.of(classifier.read(heldout).features))

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
    if len(drawn) == 1:
        found.append("control of w: there is one guidance weight")
    return tuple(found)
