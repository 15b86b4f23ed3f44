"""The page of `stepfold play`: what can be asked for, and a place for the answers."""

from dataclasses import asdict, dataclass

from pipeline.page.render import render_template


@dataclass(frozen=True)
class Steps:
    """In how many steps a network may be asked to draw.

    Attributes:
        counts: from few to many; one if it draws in no other number.
        usual: the one of them that it is asked for at first.
    """

    counts: tuple[int, ...]
    usual: int


@dataclass(frozen=True)
class Offer:
    """What may be asked for.

    Attributes:
        run: whose students they are.
        students: each student's name; a question names one by its place here.
        steps: of each student.
        teacher: the teacher's name; empty if there is none beside them.
        teacher_steps: the teacher's.
        classes: names of the classes in order of label; empty if a sentence is asked for.
        w_min: the smallest guidance weight the students know.
        w_max: the largest; as large as the smallest if one is baked in.
        w_values: the only ones they know, if they were made for a few.
        counts: how many samples may be asked for at once.
        why_alone: why there is no teacher.
    """

    run: str
    students: tuple[str, ...]
    steps: tuple[Steps, ...]
    teacher: str
    teacher_steps: Steps | None
    classes: tuple[str, ...]
    w_min: float
    w_max: float
    w_values: tuple[float, ...]
    counts: tuple[int, ...]
    why_alone: str = ""


def render_play(offer: Offer) -> str:
    """The whole page; it asks its own server for pictures and nobody for anything else."""
    return render_template("play", offer=offer, told=asdict(offer))
