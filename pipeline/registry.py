"""Registry of implementations: a new file of a package, or an entry point of another package."""

import difflib
import importlib
import logging
import pkgutil
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from pipeline.errors import ConfigError

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Registry(Generic[T]):
    """All subclasses of `base` in the modules below `package` that declare a name.

    A class declares it in its own body: `name: ClassVar[str] = "unet"`. Modules are imported on
    first use of the registry, not when it is created.

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
    ) -> None:
        """Declare a registry.

        Args:
            package: name of the package whose modules are scanned.
            base: base class of all entries.
            noun: what an entry is, for messages: `method`.
            known: entries of other modules, which are found without importing the package.
            entry_points: group of entry points; None for no entries of other packages.
        """
        self._package = package
        self._base = base
        self._noun = noun
        self._known = {vars(entry)["name"]: entry for entry in known}
        self._group = entry_points
        self._found: dict[str, type[T]] = {}

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
            raise ConfigError(f"{self._noun} {name!r} does not exist; {advice}")
        return found[name]

    def _scan(self) -> dict[str, type[T]]:
        if not self._found:
            self._found = dict(self._known)
            package = importlib.import_module(self._package)
            for module_info in pkgutil.walk_packages(package.__path__, f"{self._package}."):
                self._add_module(module_info.name)
            for point in entry_points(group=self._group) if self._group else ():
                try:
                    self._add_module(point.module)
                except ImportError as error:
                    _log.error("%s: entry point %s is left out: %s", self._group, point.name, error)
        return self._found

    def _add_module(self, name: str) -> None:
        module = importlib.import_module(name)
        for value in vars(module).values():
            if self._is_entry(value, module.__name__):
                self._add(value)

    def _add(self, entry: type[T]) -> None:
        name = vars(entry)["name"]
        if name in self._found:
            raise ConfigError(
                f"{self._noun} {name!r} is declared by both {self._found[name].__module__} and "
                f"{entry.__module__}; rename one"
            )
        self._found[name] = entry

    def _is_entry(self, value: object, module: str) -> bool:
        return (
            isinstance(value, type)
            and issubclass(value, self._base)
            and value.__module__ == module
            and isinstance(vars(value).get("name"), str)
        )
