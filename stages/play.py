"""A student and its teacher, kept open to be asked again and again: what `stepfold play` shows."""

import base64
import io
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.bundle import Manifest
from pipeline.documents import Document
from pipeline.evaluation.sampling import BundleSampler, LabelArray
from pipeline.page.playing import Offer
from stages.drawn_file import grid
from stages.playable import Playable

COUNTS = (8, 1, 4, 16)
"""How many samples may be asked for at once, the default first."""

_COLUMNS = 4


class Question(Document):
    """What a person asks for.

    Attributes:
        who: whose picture.
        student: which of the students, by its place in the offer.
        w: the guidance weight.
        steps: in how many, of a network that draws in any number; None for its usual number.
        seed: of the noise, the same for both.
        count: how many samples.
        label: their class, where classes are asked for.
        prompt: their sentence, where sentences are.
    """

    who: Literal["student", "teacher"]
    student: NonNegativeInt
    w: float
    steps: PositiveInt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    count: Annotated[int, Field(ge=1, le=max(COUNTS))] = 1
    label: NonNegativeInt | None = None
    prompt: Annotated[str, Field(max_length=1000)] | None = None


@dataclass(frozen=True)
class Answer:
    """A picture, and what it took.

    Attributes:
        title: of the network and its steps.
        picture: a PNG as a data URI.
        milliseconds: of drawing it.
        evaluations: of the network, for one sample.
    """

    title: str
    picture: str
    milliseconds: int
    evaluations: int


@dataclass
class Playground:
    """Networks that are loaded when they are first asked; one draws at a time."""

    playable: Playable
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._open = lru_cache(maxsize=4)(self._opened)

    @property
    def offer(self) -> Offer:
        """What may be asked for."""
        playable = self.playable
        teacher = playable.teacher
        large = max(playable.manifest.latent_shape[1:]) > 16 and playable.manifest.pipeline
        return Offer(
            run=playable.manifest.lineage.run,
            students=tuple(student.name for student in playable.students),
            steps=tuple(student.steps for student in playable.students),
            teacher=teacher.name if teacher else "",
            teacher_steps=teacher.steps if teacher else None,
            classes=playable.classes,
            w_min=playable.w[0],
            w_max=playable.w[1],
            w_values=playable.w_values,
            counts=(1, 4) if large else COUNTS,
            why_alone=playable.why_alone,
        )

    def draw(self, question: Question) -> Answer:
        """Draw what is asked for.

        Raises:
            BundleError: there is no such student or teacher, or it was not made for this.
        """
        asked = self._asked(self.playable.manifest, question)
        drawer = self.playable.drawer(question.who, question.student)
        steps = question.steps or drawer.steps.usual
        with self._lock:
            sampler = self._open(drawer.bundle)
            sampler.check(steps=steps, w=question.w)
            began = time.perf_counter()
            images = sampler.sample(steps=steps, w=question.w, asked=asked, seed=question.seed)
            seconds = time.perf_counter() - began
        return Answer(
            title=drawer.title(steps),
            picture=_picture(grid(images, min(_COLUMNS, question.count))),
            milliseconds=max(1, round(1000 * seconds)),
            evaluations=sampler.evaluations(steps=steps, w=question.w),
        )

    def open_first(self) -> None:
        """Load the student that is shown first, so that what is damaged is refused at once.

        Raises:
            BundleError: it cannot be loaded.
        """
        with self._lock:
            self._open(self.playable.students[-1].bundle)

    def _opened(self, bundle: Path) -> BundleSampler:
        """Load, and draw once: a first call pays for what later ones do not."""
        sampler = BundleSampler(bundle, components=self.playable.components)
        manifest = sampler.manifest
        steps = manifest.steps[0] if manifest.steps else 1
        asked = ("",) if manifest.network.reads_text else np.zeros(1, np.int64)
        w = self.playable.w[1]
        sampler.sample(steps=steps, w=w, asked=asked, seed=0)
        return sampler

    @staticmethod
    def _asked(manifest: Manifest, question: Question) -> LabelArray | tuple[str, ...]:
        if manifest.network.reads_text:
            return (question.prompt or "",) * question.count
        return np.full(question.count, question.label or 0, np.int64)


def _picture(canvas: np.ndarray) -> str:
    sink = io.BytesIO()
    Image.fromarray(canvas.squeeze()).save(sink, "PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode("ascii")
