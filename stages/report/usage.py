"""The command that draws with a network of a run, as people are told it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Recipe, UNetConfig
from pipeline.diffusion.guidance import guidance_scale
from pipeline.models.stock.card import THIS_DIRECTORY
from pipeline.page.summary import AnyReport, good_students, listed
from pipeline.page.view_model import Usage
from pipeline.training.plan import plan_decoders
from pipeline.training.round_plan import RoundPlan
from pipeline.wording import counted


def drawing(recipe: Recipe, bundle: str, steps: int, w: float) -> str:
    """`stepfold sample` or `inpaint` with all that they have to be told.

    Args:
        recipe: of the run, which says what is drawn and what the network is asked for.
        bundle: where the network lies.
        steps: to take.
        w: guidance weight.
    """
    network, asked = recipe.teacher.network, f"--guidance-weight {w:g}"
    if network.reads_text:
        told = f'{asked} --prompt "..." --output samples.png'
        if isinstance(network, UNetConfig) and network.image_channels:
            return f"stepfold inpaint {bundle} IMAGE MASK {told}"
        return f"stepfold sample {bundle} --steps {steps} {told}"
    ending = "npz" if recipe.data.source == "gaussian" else "png --num 100"
    return f"stepfold sample {bundle} --steps {steps} {asked} --output samples.{ending}"


_TOLD = re.compile(r"guidance_scale=(?!1\.0\b)[\d.]+")
"""What a card tells of w; 1.0 is told where w is baked in."""


@dataclass(frozen=True)
class _Chosen:
    """A student, in how many steps, where it is asked, and why it is shown."""

    plan: RoundPlan
    steps: int
    w: float
    why: str


def usage_of(run_dir: Path, recipe: Recipe, report: AnyReport) -> tuple[Usage, ...]:
    """The shortest student that passes every check, if one does, and the shortest of all.

    By a stock pipeline where there is one, as its own card says; else with our own sampler.

    Args:
        run_dir: the run directory, with its pipelines.
        recipe: of the run.
        report: says who passes.
    """
    plans = plan_decoders(recipe)
    shortest = min(plans[1:] or plans, key=_steps_of)
    chosen = [*_good(plans, report)]
    if all(each.plan != shortest for each in chosen):
        middle = recipe.guidance.w.middle
        chosen.append(_Chosen(shortest, _steps_of(shortest) or 1, middle, "the shortest"))
    return tuple(_usage(run_dir, recipe, each) for each in chosen)


def _good(plans: Sequence[RoundPlan], report: AnyReport) -> list[_Chosen]:
    cells = good_students(report)
    if not cells:
        return []
    first = min(cells, key=lambda cell: (cell.steps, cell.is_stochastic_student))
    weights = [cell.w for cell in cells if cell.title == first.title]
    plan = next((plan for plan in plans if plan.index == first.round), None)
    if plan is None:  # the report is of an earlier recipe
        return []
    why = f"as good as the teacher at w = {listed(weights)}"
    return [_Chosen(plan, first.steps, weights[len(weights) // 2], why)]


def _steps_of(plan: RoundPlan) -> int:
    return plan.student_steps or 0


def _usage(run_dir: Path, recipe: Recipe, chosen: _Chosen) -> Usage:
    kind = "stochastic, " if chosen.plan.sampler == "stochastic" else ""
    title = f"In {counted(chosen.steps, 'step')}, {kind}{chosen.why}"
    pipeline = run_dir / "pipelines" / chosen.plan.made_for
    if pipeline.is_dir():
        place = f"pipelines/{pipeline.name}"
        code = _code_of(pipeline / "README.md", place, chosen.w)
        return Usage(f"{title}, with diffusers alone", code)
    command = drawing(recipe, f"{chosen.plan.folder}/student", chosen.steps, chosen.w)
    return Usage(title, (command,))


def _code_of(card: Path, place: str, w: float) -> tuple[str, ...]:
    """The Python of a model card, with the place it speaks of, at a guidance weight if it has one.

    A network with w baked in is called without guidance, whatever its w.
    """
    _, _, rest = card.read_text(encoding="utf-8").partition("```python\n")
    code = rest.partition("```")[0].replace(THIS_DIRECTORY, place)
    code = _TOLD.sub(f"guidance_scale={guidance_scale(w)!r}", code)
    return tuple(line for line in code.splitlines() if line)
