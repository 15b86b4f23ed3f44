"""The command that draws with a network of a run, as people are told it."""

from pipeline.config import Recipe, UNetConfig


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
