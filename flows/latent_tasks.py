"""The tasks of networks of latents: what surrounds them, what they see, and the way back."""

from flows.run import Run
from flows.stage_task import perform, skipped, stage_task, telling
from pipeline.ledger import Artifact, Ledger
from pipeline.training.round_plan import RoundPlan
from stages import adopt, components, encode, export, facts


@stage_task
def components_task(run: Run, label: str, data: Artifact) -> Artifact:
    """What surrounds a network of latents in its stock pipeline: taken in, or trained here."""
    recipe, run_dir = run.recipe, run.run_dir
    is_given = recipe.teacher.pipeline is not None
    if is_given:
        key = adopt.adopted_components_key(recipe)
    else:
        key = components.components_key(recipe, data)
    found = Ledger(run_dir).find(key)
    if found:
        return skipped(run, label, found)
    if is_given:
        return perform(run, label, lambda: adopt.adopt_components(run_dir, recipe))
    return perform(
        run,
        label,
        lambda: components.components(run_dir, recipe, data=data, progress=telling(run, label)),
    )


@stage_task
def encode_task(run: Run, label: str, data: Artifact, parts: Artifact) -> Artifact:
    """The data as the network sees it: latents and embedded captions."""
    found = Ledger(run.run_dir).find(encode.encode_key(run.recipe, data, parts))
    if found:
        return skipped(run, label, found)
    return perform(
        run,
        label,
        lambda: encode.encode(
            run.run_dir,
            run.recipe,
            run.profile,
            data=data,
            components=parts,
            progress=telling(run, label),
        ),
    )


@stage_task
def export_task(
    run: Run, label: str, plan: RoundPlan, student: Artifact, parts: Artifact, report: Artifact
) -> Artifact:
    """The student as a stock pipeline that draws what we draw, with its numbers on its card."""
    stated = facts.report_facts(run.run_dir, report, plan)
    found = Ledger(run.run_dir).find(export.export_key(student, parts, stated))
    if found:
        return skipped(run, label, found)
    return perform(
        run, label, lambda: export.export_student(run.run_dir, student, parts, facts=stated)
    )
