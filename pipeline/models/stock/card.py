"""The model card of an exported pipeline: usage, restrictions and provenance."""

from collections.abc import Mapping
from typing import Any

from pipeline.bundle import Manifest
from pipeline.diffusion.guidance import guidance_scale
from pipeline.documents import dump_yaml
from pipeline.models.stock.stock_pipeline import StockPipeline
from pipeline.wording import format_count


def model_card(manifest: Manifest, stock: StockPipeline, facts: Mapping[str, Any]) -> str:
    """Build the README.md of an exported pipeline, with the metadata header for model hubs.

    `facts` are the rows of its table; `base_model` also goes into the header.
    """
    sections = [
        _header(stock, facts),
        f"# {manifest.lineage.run}: {_description(manifest)}",
        _summary(manifest, stock),
        "## Use",
        _use(manifest, stock),
        "## Do not",
        "\n".join(f"- {line}" for line in _warnings(manifest, stock)),
        "## Provenance",
        _lineage(manifest),
        _table(facts),
        "## Limitations",
        _LIMITS,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def network_card(manifest: Manifest, facts: Mapping[str, Any]) -> str:
    """Build the README.md of a class-conditional student that has no stock pipeline.

    `facts` are the rows of its table.
    """
    steps, w = supported_steps(manifest)[0], manifest.w
    if w is None:
        raise ValueError("manifest.w is None; a student was trained with a distribution of w")
    names = ", ".join(f"{label} {name}" for label, name in enumerate(manifest.class_names))
    lines = (
        f"An `UNet2DConditionModel` on pixels, w {w.in_words}, w = 0 is unguided. Classes are 0 to "
        f"{manifest.num_classes - 1}{f': {names}' if names else ''}.",
        f"```bash\npython sample.py --steps {steps} --w {w.middle:g} --labels 0 1 --output "
        "images.pt\n```",
    )
    warnings = [
        "Do not call the network without `timestep_cond`: it then ignores w, without a warning.",
        "Do not change the scheduler or its config: the network was trained at its times only.",
    ]
    if manifest.own_steps is not None:
        warnings.append(f"Do not use a step count other than {manifest.own_steps}.")
    header = dump_yaml({"library_name": "diffusers", "tags": ["guidance-distillation", "stepfold"]})
    sections = [
        f"---\n{header}---",
        f"# {manifest.lineage.run}: {_description(manifest)}",
        *("## Use", *lines),
        *("## Do not", "\n".join(f"- {line}" for line in warnings)),
        *("## Provenance", _lineage(manifest), _table(facts)),
        *("## Limitations", _LIMITS.replace("prompts", "classes")),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


THIS_DIRECTORY = "THIS DIRECTORY"
"""Placeholder for the card's own directory."""

_LIMITS = (
    "The model was trained to imitate its teacher and inherits the teacher's errors and biases. "
    "Its licence is the teacher's. Fewer steps reduce diversity at high guidance. Check samples of "
    "your own prompts before you rely on it."
)


def supported_weights(manifest: Manifest, stock: StockPipeline) -> tuple[float, ...]:
    """List guidance weights in the network's range: both ends and the middle, or the baked-in w."""
    if manifest.baked_w is not None:
        return (manifest.baked_w,)
    if manifest.w is not None:
        return manifest.w.min, manifest.w.middle, manifest.w.max
    return (0.0, 2.0) if manifest.is_w_conditioned or stock.guides(manifest) else (0.0,)


def supported_steps(manifest: Manifest) -> tuple[int, ...]:
    """List the step counts that the card shows and the parity check uses."""
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
    if base and not str(base).startswith((".", "/")):  # a local path is not useful to others
        header["base_model"] = str(base)
    return f"---\n{dump_yaml(header)}---"


def _description(manifest: Manifest) -> str:
    if manifest.role == "teacher":
        return "the guided teacher"
    if manifest.own_steps is None:
        return "guidance in one evaluation, for any number of steps"
    return f"samples in {format_count(manifest.own_steps, 'step')}"


def _summary(manifest: Manifest, stock: StockPipeline) -> str:
    lines = [f"A complete `{stock.name}` of stock diffusers, data only: safetensors and JSON."]
    if manifest.role == "teacher" and not manifest.is_w_conditioned:
        lines.append(
            "It is not distilled: guidance takes a second network evaluation in each step."
        )
    else:
        lines.append("Each step takes one network evaluation, including guidance.")
    if manifest.own_steps is not None:
        lines.append(f"It supports `num_inference_steps={manifest.own_steps}` only.")
    lines.append(_guidance(manifest, stock))
    return "\n".join(lines)


def _guidance(manifest: Manifest, stock: StockPipeline) -> str:
    if manifest.baked_w is not None:
        return (
            f"Guidance is baked in at w = {manifest.baked_w:g}, the teacher's `guidance_scale="
            f"{guidance_scale(manifest.baked_w):g}`, because {manifest.network.why_not_w}. Keep it "
            "off in the call: `guidance_scale=1.0`."
        )
    trained = manifest.w
    if trained is None and not (manifest.is_w_conditioned or stock.guides(manifest)):
        return "Its pipeline class cannot guide this network; samples are unguided."
    if trained is None:
        return "`guidance_scale = 1 + w`; `guidance_scale=1.0` is unguided."
    low, middle, high = map(guidance_scale, (trained.min, trained.middle, trained.max))
    return (
        f"The network is conditioned on the guidance weight w, {trained.in_words}, passed as "
        f"`guidance_scale = 1 + w`: from {low:g} to {high:g}, {middle:g} in the middle. w = 0 is "
        "unguided."
    )


def _use(manifest: Manifest, stock: StockPipeline) -> str:
    steps, weights = supported_steps(manifest)[0], supported_weights(manifest, stock)
    call = stock.arguments(manifest, ["0"], steps=steps, w=weights[len(weights) // 2])
    call.pop("output_type")
    if "prompt" in call:
        call["prompt"] = "a photograph"
    given = [f"{name}={value!r}" for name, value in call.items()]
    given += [f"{name}={name}" for name in stock.inputs]
    others = ""
    if manifest.is_w_conditioned and stock.w_passing_classes:
        others = (
            f"\n\nThese classes also pass w to the network: {_listed(stock.w_passing_classes)}."
        )
    return (
        "```python\n"
        "from diffusers import DiffusionPipeline\n\n"
        f'pipeline = DiffusionPipeline.from_pretrained("{THIS_DIRECTORY}")\n'
        f"image = pipeline({', '.join(given)}).images[0]\n"
        f"```{others}"
    )


def _warnings(manifest: Manifest, stock: StockPipeline) -> list[str]:
    lines = [
        "Do not change the scheduler or its config: the network was trained at its times only."
    ]
    if manifest.steps is not None:
        lines.append(
            f"Do not use a step count other than {manifest.own_steps}: more steps are worse, "
            "not better."
        )
    if manifest.w is not None and manifest.baked_w is None:
        lines.append("Do not use guidance outside its range; the network was not trained there.")
    if manifest.role == "student":
        lines.append("Negative prompts have no effect: there is no second evaluation for them.")
    if manifest.is_w_conditioned and stock.w_ignoring_classes:
        lines.append(
            f"Do not load it as {_listed(stock.w_ignoring_classes)}: these classes do not pass w "
            "to the network, and apply guidance a second time without a warning."
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
