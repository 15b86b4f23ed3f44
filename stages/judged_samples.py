"""The samples that the gate looks at: loaded, read by the report's instrument, shown."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config import ExtractorConfig
from pipeline.data.shards import read_info
from pipeline.evaluation.asking import asked_of
from pipeline.evaluation.classifier import Reading
from pipeline.evaluation.comparing import SampleSet, columns_of
from pipeline.evaluation.grids import draw_samples, why_no_picture
from pipeline.evaluation.judging import Drawn, Instrument, ReadDrawn
from pipeline.evaluation.metrics import Features
from pipeline.evaluation.neighbourhood import RealManifold
from pipeline.evaluation.prompt_grid import draw_prompts
from pipeline.evaluation.protocol import Cell
from pipeline.ledger import Artifact, Ledger
from stages.classifier import classifier_of
from stages.readers import Reader, classifier_reader, extractor_reader
from stages.readings import Read, Readings, heldout_source, sample_sources
from stages.sample_sets import Subject


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
