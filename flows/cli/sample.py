"""What `stepfold sample` and its like are asked to draw: a number, classes, or prompts."""

from collections.abc import Sequence

from pipeline.errors import ConfigError


def read_asked(
    num: int, labels: str | None, prompts: Sequence[str] | None
) -> int | tuple[int, ...] | tuple[str, ...]:
    """The options `--num 20`, `--labels 3,3,8` and `--prompt TEXT` as one; the last named wins.

    Raises:
        ConfigError: classes and prompts together, labels that are not whole numbers with commas
            between, or a prompt without a word.
    """
    if labels is not None and prompts:
        raise ConfigError("--labels and --prompt: a bundle is asked for one or the other; drop one")
    if prompts:
        if not all(prompt.strip() for prompt in prompts):
            raise ConfigError("--prompt: a prompt is empty; say what to draw")
        return tuple(prompts)
    if labels is None:
        return num
    try:
        return tuple(int(part) for part in labels.split(","))
    except ValueError:
        raise ConfigError(f"--labels {labels}: give class numbers, such as 3,3,8") from None


def read_one(label: int | None, prompt: str | None) -> int | str:
    """The options `--label 8` or `--prompt TEXT`.

    Raises:
        ConfigError: none of them, both, or a prompt without a word.
    """
    if (label is None) == (prompt is None):
        raise ConfigError(
            "--label and --prompt: say what to draw by one of them, a class or a sentence"
        )
    if prompt is None:
        return label or 0
    if not prompt.strip():
        raise ConfigError("--prompt: the prompt is empty; say what to draw")
    return prompt
