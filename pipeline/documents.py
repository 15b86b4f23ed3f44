"""Read, validate and write configuration documents in YAML 1.2.

YAML is read by `ruamel.yaml` with the rules of version 1.2: `1e-4` is a number, `010` is ten, and
`no`, `off` and `1:30` are text. Duplicate keys, aliases and unknown keys are errors.
"""

import difflib
import fnmatch
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError, MaxDepthExceededError
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node
from ruamel.yaml.resolver import VersionedResolver

from pipeline.errors import ConfigError

_MAX_DEPTH = 64
"""Levels of nesting; the deepest key of a recipe or profile is at level 5."""


class Document(BaseModel):
    """Base of all configuration types: immutable, finite numbers only, unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    renamed: ClassVar[Mapping[str, str]] = {}
    """Paths of keys that were renamed, with `*` for any key, and the new name of the last key."""

    replaced: ClassVar[Mapping[str, str]] = {}
    """Paths of keys that were removed, with `*` for any key, and what to use in their place."""

    @model_validator(mode="before")
    @classmethod
    def _booleans_are_not_numbers(cls, tree: Any) -> Any:
        for name, value in tree.items() if isinstance(tree, dict) else ():
            field = cls.model_fields.get(name)
            if field and _contains_bool(value) and not _accepts_bool(field.annotation):
                raise ValueError(f"{name}: expected a number or text, got {value!r}")
        return tree


def _contains_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list) and any(map(_contains_bool, value)))


def _accepts_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(_accepts_bool(part) for part in get_args(annotation))


D = TypeVar("D", bound=Document)


class OpenUnion:
    """Annotation of a key that holds one of several documents, some of them in other packages.

    A key of the document selects it. The JSON schema lists the shipped documents only.
    """

    def __init__(
        self, tag: str, shipped: Mapping[str, type[Document]], find: Callable[[str], type[Document]]
    ) -> None:
        """Declare the documents.

        Args:
            tag: key that selects the document.
            shipped: documents that are always known, by their value of that key.
            find: returns the document of another value, and raises ConfigError if there is none.
        """
        self.members = list(shipped.values())
        self._tag = tag
        self._shipped = dict(shipped)
        self._find = find

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate shipped documents as a union, and look up others by their name."""
        return core_schema.no_info_wrap_validator_function(
            self._validate,
            handler.generate_schema(self._union(*self._shipped.values())),
            serialization=core_schema.wrap_serializer_function_ser_schema(
                lambda value, dump: dump(value), schema=core_schema.any_schema()
            ),
        )

    def _validate(self, value: Any, shipped: Callable[[Any], Any]) -> Any:
        is_tree = isinstance(value, dict)
        name = value.get(self._tag) if is_tree else getattr(value, self._tag, None)
        if not isinstance(name, str) or name in self._shipped:
            return shipped(value)
        try:
            found = self._find(name)
        except ConfigError as error:
            problem = PydanticCustomError("unknown_name", "{reason}", {"reason": str(error)})
            details = InitErrorDetails(type=problem, loc=(self._tag,), input=value)
            raise ValidationError.from_exception_data(self._tag, [details]) from None
        if found not in self.members:
            self.members.append(found)
        # in a union, so that locations of errors hold the name as they do for shipped documents
        return TypeAdapter(self._union(self.members[0], found)).validate_python(value)

    def _union(self, *documents: type[Document]) -> Any:
        return Annotated[Union[documents], Field(discriminator=self._tag)]  # noqa: UP007 (a tuple)


class _Resolver(VersionedResolver):
    """Apply the rules of YAML 1.2, even to a document with a `%YAML 1.1` directive."""

    @property
    def processing_version(self) -> tuple[int, int]:
        return (1, 2)


class _Composer(Composer):
    """Refuse aliases: a few lines of them can expand to more values than fit into memory."""

    def compose_node(self, parent: Node | None, index: Any) -> Any:
        if self.parser.check_event(AliasEvent):
            mark = self.parser.peek_event().start_mark
            raise ComposerError(None, None, "aliases (*) are not supported; repeat the value", mark)
        return super().compose_node(parent, index)


