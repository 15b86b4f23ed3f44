"""Registry of implementations, found by scanning a package: a new file is a new entry."""

import importlib
import pkgutil
from typing import Generic, TypeVar

from pipeline.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """All subclasses of `base` in the modules below `package` that declare a name.

    A class declares it in its own body: `name: ClassVar[str] = "unet"`. Modules are imported on
    first use of the registry, not when it is created.
    """

    def __init__(self, package: str, base: type[T]) -> None:
        self._package = package
        self._base = base
        self._found: dict[str, type[T]] = {}

    def names(self) -> list[str]:
        """Return the registered names, sorted."""
        return sorted(self._scan())

    def get(self, name: str) -> type[T]:
        """Return the class registered as `name`.

        Raises:
            ConfigError: no class has this name.
        """
        found = self._scan()
        if name not in found:
            raise ConfigError(
                f"{self._base.__name__} {name!r} does not exist; use one of "
                f"{', '.join(sorted(found))}"
            )
        return found[name]

    def _scan(self) -> dict[str, type[T]]:
        if not self._found:
            package = importlib.import_module(self._package)
            for module_info in pkgutil.walk_packages(package.__path__, f"{self._package}."):
                module = importlib.import_module(module_info.name)
                for value in vars(module).values():
                    if self._is_entry(value, module.__name__):
                        self._add(value)
        return self._found

    def _add(self, entry: type[T]) -> None:
        name = vars(entry)["name"]
        if name in self._found:
            raise TypeError(
                f"name {name!r} is declared by both {entry.__module__} and "
                f"{self._found[name].__module__}; use distinct names"
            )
        self._found[name] = entry

    def _is_entry(self, value: object, module: str) -> bool:
        return (
            isinstance(value, type)
            and issubclass(value, self._base)
            and value.__module__ == module
            and isinstance(vars(value).get("name"), str)
        )
