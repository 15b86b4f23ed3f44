"""The playground: find the networks of a run or bundle, and sample them for the web page."""

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
from pipeline.config import Recipe
from pipeline.data.shards.dataset_info import read_info
from pipeline.documents import Document
from pipeline.errors import BundleError
from pipeline.page.play_page import PlayOptions, StepOptions
from pipeline.run_dir.layout import DATA, RECIPE, TEACHER
from pipeline.run_dir.recipe_file import completed_students, read_recipe
from pipeline.sampling.sampler import BundleSampler, LabelArray
from pipeline.wording import format_count
from stages.export.export import components_near
from stages.inference.output_file import image_grid

COUNTS = (8, 1, 4, 16)
"""Choices of the number of samples, the default first."""

_STEPS = 64  # default of networks without fixed steps, if there is no recipe
_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 100, 128, 200, 256)
_COLUMNS = 4


class SampleRequest(Document):
    """Request of the web page.

    Attributes:
        who: role of the network.
        student: index of the student.
        w: guidance weight.
        steps: sampling steps of a network without a fixed step count; None for its default.
        seed: noise seed, the same for both.
        count: number of samples.
        label: class, for class-conditioned networks.
        prompt: prompt, for text-conditioned networks.
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
class SampleResponse:
    """Samples as a PNG data URI, and their cost in network evaluations per sample."""

    title: str
    picture: str
    milliseconds: int
    evaluations: int


@dataclass(frozen=True)
class PlayNetwork:
    """A network, and the numbers of steps it supports."""

    name: str
    bundle: Path
    steps: StepOptions

    def title(self, steps: int) -> str:
        """Return the name with the number of steps, unless the name contains it."""
        has_fixed_steps = len(self.steps.counts) == 1
        return self.name if has_fixed_steps else f"{self.name}, {format_count(steps, 'step')}"


@dataclass(frozen=True)
class PlayNetworks:
    """The networks of a playground.

    Attributes:
        manifest: manifest of the student with the fewest steps.
        students: students from many steps to few.
        teacher: the teacher, or None.
        classes: class names; empty for text-conditioned networks.
        w: range of guidance weights that all students support.
        w_values: the supported weights, if a student was trained on a list of them; else empty.
        components: the stock pipeline without its network.
        no_teacher_reason: why there is no teacher.
    """

    manifest: Manifest
    students: tuple[PlayNetwork, ...]
    teacher: PlayNetwork | None
    classes: tuple[str, ...]
    w: tuple[float, float]
    w_values: tuple[float, ...]
    components: Path | None
    no_teacher_reason: str

    def network(self, role: Literal["student", "teacher"], place: int) -> PlayNetwork:
        """Return the requested network.

        Raises:
            BundleError: there is no such student or teacher.
        """
        if role == "teacher":
            if self.teacher is None:
                raise BundleError(self.no_teacher_reason)
            return self.teacher
        if place >= len(self.students):
            raise BundleError(f"no student {place}; there are {len(self.students)} students")
        return self.students[place]


@dataclass
class Playground:
    """Networks that are loaded on first use; one samples at a time."""

    networks: PlayNetworks
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._open = lru_cache(maxsize=4)(self._load)

    @property
    def offer(self) -> PlayOptions:
        """The choices of the web page."""
        networks = self.networks
        teacher = networks.teacher
        large = max(networks.manifest.latent_shape[1:]) > 16 and networks.manifest.pipeline
        return PlayOptions(
            run=networks.manifest.lineage.run,
            students=tuple(student.name for student in networks.students),
            steps=tuple(student.steps for student in networks.students),
            teacher=teacher.name if teacher else "",
            teacher_steps=teacher.steps if teacher else None,
            classes=networks.classes,
            w_min=networks.w[0],
            w_max=networks.w[1],
            w_values=networks.w_values,
            counts=(1, 4) if large else COUNTS,
            no_teacher_reason=networks.no_teacher_reason,
        )

    def draw(self, request: SampleRequest) -> SampleResponse:
        """Draw the requested samples.

        Raises:
            BundleError: there is no such student or teacher, or it does not support the request.
        """
        conditions = self._conditions(self.networks.manifest, request)
        network = self.networks.network(request.who, request.student)
        steps = request.steps or network.steps.usual
        with self._lock:
            sampler = self._open(network.bundle)
            sampler.check(steps=steps, w=request.w)
            began = time.perf_counter()
            images = sampler.sample(
                steps=steps, w=request.w, conditions=conditions, seed=request.seed
            )
            seconds = time.perf_counter() - began
        return SampleResponse(
            title=network.title(steps),
            picture=_data_uri(image_grid(images, min(_COLUMNS, request.count))),
            milliseconds=max(1, round(1000 * seconds)),
            evaluations=sampler.evaluations(steps=steps, w=request.w),
        )

    def open_first(self) -> None:
        """Load the student that is shown first, so that a damaged bundle is reported at once.

        Raises:
            BundleError: the bundle cannot be loaded.
        """
        with self._lock:
            self._open(self.networks.students[-1].bundle)

    def _load(self, bundle: Path) -> BundleSampler:
        """Load a network and sample once, so that the first request is not slower than others."""
        sampler = BundleSampler(bundle, components=self.networks.components)
        manifest = sampler.manifest
        steps = manifest.own_steps or 1
        conditions = ("",) if manifest.network.reads_text else np.zeros(1, np.int64)
        w = self.networks.w[1]
        sampler.sample(steps=steps, w=w, conditions=conditions, seed=0)
        return sampler

    @staticmethod
    def _conditions(manifest: Manifest, request: SampleRequest) -> LabelArray | tuple[str, ...]:
        if manifest.network.reads_text:
            return (request.prompt or "",) * request.count
        return np.full(request.count, request.label or 0, np.int64)


def find_networks(place: Path, teacher: Path | None) -> PlayNetworks:
    """Find the networks of a student's bundle, or of a run with all its students, by manifests.

    `teacher` replaces that of the run.

    Raises:
        BundleError: there is no student that samples images from noise, or the teacher is not a
            teacher or does not match the student.
    """
    run_dir = _run_above(place)
    recipe = read_recipe(run_dir) if run_dir else None
    bundles = _students_in(place, recipe)
    manifests = [read_manifest(bundle) for bundle in bundles]
    for bundle, manifest in zip(bundles, manifests, strict=True):
        _check_student(bundle, manifest)
    any_steps = recipe.any_steps if recipe else _STEPS
    students = sorted(
        (
            _play_network(bundle, manifest, any_steps)
            for bundle, manifest in zip(bundles, manifests, strict=True)
        ),
        key=lambda each: -each.steps.usual,
    )
    manifest = read_manifest(students[-1].bundle)
    found, no_teacher_reason = _teacher(teacher, run_dir, manifest, recipe)
    ranges = [each.w for each in manifests if each.w]
    few = [value for each_range in ranges for value in each_range.values or ()]
    return PlayNetworks(
        manifest=manifest,
        students=_with_unique_names(students),
        teacher=found,
        classes=_classes(run_dir, manifest),
        w=(
            max(each_range.min for each_range in ranges),
            min(each_range.max for each_range in ranges),
        ),
        w_values=tuple(
            w for w in dict.fromkeys(few) if all(each_range.allows(w) for each_range in ranges)
        ),
        components=components_near(students[-1].bundle),
        no_teacher_reason=no_teacher_reason,
    )


def _run_above(place: Path) -> Path | None:
    here = place.absolute()
    return next((folder for folder in (here, *here.parents) if (folder / RECIPE).is_file()), None)


def _students_in(place: Path, recipe: Recipe | None) -> list[Path]:
    if (place / MANIFEST).is_file():
        return [place]
    there = completed_students(place, recipe) if recipe else []
    found = [bundle for bundle in there if read_manifest(bundle).direction == "decode"]
    if not found:
        raise BundleError(
            f"{place} is neither a student's bundle nor a run with students; give one such as "
            "runs/NAME/rounds/04-2-to-1/student, or runs/NAME"
        )
    return found


def _check_student(bundle: Path, manifest: Manifest) -> None:
    if manifest.role != "student" or manifest.w is None:
        raise BundleError(f"{bundle} holds a teacher; give one of its students")
    if manifest.direction != "decode":
        raise BundleError(f"{bundle} is an encoder; use stepfold stylize")
    if not manifest.has_images:
        raise BundleError(
            f"{bundle} has samples of shape {manifest.latent_shape}, which are not images; use "
            "stepfold sample"
        )
    if manifest.network.is_inpainting:
        raise BundleError(f"{bundle} is an inpainting model; use stepfold inpaint")


def _play_network(bundle: Path, manifest: Manifest, any_steps: int) -> PlayNetwork:
    steps = manifest.own_steps
    if steps is None:
        return PlayNetwork("stage 1", bundle, _any_of(manifest, any_steps))
    return PlayNetwork(format_count(steps, "step"), bundle, StepOptions((steps,), steps))


def _any_of(manifest: Manifest, usual: int) -> StepOptions:
    """Return the step counts that the schedule of a network without a fixed step count supports."""
    counts = sorted({usual, *_COUNTS})
    return StepOptions(tuple(each for each in counts if manifest.schedule.holds(each)), usual)


def _with_unique_names(students: Sequence[PlayNetwork]) -> tuple[PlayNetwork, ...]:
    """Add the name of the round to students with the same step count."""
    names = Counter(student.name for student in students)
    return tuple(
        replace(student, name=f"{student.name}, {student.bundle.parent.name}")
        if names[student.name] > 1
        else student
        for student in students
    )


def _teacher(
    given: Path | None, run_dir: Path | None, student: Manifest, recipe: Recipe | None
) -> tuple[PlayNetwork | None, str]:
    bundle = given or (run_dir / TEACHER if run_dir else None)
    if bundle is None or (given is None and not (bundle / MANIFEST).is_file()):
        return None, "No teacher found in the run; give one with --teacher DIR."
    manifest = read_manifest(bundle)
    if manifest.role != "teacher":
        raise BundleError(f"--teacher {bundle} holds a student; give the guided teacher's bundle")
    expected = (student.latent_shape, student.num_classes, student.pipeline)
    if (manifest.latent_shape, manifest.num_classes, manifest.pipeline) != expected:
        raise BundleError(
            f"--teacher {bundle}: shape, classes or pipeline is not the student's; give the "
            "teacher that the student was distilled from"
        )
    steps = recipe.teacher.reference_steps if recipe else _STEPS
    return PlayNetwork("teacher", bundle, _any_of(manifest, steps)), ""


def _classes(run_dir: Path | None, manifest: Manifest) -> tuple[str, ...]:
    if manifest.network.reads_text:
        return ()
    names = manifest.class_names
    if not names and run_dir and (run_dir / DATA).is_dir():
        names = read_info(run_dir / DATA).class_names
    if len(names) == manifest.num_classes:
        return names
    return tuple(str(label) for label in range(manifest.num_classes))


def _data_uri(canvas: np.ndarray) -> str:
    sink = io.BytesIO()
    Image.fromarray(canvas.squeeze()).save(sink, "PNG")
    return "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode("ascii")
