"""The page of `stepfold play`: sampling options and the resulting images."""

from dataclasses import asdict, dataclass

from pipeline.page.render import render_template


@dataclass(frozen=True)
class StepOptions:
    """Step counts of a network.

    Attributes:
        counts: selectable step counts, ascending; a single one if fixed.
        usual: the default.
    """

    counts: tuple[int, ...]
    usual: int


@dataclass(frozen=True)
class PlayOptions:
    """Sampling options.

    Attributes:
        run: name of the run.
        students: name of each student; a request refers to a student by its index.
        steps: step counts of each student.
        teacher: name of the teacher; empty without a teacher.
        teacher_steps: step counts of the teacher; None without a teacher.
        classes: class names in order of label; empty for text-conditioned students.
        w_min: smallest guidance weight of the students.
        w_max: largest guidance weight; equal to `w_min` if w is fixed.
        w_values: the selectable guidance weights if only a few are supported; else empty.
        counts: selectable numbers of samples.
        no_teacher_reason: reason why there is no teacher.
    """

    run: str
    students: tuple[str, ...]
    steps: tuple[StepOptions, ...]
    teacher: str
    teacher_steps: StepOptions | None
    classes: tuple[str, ...]
    w_min: float
    w_max: float
    w_values: tuple[float, ...]
    counts: tuple[int, ...]
    no_teacher_reason: str = ""


def render_play(offer: PlayOptions) -> str:
    """Render the page, which requests images from its own server only."""
    return render_template("play", offer=offer, options=asdict(offer))
