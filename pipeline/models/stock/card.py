"""The model card of an exported pipeline: how to use it, what not to do, where it comes from."""

from collections.abc import Mapping
from typing import Any

from pipeline.bundle import Manifest
from pipeline.diffusion.guidance import guidance_scale
from pipeline.documents import dump_yaml
from pipeline.models.stock.stock_pipeline import StockPipeline


def model_card(manifest: Manifest, stock: StockPipeline, facts: Mapping[str, Any]) -> str:
    """README.md of an exported pipeline, with the header that a model hub reads.

    Args:
        manifest: of the exported bundle.
        stock: the components that it was put into.
        facts: numbers and digests to be stated; `base_model` goes into the header.
    """
    sections = [
        _header(stock, facts),
        f"# {manifest.lineage.run}: {_what(manifest)}",
        _summary(manifest, stock),
        "## Use",
        _use(manifest, stock),
        "## Do not",
        "\n".join(f"- {line}" for line in _warnings(manifest, stock)),
        "## Where it comes from",
        _lineage(manifest),
        _table(facts),
        "## Limits",
        _LIMITS,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


THIS_DIRECTORY = "THIS DIRECTORY"
"""What a card calls the directory that it lies in."""

_LIMITS = (
    "It was trained to imitate its teacher and inherits what that got wrong, its biases included; "
    "its licence is the teacher's. Fewer steps mean less variety at high guidance. Judge it by "
    "samples of your own prompts before you rely on it."
)


def weights_told(manifest: Manifest, stock: StockPipeline) -> tuple[float, ...]:
    """The w that an exported network answers for: both ends and the middle, or the baked one."""
    if manifest.baked_w is not None:
        return (manifest.baked_w,)
    if manifest.w is not None:
        return manifest.w.min, manifest.w.middle, manifest.w.max
    return (0.0, 2.0) if manifest.knows_w or stock.guides(manifest) else (0.0,)


def steps_offered(manifest: Manifest) -> tuple[int, ...]:
    """The numbers of steps that are shown and checked."""
    if manifest.steps is not None:
        return manifest.steps
    return tuple(count for count in (8, 4, 1) if manifest.schedule.holds(count))


def _header(stock: StockPipeline, facts: Mapping[str, Any]) -> str:
    header: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": stock.task,
        "tags": ["diffusion-distillation", "guidance-distillation", "stepfold", stock.name],
    }
    base = facts.get("base_model") or stock.index.get("_name_or_path")
    if base and not str(base).startswith((".", "/")):  # a path says nothing to others
        header["base_model"] = str(base)
    return f"---\n{dump_yaml(header)}---"


def _what(manifest: Manifest) -> str:
    if manifest.role == "teacher":
        return "the guided teacher"
    if manifest.steps is None:
        return "guidance in one evaluation, for any number of steps"
    count = manifest.steps[0]
    return f"samples in {count} step{'s' if count > 1 else ''}"


def _summary(manifest: Manifest, stock: StockPipeline) -> str:
    lines = [f"A complete `{stock.name}` of stock diffusers, data only: safetensors and JSON."]
    if manifest.role == "teacher" and not manifest.knows_w:
        lines.append(
            "It is not distilled: guidance costs a second network evaluation in each step."
        )
    else:
        lines.append("Each step costs one network evaluation, guidance included.")
    if manifest.steps is not None:
        lines.append(f"It was made for `num_inference_steps={manifest.steps[0]}` and nothing else.")
    lines.append(_guidance(manifest, stock))
    return "\n".join(lines)


def _guidance(manifest: Manifest, stock: StockPipeline) -> str:
    if manifest.baked_w is not None:
        return (
            f"Guidance is baked in at w = {manifest.baked_w:g}, the teacher's `guidance_scale="
            f"{guidance_scale(manifest.baked_w):g}`, because {manifest.network.why_not_w}. Keep it "
            "off in the call: `guidance_scale=1.0`."
        )
    law = manifest.w
    if law is None and not (manifest.knows_w or stock.guides(manifest)):
        return "Its class cannot guide this network; it draws unguided."
    if law is None:
        return "`guidance_scale = 1 + w`; `guidance_scale=1.0` is unguided."
    low, middle, high = map(guidance_scale, (law.min, law.middle, law.max))
    return (
        f"It is told the guidance weight w, {law.in_words}, as "
        f"`guidance_scale = 1 + w`: from {low:g} to {high:g}, {middle:g} in the middle. w = 0 is "
        "unguided."
    )


def _use(manifest: Manifest, stock: StockPipeline) -> str:
    steps, weights = steps_offered(manifest)[0], weights_told(manifest, stock)
    call = stock.arguments(manifest, ["0"], steps=steps, w=weights[len(weights) // 2])
    call.pop("output_type")
    if "prompt" in call:
        call["prompt"] = "a photograph"
    given = [f"{name}={value!r}" for name, value in call.items()]
    given += [f"{name}={name}" for name in stock.inputs]
    others = ""
    if manifest.knows_w and stock.also_carry_w:
        others = f"\n\nThese classes tell it w too: {_listed(stock.also_carry_w)}."
    return (
        "```python\n"
        "from diffusers import DiffusionPipeline\n\n"
        f'pipeline = DiffusionPipeline.from_pretrained("{THIS_DIRECTORY}")\n'
        f"image = pipeline({', '.join(given)}).images[0]\n"
        f"```{others}"
    )


def _warnings(manifest: Manifest, stock: StockPipeline) -> list[str]:
    lines = [
        "Do not change the scheduler or its config: the network knows the times of this one only."
    ]
    if manifest.steps is not None:
        lines.append(
            f"Do not ask for another number of steps than {manifest.steps[0]}: more steps are "
            "worse, not better."
        )
    if manifest.w is not None and manifest.baked_w is None:
        lines.append("Do not ask for guidance outside its range; it was never told such w.")
    if manifest.role == "student":
        lines.append("Negative prompts have no effect: there is no second evaluation for them.")
    if manifest.knows_w and stock.drop_w:
        lines.append(
            f"Do not open it as {_listed(stock.drop_w)}: they never tell the network w, guide it a "
            "second time, and say nothing."
        )
    return lines


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _lineage(manifest: Manifest) -> str:
    lineage = manifest.lineage
    place = "the teacher" if lineage.round is None else f"round {lineage.round}"
    parent = f", distilled from `{lineage.parent}`" if lineage.parent else ""
    return (
        f"Run `{lineage.run}`, {place}{parent}. {manifest.role.capitalize()} on a "
        f"{manifest.schedule.kind} path, {manifest.prediction_type}, latents "
        f"{list(manifest.latent_shape)}."
    )


def _table(facts: Mapping[str, Any]) -> str:
    rows = [f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items()]
    return "\n".join(["| fact | |", "|---|---|", *rows]) if rows else ""
