"""Class names: their order, and the class that a name or a number stands for.

Names that are the numbers 0 to n - 1 in order add nothing to the numbers, and are not recorded. As
in diffusers' `DiTPipeline.labels`, the parts of a name between commas are synonyms.
"""

from collections.abc import Sequence
from itertools import pairwise

from pipeline.errors import ConfigError, DataError

_SHOWN = 12


def in_order(names: Sequence[str]) -> list[str]:
    """Sort class names: by number if all are numbers, else by code points.

    Raises:
        DataError: two names are the same number.
    """
    if not names or not all(map(_is_number, names)):
        return sorted(names)
    ordered = sorted(names, key=lambda name: (int(name), name))
    for name, following in pairwise(ordered):
        if int(name) == int(following):
            raise DataError(
                f"classes {name} and {following} are the same number; rename or join them"
            )
    return ordered


def names_to_record(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, or none if they are the numbers 0 to n - 1 in order."""
    are_numbers = all(_is_number(name) and int(name) == at for at, name in enumerate(names))
    return () if are_numbers else tuple(names)


def find_class(text: str, names: Sequence[str], num_classes: int, key: str) -> int:
    """Return the class of a name, a synonym, or a number if no name is a number.

    Args:
        text: name or number.
        names: recorded class names; empty if classes are numbers only.
        num_classes: number of classes.
        key: option or key of `text`, for the message.

    Raises:
        ConfigError: there is no such class, or several.
    """
    found = _classes_called(text, names)
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"{key} {text}: classes {', '.join(map(str, found))} have this name; give the number"
        )
    has_numbers = not any(map(_is_number, names))
    if has_numbers and _is_number(text.strip()) and int(text) < num_classes:
        return int(text)
    numbers = f"classes 0 to {num_classes - 1}"
    if not names:
        raise ConfigError(f"{key} {text}: this bundle has {numbers}; give one of these numbers")
    also = f", or a number of {numbers}" if has_numbers else ""
    raise ConfigError(
        f"{key} {text}: not a class of this bundle; use one of {list_names(names)}{also}"
    )


def match_classes(names: Sequence[str], teacher: Sequence[str], place: str) -> tuple[int, ...]:
    """Return the teacher's class of each class of the data, by name or else by number.

    Args:
        names: class names of the data.
        teacher: recorded class names of the teacher; empty if its classes are numbers only.
        place: the teacher, for the message.

    Raises:
        ConfigError: the names are neither the teacher's nor its numbers; the message has both.
    """
    called = [_classes_called(name, teacher) for name in names]
    by_name = tuple(found[0] for found in called if len(found) == 1)
    expected = set(range(len(teacher) or len(names)))
    if len(by_name) == len(names) == len(set(by_name)) and set(by_name) == expected:
        return by_name
    numbers = tuple(int(name) for name in names if _is_number(name))
    if len(numbers) == len(names) and set(numbers) == expected:
        return numbers
    others = [name for name, found in zip(names, called, strict=True) if len(found) != 1]
    without = [name for label, name in enumerate(teacher) if label not in by_name]
    known = f"named {list_names(without or teacher)}" if teacher else "numbers only"
    raise ConfigError(
        f"data: {len(names)} classes named {list_names(others or names)}, but {place} has "
        f"{len(expected)} classes, {known}; name the data's classes as the teacher's, or by its "
        f"numbers 0 to {len(expected) - 1}"
    )


def list_names(names: Sequence[str]) -> str:
    """List names for a message; of many, the first twelve."""
    shown = ", ".join(repr(name) if "," in name else name for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _classes_called(text: str, names: Sequence[str]) -> list[int]:
    """Return the classes of exactly this name, else those with this synonym."""
    exact = [label for label, name in enumerate(names) if text in (name, name.strip())]
    if exact:
        return exact
    word = text.strip()
    return [
        label
        for label, name in enumerate(names)
        if word in [synonym.strip() for synonym in name.split(",")]
    ]