class _Constructor(SafeConstructor):
    """Build plain Python values from mappings with unique keys of type text."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 (signature of ruamel.yaml)
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                shown = f"key {key.value}" if isinstance(key.value, str) else "a list or mapping"
                problem = f"{shown} is not text; quote it"
                raise ConstructorError(None, None, problem, key.start_mark)
            if key.value in seen:
                raise ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver, yaml.Composer, yaml.Constructor = _Resolver, _Composer, _Constructor
    yaml.max_depth = _MAX_DEPTH
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # typed as None
    yaml.width = 100
    return yaml


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Parse a YAML mapping; `source` names the document in errors.

    Raises:
        ConfigError: not valid YAML, or not a mapping.
    """
    try:
        tree = _yaml().load(text)
    except MaxDepthExceededError:
        raise ConfigError(f"{source}: nested deeper than {_MAX_DEPTH} levels") from None
    except (YAMLError, ValueError) as error:  # ValueError: a malformed date or number
        raise ConfigError(f"{source}: not valid YAML{_problem(error)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected keys and values, got {type(tree).__name__}")
    return tree


def _problem(error: Exception) -> str:
    """Return the problem in one line, with the number of the line in the document if known."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return f": {' '.join(str(error).split())}"
    parts = [" ".join(part.split()) for part in (error.context, error.problem) if part]
    return f", line {error.problem_mark.line + 1}: {': '.join(parts)}"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read and parse a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not valid YAML, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); check the path") from None
    return parse_yaml(text, str(path))


def dump_yaml(tree: Mapping[str, Any]) -> str:
    """Return a mapping as YAML, with its keys in the given order."""
    stream = io.StringIO()
    _yaml().dump(dict(tree), stream)
    return stream.getvalue()


def to_yaml(document: Document) -> str:
    """Return the complete document, defaults included, as YAML in order of declaration."""
    return dump_yaml(document.model_dump(mode="json"))


def apply_override(tree: dict[str, Any], assignment: str) -> None:
    """Set `a.b=value` in `tree`; the value is parsed as YAML.

    Raises:
        ConfigError: the assignment has no `=`, its value is not valid YAML, or its path leads
            through a value that is not a mapping.
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
        ConfigError: one line per problem, each with the path of its key; for a misspelt key with
            a suggestion.
    """
    try:
        return document.model_validate(tree)
    except ValidationError as error:
        problems = [_explain(document, dict(problem)) for problem in error.errors()]
        raise ConfigError("\n".join(f"{source}: {problem}" for problem in problems)) from None


def _explain(document: type[Document], problem: dict[str, Any]) -> str:
    path, models = _walk(document, problem["loc"])
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        for pattern, name in document.renamed.items():
            if fnmatch.fnmatchcase(key, pattern):
                return f"{key}: renamed to {'.'.join([*path[:-1], name])}"
        for pattern, advice in document.replaced.items():
            if fnmatch.fnmatchcase(key, pattern):
                return f"{key}: was replaced; {advice}"
        known = sorted({name for model in models for name in model.model_fields})
        close = difflib.get_close_matches(path[-1], known, n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"{key}: unknown key; {advice}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "union_tag_not_found":
        message = f"key {problem['ctx']['discriminator']} is missing; it selects the other keys"
    silent = isinstance(problem.get("input"), dict | list | BaseModel)
    if not silent and problem["type"] != "missing":
        message += f" (got {problem.get('input')!r})"
    return f"{key}: {message}" if path else message


def _walk(
    document: type[BaseModel], location: Sequence[int | str]
) -> tuple[list[str], list[type[BaseModel]]]:
    """Return the keys of a pydantic error location, and the models that the last key belongs to.

    pydantic includes the selected member of a union in the location; it is not a key.
    """
    path: list[str] = []
    models: list[type[BaseModel]] = [document]
    owners = models
    for place, part in enumerate(location):
        chosen = [model for model in models if _is_tagged(model, part)]
        if len(models) > 1 and chosen:  # before fields: another member may have one of this name
            models = chosen
            continue
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        if fields:
            owners, models = models, [found for field in fields for found in _models_of(field)]
        elif isinstance(part, str):
            if not models:
                continue  # the name of a plain type
            if place == len(location) - 1:
                owners = models  # an unknown key; elsewhere the key of a mapping
        path.append(str(part))
    return path, owners


def _is_tagged(model: type[BaseModel], tag: int | str) -> bool:
    annotations = [field.annotation for field in model.model_fields.values()]
    return any(get_origin(a) is Literal and get_args(a) == (tag,) for a in annotations)


def _models_of(field: FieldInfo) -> list[type[BaseModel]]:
    opened = [part for part in field.metadata if isinstance(part, OpenUnion)]
    return [*opened[0].members] if opened else _models_in(field.annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a tree with their paths: `("evaluation.w", ...)`; lists are values."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
