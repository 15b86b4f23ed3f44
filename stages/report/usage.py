"""Commands and code to sample with a run's students, for display."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Recipe
from pipeline.diffusion.guidance import guidance_scale
from pipeline.evaluation.documents import AnyReport
from pipeline.evaluation.reports.report_summary import join_numbers, passing_students
from pipeline.models.stock.card import THIS_DIRECTORY
from pipeline.page.view_model import Usage
from pipeline.run_dir import layout
from pipeline.training.plan import plan_decoders
from pipeline.training.round_plan import RoundPlan
from pipeline.wording import format_count
from stages.export.network_script import SCRIPT

_GUIDANCE_ARGUMENT = re.compile(r"guidance_scale=(?!1\.0\b)[\d.]+")
"""The guidance of a model card's call; 1.0 belongs to networks with a fixed w."""


@dataclass(frozen=True)
class _Chosen:
    """A student to show, its steps and guidance weight, and the reason."""

    plan: RoundPlan
    steps: int
    w: float
    reason: str


def usage_of(run_dir: Path, recipe: Recipe, report: AnyReport) -> tuple[Usage, ...]:
    """Return usage of the passing student and of any student with the fewest steps.

    Students with an exported pipeline use the code of its model card or its script, others
    `stepfold sample`.

    Args:
        run_dir: run directory, with its pipelines.
        recipe: recipe of the run.
        report: report with the verdicts.
    """
    plans = plan_decoders(recipe)
    shortest = min(plans[1:] or plans, key=_steps_of)
    chosen = [*_best_passing(plans, report)]
    if all(each.plan != shortest for each in chosen):
        middle = recipe.w.middle
        chosen.append(_Chosen(shortest, _steps_of(shortest) or 1, middle, "fewest steps"))
    return tuple(_usage(run_dir, recipe, each) for each in chosen)


def sample_command(recipe: Recipe, bundle: str, steps: int, w: float) -> str:
    """Return the `stepfold sample` or `inpaint` command for a bundle.

    Args:
        recipe: recipe of the run, which determines the conditions.
        bundle: path of the bundle.
        steps: sampling steps.
        w: guidance weight.
    """
    network, weight = recipe.teacher.network, f"--guidance-weight {w:g}"
    if network.reads_text:
        arguments = f'{weight} --prompt "..." --output samples.png'
        if network.is_inpainting:
            return f"stepfold inpaint {bundle} IMAGE MASK {arguments}"
        return f"stepfold sample {bundle} --steps {steps} {arguments}"
    ending = "npz" if recipe.data.encoding == "npy" else "png --num 100"
    return f"stepfold sample {bundle} --steps {steps} {weight} --output samples.{ending}"


def _best_passing(plans: Sequence[RoundPlan], report: AnyReport) -> list[_Chosen]:
    cells = passing_students(report)
    if not cells:
        return []
    first = min(cells, key=lambda cell: (cell.steps, cell.is_stochastic_student))
    weights = [cell.w for cell in cells if cell.title == first.title]
    plan = next((plan for plan in plans if plan.index == first.round), None)
    if plan is None:  # the report is of an earlier recipe
        return []
    reason = f"passes every check at w = {join_numbers(weights)}"
    return [_Chosen(plan, first.steps, weights[len(weights) // 2], reason)]


def _steps_of(plan: RoundPlan) -> int:
    return plan.student_steps or 0


def _usage(run_dir: Path, recipe: Recipe, chosen: _Chosen) -> Usage:
    kind = "stochastic, " if chosen.plan.sampler == "stochastic" else ""
    title = f"{format_count(chosen.steps, 'step')}, {kind}{chosen.reason}"
    folder = f"{layout.PIPELINES}/{chosen.plan.sampling_target}"
    pipeline = run_dir / folder
    if (pipeline / SCRIPT).is_file():
        command = f"python {folder}/{SCRIPT} --steps {chosen.steps} --w {chosen.w:g} --labels 0 1"
        return Usage(f"{title}: diffusers", (command,))
    if pipeline.is_dir():
        code = _code_of(pipeline / "README.md", folder, chosen.w)
        return Usage(f"{title}: diffusers", code)
    command = sample_command(recipe, layout.student_of(chosen.plan), chosen.steps, chosen.w)
    return Usage(title, (command,))


def _code_of(card: Path, folder: str, w: float) -> tuple[str, ...]:
    """Return the Python code of a model card, with path and guidance weight filled in.

    A network with a fixed w is called without guidance, whatever its w.
    """
    _, _, rest = card.read_text(encoding="utf-8").partition("```python\n")
    code = rest.partition("```")[0].replace(THIS_DIRECTORY, folder)
    code = _GUIDANCE_ARGUMENT.sub(f"guidance_scale={guidance_scale(w)!r}", code)
    return tuple(line for line in code.splitlines() if line)
