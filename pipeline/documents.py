"""Read YAML documents strictly and turn them into typed objects.

YAML has traps that lose an experiment silently: `1e-4` is text, not a number, `1:30` is the number
90, and of two equal keys the last one wins; and Python takes `true` for the number 1. All are
refused here, and so is every key the type does not know.
"""

import difflib
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from pipeline.errors import ConfigError


class Document(BaseModel):
    """Base of every configuration object: frozen, finite, and unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, tree: Any) -> Any:
        for name, value in tree.items() if isinstance(tree, dict) else ():
            field = cls.model_fields.get(name)
            if field and _holds_truth(value) and not _takes_truth(field.annotation):
                raise ValueError(f"{name}: expected a number or text, got {value!r}")
        return tree


def _holds_truth(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list) and any(map(_holds_truth, value)))


def _takes_truth(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(_takes_truth(part) for part in get_args(annotation))


D = TypeVar("D", bound=Document)

_LOOKS_LIKE_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+")


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, minus what it forgives."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse aliases: a few lines of them stand for more values than there is memory."""
        if self.check_event(yaml.AliasEvent):
            raise ConfigError("a value is repeated by an alias (*); write it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 (PyYAML's signature)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigError(f"key {key!r} in line {line} is not text; quote it")
            if key in seen:
                raise ConfigError(f"key {key!r} stands twice (again in line {line}); remove one")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_str(self, node: yaml.ScalarNode) -> str:
        """Refuse plain text that a person would take for a number."""
        if node.style is None and _LOOKS_LIKE_NUMBER.fullmatch(node.value):
            mantissa, exponent = re.split("[eE]", node.value)
            sign = exponent if exponent[0] in "+-" else f"+{exponent}"
            better = f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}"
            raise ConfigError(
                f"{node.value} in line {node.start_mark.line + 1} is text to YAML, not a number; "
                f"write {better}"
            )
        return str(node.value)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Refuse the sexagesimal numbers of YAML 1.1."""
        _refuse_base_60(node)
        return int(super().construct_yaml_int(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Refuse them with a fraction, too."""
        _refuse_base_60(node)
        return float(super().construct_yaml_float(node))


def _refuse_base_60(node: yaml.ScalarNode) -> None:
    if ":" in node.value:
        raise ConfigError(
            f"{node.value} in line {node.start_mark.line + 1} is a number in base 60 to YAML; "
            "write it in base 10, or quote it"
        )


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_yaml_float)
_StrictLoader.add_constructor("tag:yaml.org,2002:str", _StrictLoader.construct_yaml_str)


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Parse a YAML mapping strictly; `source` names the document in errors."""
    try:
        tree = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (derives from SafeLoader)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # what looks like a date or a number and is none, or is nested without end
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected keys and values, got {type(tree).__name__}")
    return tree


def read_yaml(path: Path) -> dict[str, Any]:
    """Read and parse a YAML file strictly."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); check the path") from None
    return parse_yaml(text, str(path))


def apply_override(tree: dict[str, Any], assignment: str) -> None:
    """Set `a.b=value` in `tree`; the value is read as strict YAML.

    Raises:
        ConfigError: the assignment has no `=`, or its path runs through something not a mapping.
    """
    path, separator, value = assignment.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set {assignment}: expected KEY.KEY=VALUE")
    here = tree
    for key in keys[:-1]:
        here = here.setdefault(key, {})
        if not isinstance(here, dict):
            raise ConfigError(f"--set {assignment}: {key} holds a value, not keys")
    here[keys[-1]] = parse_yaml(f"value: {value}", f"--set {assignment}")["value"]


def build(document: type[D], tree: dict[str, Any], source: str) -> D:
    """Validate `tree` as `document`.

    Raises:
        ConfigError: one line per problem, with the path of the key and a suggestion for misspelt
            ones.
    """
    try:
        return document.model_validate(tree)
    except ValidationError as error:
        problems = [_explain(document, dict(problem)) for problem in error.errors()]
        raise ConfigError("\n".join(f"{source}: {problem}" for problem in problems)) from None


def _explain(document: type[BaseModel], problem: dict[str, Any]) -> str:
    path, models = _walk(document, problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = sorted({name for model in models for name in model.model_fields})
        close = difflib.get_close_matches(path[-1], known, n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"{'.'.join(path)}: unknown key; {advice}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "union_tag_not_found":
        message = (
            f"key {problem['ctx']['discriminator']} is missing, which says what the rest means"
        )
    got = problem.get("input")
    silent = isinstance(got, dict | list | BaseModel) or problem["type"] == "missing"
    shown = "" if silent else f" (got {got!r})"
    return f"{'.'.join(path)}: {message}{shown}" if path else f"{message}"


def _walk(
    document: type[BaseModel], location: Sequence[int | str]
) -> tuple[list[str], list[type[BaseModel]]]:
    """The path of keys in a pydantic error location, and the models the last key belongs to.

    pydantic puts the chosen member of a union into the location; it is no key of the document.
    """
    path: list[str] = []
    models: list[type[BaseModel]] = [document]
    owners = models
    for place, part in enumerate(location):
        chosen = [model for model in models if _is_tagged(model, part)]
        if len(models) > 1 and chosen:  # before fields: another member may have one of this name
            models = chosen
            continue
        annotations = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if annotations:
            owners, models = models, [found for a in annotations for found in _models_in(a)]
        elif isinstance(part, str):
            if place < len(location) - 1 or not models:
                continue  # the name of a plain type
            owners = models  # an unknown key
        path.append(str(part))
    return path, owners


def _is_tagged(model: type[BaseModel], tag: int | str) -> bool:
    annotations = [field.annotation for field in model.model_fields.values()]
    return any(get_origin(a) is Literal and get_args(a) == (tag,) for a in annotations)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


class _StrictDumper(yaml.SafeDumper):
    """PyYAML's safe dumper, quoting the text that the strict loader would refuse unquoted."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "'" if _LOOKS_LIKE_NUMBER.fullmatch(text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_StrictDumper.add_representer(str, _StrictDumper.represent_text)


def to_yaml(document: Document) -> str:
    """The document in full, defaults included, as YAML in declaration order."""
    text: str = yaml.dump(
        document.model_dump(mode="json"),
        Dumper=_StrictDumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )
    return text


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a tree, each with its path: `("evaluation.w", ...)`; lists are values."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
