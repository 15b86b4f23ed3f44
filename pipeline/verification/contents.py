"""Check the content of an artifact by its kind: counts, formats, finite numbers.

Hashes show that files have not changed since they were written. These checks also find damage that
happened before the hashes were computed.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StepfoldError
from pipeline.ledger import Artifact
from pipeline.run_dir.layout import REPORT_JSON, TARGETS_TAR

Check = Callable[[Path, Artifact], object]


class ContentError(Exception):
    """The content of an artifact is not valid; the message describes the problem."""


def content_problem(place: Path, artifact: Artifact) -> str | None:
    """Describe what is wrong with the content of an artifact; None if it is valid.

    Args:
        place: path of the artifact; its hashes match.
        artifact: its record.
    """
    check = _CHECKS.get(artifact.kind)
    if check is None:
        return f"unknown artifact kind {artifact.kind!r}"
    try:
        check(place, artifact)
    except (ContentError, StepfoldError) as error:
        return str(error)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"cannot be read: {error}"
    return None


def _data(place: Path, artifact: Artifact) -> None:
    from pipeline.data.shards.dataset_info import read_info
    from pipeline.data.shards.reader import SampleShards

    for split in read_info(place).splits:
        # opening compares the samples of each shard with its tar index and the dataset info
        samples = SampleShards(place, split, cache_bytes=0)
        _same_count(f"split {split}", len(samples), artifact.details.get(split))


def _latents(place: Path, artifact: Artifact) -> None:
    from pipeline.data.latents import LatentShards, read_latents_info
    from pipeline.data.records import RecordShards

    info = read_latents_info(place)
    for split, content in info.splits.items():
        _same_count(f"split {split}", len(LatentShards(place, split)), artifact.details.get(split))
        RecordShards([place / shard.name for shard in content.shards]).verify()
    if info.conditions:
        RecordShards([place / name for name in info.conditions]).verify()
    _finite_weights(place)


def _targets(place: Path, artifact: Artifact) -> None:
    from pipeline.data.records import RecordShards

    records = RecordShards([place / TARGETS_TAR])
    _same_count(TARGETS_TAR, len(records), artifact.details.get("tuples"))
    records.verify()


def _bundle(place: Path, artifact: Artifact) -> None:
    from pipeline.bundle import read_manifest

    manifest = read_manifest(place)
    if manifest.role != artifact.kind:
        raise ContentError(f"the role is {manifest.role!r} in its manifest, not {artifact.kind!r}")
    steps = artifact.details.get("student_steps")
    if artifact.kind == "student" and steps and manifest.steps != (steps,):
        raise ContentError(f"steps: {manifest.steps} in its manifest, {steps} in its record")
    _finite_weights(place)


def _pipeline(place: Path, _artifact: Artifact) -> None:
    # a student on pixels is exported as a network with a sampling script
    is_network = not (place / "model_index.json").exists() and (place / "sample.py").is_file()
    _json(place / ("scheduler/scheduler_config.json" if is_network else "model_index.json"))
    _finite_weights(place)


def _samples(place: Path, artifact: Artifact) -> None:
    try:
        images = np.load(place, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header, which can raise any type of error
        raise ContentError(f"not a valid npy file: {error}") from None
    _same_count("the array", len(images), artifact.details.get("count"))
    if not np.isfinite(images).all():
        raise ContentError("the array contains NaN or infinity")


def _verdict(place: Path, artifact: Artifact) -> None:
    from pipeline.evaluation.verdicts.gate_documents import read_verdict

    _same("passed", read_verdict(place).passed, artifact.details.get("passed"))


def _recorded(key: str) -> Check:
    """Return a check that a JSON file has the value of its record at a key."""
    return lambda place, artifact: _same(key, _json(place).get(key), artifact.details.get(key))


def _same(key: str, found: Any, recorded: Any) -> None:
    if found != recorded:
        raise ContentError(f"{key}: {found} in the file, {recorded} in its record")


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ContentError(f"{path.name} is not a JSON object")
    return content


def _same_count(what: str, found: int, recorded: Any) -> None:
    if recorded != found:
        raise ContentError(f"{what} contains {found} rows, its record {recorded}")


def _finite_weights(folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    tensor = tensors.get_tensor(name)
                    if tensor.is_floating_point() and not bool(tensor.float().isfinite().all()):
                        where = file.relative_to(folder).as_posix()
                        raise ContentError(f"{name} in {where} contains NaN or infinity")
        except SafetensorError as error:
            raise ContentError(f"{file.name} is not a valid safetensors file: {error}") from None


_CHECKS: dict[str, Check] = {
    "data": _data,
    "latents": _latents,
    "components": _pipeline,
    "teacher": _bundle,
    "student": _bundle,
    "targets": _targets,
    "reference": _samples,
    "samples": _samples,
    "features": _samples,
    "classifier": lambda place, _artifact: _finite_weights(place),
    "report": lambda place, _artifact: _json(place / REPORT_JSON),
    "side report": lambda place, _artifact: _json(place / REPORT_JSON),
    "promotion": _recorded("version"),
    "verdict": _verdict,
    "answer": _recorded("accepted"),
    "pipeline": _pipeline,
}
