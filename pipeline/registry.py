"""Registry of implementations: a new file of a package, or an entry point of another package."""

import difflib
import importlib
import logging
import pkgutil
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar, get_args

from pipeline.errors import ConfigError

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Registry(Generic[T]):
    """All subclasses of `base` in the modules below `package` that declare a name.

    A class declares it in its own body: `name: ClassVar[str] = "unet"`, or as the only value of
    a key of a document: `family: Literal["unet"]`. Modules are imported on first use of the
    registry, not when it is created.

    Other packages add entries by entry points of the group `entry_points`, each of which names a
    module with such classes. One that fails to import is logged by name; the others work.
    """

    def __init__(
        self,
        package: str,
        base: type[T],
        noun: str,
        *,
        known: Iterable[type[T]] = (),
        entry_points: str | None = None,
        tag: str = "name",
    ) -> None:
        """Declare a registry.

        Args:
            package: name of the package whose modules are scanned.
            base: base class of all entries.
            noun: what an entry is, for messages: `method`.
            known: entries of other modules, which are found without importing the package.
            entry_points: group of entry points; None for no entries of other packages.
            tag: attribute or key by which a class declares its name.
        """
        self._package = package
        self._base = base
        self._noun = noun
        self._tag = tag
        self._known = {str(self._declared(entry)): entry for entry in known}
        self._group = entry_points
        self._found: dict[str, type[T]] = {}
        self._failed: list[str] = []

    @property
    def known(self) -> dict[str, type[T]]:
        """The entries that are found without importing the package, by name."""
        return dict(self._known)

    def names(self) -> list[str]:
        """Return the registered names, sorted."""
        return sorted(self._scan())

    def get(self, name: str) -> type[T]:
        """Return the class registered as `name`.

        Raises:
            ConfigError: no class has this name.
        """
        if name in self._known:
            return self._known[name]
        found = self._scan()
        if name not in found:
            close = difflib.get_close_matches(name, found, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"use {', '.join(sorted(found))}"
            failed = "".join(f"; not imported: {each}" for each in self._failed)
            raise ConfigError(f"{self._noun} {name!r} does not exist; {advice}{failed}")
        return found[name]

    def _scan(self) -> dict[str, type[T]]:
        if not self._found:
            found, failed = dict(self._known), []
            package = importlib.import_module(self._package)
            for module_info in pkgutil.walk_packages(package.__path__, f"{self._package}."):
                self._add_module(found, importlib.import_module(module_info.name))
            for title, module in _announced(self._group) if self._group else ():
                if isinstance(module, ModuleType):
                    self._add_module(found, module)
                else:
                    failed.append(f"{title} ({module})")
            self._found, self._failed = found, failed
        return self._found

    def _add_module(self, found: dict[str, type[T]], module: ModuleType) -> None:
        for value in vars(module).values():
            if not isinstance(value, type) or not issubclass(value, self._base):
                continue
            name = self._declared(value)
            if name is None or value.__module__ != module.__name__ or found.get(name) is value:
                continue
            if name in found:
                raise ConfigError(
                    f"{self._noun} {name!r} is declared by both {found[name].__module__} and "
                    f"{value.__module__}; rename one"
                )
            found[name] = value

    def _declared(self, entry: type[Any]) -> str | None:
        """Return the name that a class declares in its own body; None for a base class."""
        own = vars(entry)
        if isinstance(own.get(self._tag), str):
            return str(own[self._tag])
        key = getattr(entry, "model_fields", {}).get(self._tag)
        values = get_args(key.annotation) if key else ()
        is_own = self._tag in own.get("__annotations__", {})
        return values[0] if is_own and len(values) == 1 and isinstance(values[0], str) else None


def _announced(group: str) -> Iterator[tuple[str, ModuleType | Exception]]:
    """Import the modules of a group of entry points; yield titles, and the error of a failure."""
    for point in entry_points(group=group):
        title = f"{point.name} of {point.dist.name if point.dist else point.module}"
        try:
            yield title, importlib.import_module(point.module)
        except Exception as error:
            if (group, title) not in _logged:
                _logged.add((group, title))
                _log.error("%s: %s is left out: %r", group, title, error)
            yield title, error


_logged: set[tuple[str, str]] = set()
"""Entry points whose failure is in the log: several registries share a group."""
