"""Which networks can be played with: a student or a run's students, and the teacher beside them."""

import base64
import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.bundle import MANIFEST, Manifest, read_manifest
from pipeline.config import Recipe, UNetConfig
from pipeline.data.shards.dataset_info import read_info
from pipeline.documents import Document
from pipeline.errors import BundleError
from pipeline.page.play_page import Offer, Steps
from pipeline.run_dir.recipe_file import RECIPE, recipe_of, students_of
from pipeline.sampling.sampler import BundleSampler, LabelArray
from pipeline.wording import counted
from stages.export.export import components_near
from stages.inference.output_file import grid

_STEPS = 64  # of networks that take any number, where no recipe says how many

_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 100, 128, 200, 256)


@dataclass(frozen=True)
class Drawer:
    """A network, and the numbers of steps it draws in."""

    name: str
    bundle: Path
    steps: Steps

    def title(self, steps: int) -> str:
        """Its name with the number of steps it took, which most names hold already."""
        is_told = len(self.steps.counts) == 1
        return self.name if is_told else f"{self.name}, {counted(steps, 'step')}"


@dataclass(frozen=True)
class Playable:
    """What was found.

    Attributes:
        manifest: of the student with the fewest steps.
        students: from many steps to few.
        teacher: None if there is none.
        classes: their names; empty if a sentence is asked for.
        w: the range of guidance weights that all students know.
        w_values: the only ones in it, if a student was made for a few; else empty.
        components: what surrounds the networks in a stock pipeline.
        why_alone: why there is no teacher.
    """

    manifest: Manifest
    students: tuple[Drawer, ...]
    teacher: Drawer | None
    classes: tuple[str, ...]
    w: tuple[float, float]
    w_values: tuple[float, ...]
    components: Path | None
    why_alone: str

    def drawer(self, who: Literal["student", "teacher"], place: int) -> Drawer:
        """The network that is asked.

        Raises:
            BundleError: there is none in that place.
        """
        if who == "teacher":
            if self.teacher is None:
                raise BundleError(self.why_alone)
            return self.teacher
        if place >= len(self.students):
            raise BundleError(f"there are {len(self.students)} students, none in place {place}")
        return self.students[place]


def find_playable(place: Path, teacher: Path | None) -> Playable:
    """Look at what lies in a place, by manifests alone.

    Args:
        place: a student's bundle, or the directory of a run, for all its students.
        teacher: another teacher than that of the run it lies in.

    Raises:
        BundleError: no student, or one that does not draw pictures from noise alone; or a teacher
            that is none, or draws other things than the student.
    """
    run_dir = _run_above(place)
    recipe = recipe_of(run_dir) if run_dir else None
    bundles = _students_in(place, recipe)
    manifests = [read_manifest(bundle) for bundle in bundles]
    for bundle, manifest in zip(bundles, manifests, strict=True):
        _check_student(bundle, manifest)
    any_steps = recipe.halving.first_steps if recipe else _STEPS
    students = sorted(
        (
            _drawer(bundle, manifest, any_steps)
            for bundle, manifest in zip(bundles, manifests, strict=True)
        ),
        key=lambda each: -each.steps.usual,
    )
    manifest = read_manifest(students[-1].bundle)
    found, why_alone = _teacher(teacher, run_dir, manifest, recipe)
    laws = [each.w for each in manifests if each.w]
    few = [value for law in laws for value in law.values or ()]
    return Playable(
        manifest=manifest,
        students=_told_apart(students),
        teacher=found,
        classes=_classes(run_dir, manifest),
        w=(max(law.min for law in laws), min(law.max for law in laws)),
        w_values=tuple(w for w in dict.fromkeys(few) if all(law.allows(w) for law in laws)),
        components=components_near(students[-1].bundle),
        why_alone=why_alone,
    )


def _run_above(place: Path) -> Path | None:
    here = place.absolute()
    return next((folder for folder in (here, *here.parents) if (folder / RECIPE).is_file()), None)


def _students_in(place: Path, recipe: Recipe | None) -> list[Path]:
    if (place / MANIFEST).is_file():
        return [place]
    there = students_of(place, recipe) if recipe else []
    found = [bundle for bundle in there if read_manifest(bundle).direction == "decode"]
    if not found:
        raise BundleError(
            f"{place} is neither a student's bundle nor a run with students; give one such as "
            "runs/NAME/rounds/04-2-to-1/student, or runs/NAME"
        )
    return found


def _check_student(bundle: Path, manifest: Manifest) -> None:
    if manifest.role != "student" or manifest.w is None:
        raise BundleError(
            f"{bundle} holds a teacher; give a student, which is shown beside its teacher"
        )
    if manifest.direction != "decode":
        raise BundleError(f"{bundle} encodes pictures into noise; use stepfold stylize")
    channels, height, width = manifest.latent_shape
    if manifest.pipeline is None and (channels not in {1, 3} or height * width == 1):
        raise BundleError(f"{bundle} draws samples of shape {manifest.latent_shape}, no pictures")
    if isinstance(manifest.network, UNetConfig) and manifest.network.image_channels:
        raise BundleError(f"{bundle} draws into a picture of yours; use stepfold inpaint")


def _drawer(bundle: Path, manifest: Manifest, any_steps: int) -> Drawer:
    if manifest.steps is None:
        return Drawer("stage 1", bundle, _any_of(manifest, any_steps))
    steps = manifest.steps[0]
    return Drawer(counted(steps, "step"), bundle, Steps((steps,), steps))


def _any_of(manifest: Manifest, usual: int) -> Steps:
    """Of a network that draws in any number of steps, those that its grid holds."""
    counts = sorted({usual, *_COUNTS})
    return Steps(tuple(each for each in counts if manifest.schedule.holds(each)), usual)


def _told_apart(students: Sequence[Drawer]) -> tuple[Drawer, ...]:
    """Students of as many steps have the names of their rounds."""
    names = Counter(student.name for student in students)
    return tuple(
        replace(student, name=f"{student.name}, {student.bundle.parent.name}")
        if names[student.name] > 1
        else student
        for student in students
    )


def _teacher(
    given: Path | None, run_dir: Path | None, student: Manifest, recipe: Recipe | None
) -> tuple[Drawer | None, str]:
    bundle = given or (run_dir / "teacher" if run_dir else None)
    if bundle is None or (given is None and not (bundle / MANIFEST).is_file()):
        return None, "Its teacher does not lie beside it; name one with --teacher DIR."
    manifest = read_manifest(bundle)
    if manifest.role != "teacher":
        raise BundleError(f"--teacher {bundle} holds a student; give the guided teacher's bundle")
    draws = (student.latent_shape, student.num_classes, student.pipeline)
    if (manifest.latent_shape, manifest.num_classes, manifest.pipeline) != draws:
        raise BundleError(f"--teacher {bundle} draws other things than the student")
    steps = recipe.teacher.reference_steps if recipe else _STEPS
    return Drawer("teacher", bundle, _any_of(manifest, steps)), ""


def _classes(run_dir: Path | None, manifest: Manifest) -> tuple[str, ...]:
    if manifest.network.reads_text:
        return ()
    names: tuple[str, ...] = ()
    if run_dir and (run_dir / "data").is_dir():
        names = read_info(run_dir / "data").class_names
    if len(names) == manifest.num_classes:
        return names
    return tuple(str(label) for label in range(manifest.num_classes))


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
