"""The files of a diffusers pipeline directory: which are needed, and which are not allowed.

Only JSON is read and no heavy module is imported, so that a recipe with a pipeline is validated
quickly. Directories with code or pickles are rejected.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import BundleError

INDEX = "model_index.json"

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
_DATA = {".json", ".txt", ".model", ".safetensors"}
_PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
_PINNED = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")
_STOCK_LIBRARIES = {"diffusers", "transformers"}
_SAFETY_CHECKER = ["stable_diffusion", "StableDiffusionSafetyChecker"]


def locate_pipeline(given: str) -> Path:
    """Resolve `teacher.pipeline` to a directory: a path, or `org/name@COMMIT`, which is downloaded.

    Only data files are downloaded: safetensors, JSON and tokenizer files. A name without a 40-digit
    commit is returned unchanged and rejected later, because a branch can change.

    Raises:
        BundleError: the hub is unreachable and the pipeline is not in the cache.
    """
    pinned = _PINNED.fullmatch(given)
    if pinned is None or Path(given).is_dir():
        return Path(given)
    from huggingface_hub import snapshot_download  # slow import (0.5 s), needed only here
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            pinned["id"],
            revision=pinned["revision"],
            allow_patterns=[f"*{suffix}" for suffix in sorted(_DATA)],
            library_name="stepfold",
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BundleError(
            f"teacher.pipeline: {given} cannot be downloaded "
            f"({' '.join(str(error).split())[:200]}); check name and network, or download it "
            "elsewhere and give its directory"
        ) from None
    return Path(found)


def read_index(directory: Path) -> dict[str, Any]:
    """Read the `model_index.json` of a pipeline directory.

    Raises:
        BundleError: not a diffusers pipeline directory, or the name of a pipeline on a hub.
    """
    if not directory.is_dir():
        raise BundleError(_missing_directory(directory))
    if not (directory / INDEX).is_file():
        raise BundleError(
            f"{directory} is not a pipeline: it has no {INDEX}; give a directory that "
            "`save_pretrained` wrote"
        )
    return read_json(directory / INDEX)


def _missing_directory(directory: Path) -> str:
    hub = _HUB_ID.fullmatch(str(directory))
    if hub is None:
        return f"{directory} is not a directory; give one that `save_pretrained` wrote"
    return (
        f"{directory} is not a directory; if it is a pipeline on a hub, pin it to a commit, "
        f"{hub['id']}@ and its 40 digits, or download it with `hf download {hub['id']} --revision "
        f"{hub['revision'] or 'SHA'} --local-dir DIR` and set teacher.pipeline: DIR"
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        BundleError: the file is missing or damaged.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}), so the pipeline is incomplete; copy it "
            "again"
        ) from None
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error}); copy the pipeline again") from None
    if not isinstance(tree, dict):
        raise BundleError(
            f"{path}: expected a JSON object, got a {type(tree).__name__}; copy the pipeline again"
        )
    return tree


def check_parts(
    directory: Path, index: dict[str, Any], expected: dict[str, tuple[str, ...]]
) -> None:
    """Check that the pipeline has all its parts, and that all parts are stock classes.

    Raises:
        BundleError: a part is missing or not supported; the message names it.
    """
    for part, classes in expected.items():
        library, name = _library_and_class(index.get(part))
        if name is None:
            raise BundleError(f"{directory} has no {part}; give a complete pipeline")
        if library not in _STOCK_LIBRARIES or name not in classes:
            raise BundleError(
                f"{directory}: its {part} is {library}.{name}, expected a stock "
                f"{' or '.join(classes)}; other classes and custom code are not loaded"
            )
    for part in _parts(index):
        library, name = _library_and_class(index[part])
        if library not in _STOCK_LIBRARIES and [library, name] != _SAFETY_CHECKER:
            raise BundleError(
                f"{directory}: its {part} is {library}.{name}, not a class of diffusers or "
                f"transformers; custom code is not loaded"
            )
        if not re.fullmatch(r"\w+", part) or not (directory / part).is_dir():
            raise BundleError(f"{directory} has no folder {part}; give a complete pipeline")


def _library_and_class(entry: Any) -> tuple[Any, Any]:
    named = isinstance(entry, list) and len(entry) == 2
    return (entry[0], entry[1]) if named else (None, None)


def _parts(index: dict[str, Any]) -> Iterator[str]:
    """Iterate over the names of the parts listed in `model_index.json`."""
    for key, entry in index.items():
        if not key.startswith("_") and _library_and_class(entry)[1] is not None:
            yield key


def check_data_only(directory: Path, index: dict[str, Any]) -> None:
    """Check that there is no code, and that all weights are safetensors.

    Raises:
        BundleError: a file is not allowed; the message names it.
    """
    for file in sorted(directory.rglob("*.py")):
        raise BundleError(
            f"{directory} holds code ({file.relative_to(directory)}), which is never run; remove it"
        )
    for part in _parts(index):
        for path in sorted((directory / part).glob("*config.json")):
            if "auto_map" in read_json(path):
                raise BundleError(
                    f"{path}: auto_map refers to custom code, which is never run; use a stock class"
                )
        weight_files(directory / part)


def weight_files(folder: Path) -> list[str]:
    """List the safetensors files that stock loaders read, with their index if they are sharded.

    The list is empty for a part without weights, such as a tokenizer.

    Raises:
        BundleError: there are only pickles or variants, a shard is missing, or the index refers to
            a path outside the folder.
    """
    if not (folder / "config.json").is_file():
        return []
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return [name]
        if (folder / f"{name}.index.json").is_file():
            return [f"{name}.index.json", *_shards(folder, f"{name}.index.json")]
    raise BundleError(_missing_weights(folder))


def _shards(folder: Path, index: str) -> list[str]:
    places = read_json(folder / index).get("weight_map")
    names = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
    if not names:
        raise BundleError(f"{folder / index} has no weight_map; copy the pipeline again")
    for name in names:
        if Path(name).name != name or Path(name).suffix != ".safetensors":
            raise BundleError(
                f"{folder / index}: unsafe shard name {name!r}; only names of safetensors files in "
                "the same folder are allowed, so do not use this pipeline"
            )
        if not (folder / name).is_file():
            raise BundleError(f"{folder}: shard {name} is missing; copy the pipeline again")
    return names


def _missing_weights(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir())
    others = [name for name in names if name.endswith(".safetensors")]
    pickles = [name for name in names if Path(name).suffix in _PICKLES]
    if others:
        return (
            f"{folder} has {others[0]}, but neither {' nor '.join(_WEIGHTS)}; load it once with "
            "its variant and save it with save_pretrained(DIR, safe_serialization=True)"
        )
    if pickles:
        return (
            f"{folder} has no safetensors, and {pickles[0]} is a pickle, which can run code; load "
            "it once where you trust it and save it with "
            "save_pretrained(DIR, safe_serialization=True)"
        )
    return f"{folder} has no weights; copy the pipeline again"


def network_files(directory: Path, folder: str) -> list[Path]:
    """List the files a stock loader reads for one network: `config.json` and safetensors."""
    names = ["config.json", *weight_files(directory / folder)]
    return [directory / folder / name for name in names]


def component_files(directory: Path, network_folder: str) -> list[Path]:
    """List a pipeline's files except its denoising network: JSON, text tables and safetensors.

    Of several variants of the weights, only the loaded one is listed.
    """
    index = read_index(directory)
    files = [directory / INDEX]
    for part in _parts(index):
        if part == network_folder:
            continue
        weights = weight_files(directory / part)
        found = [file for file in sorted((directory / part).iterdir()) if file.suffix in _DATA]
        files += [file for file in found if not _is_weight(file.name) or file.name in weights]
    return files


def _is_weight(name: str) -> bool:
    return name.endswith((".safetensors", ".index.json"))
