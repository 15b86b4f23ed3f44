"""Tracked data sets and tags with the digests of a round's inputs and outputs."""

from pathlib import Path

from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.run_dir import layout
from pipeline.run_dir.layout import RunDir
from pipeline.tracking import InputData
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan


def inputs_of_chain(run_dir: Path) -> list[InputData]:
    """Return the data set and the teacher of a run."""
    by_path = RunDir(run_dir).artifacts()
    contexts = {layout.DATA: "training", layout.TEACHER: "teacher"}
    return [
        _source(run_dir, by_path[place], place, context)
        for place, context in contexts.items()
        if place in by_path
    ]


def inputs_of_round(run_dir: Path, plan: RoundPlan, artifact: Artifact) -> list[InputData]:
    """Return the inputs of a round: data, teacher bundle, and target shards still on disk."""
    records = Ledger(run_dir).records()
    by_path = {artifact.path: artifact for artifact in records}
    data = by_path.get(layout.DATA)
    found = [_source(run_dir, data, data.path, "training")] if data else []
    if plan.index == TEACHER_ROUND:
        return found
    found += [
        _source(run_dir, parent, parent.path, "teacher")
        for parent in records
        if parent.fingerprint in artifact.parents and parent.kind in ("teacher", "student")
    ]
    place = layout.targets_of(plan.targets_of)
    shards = [artifact for artifact in records if artifact.path.startswith(f"{place}/")]
    if shards:
        digest = fingerprint({"targets": [shard.digest for shard in shards]})
        profile = {"shards": len(shards), "bytes": sum(map(_size, shards))}
        found.append(InputData(place, digest, run_dir / place, "targets", profile))
    return found


def tags_of_round(run_dir: Path, plan: RoundPlan, artifact: Artifact) -> dict[str, str]:
    """Return tags with the bundle of a round and its parent."""
    by_key = {artifact.fingerprint: artifact for artifact in Ledger(run_dir).records()}
    parents = [by_key[key] for key in artifact.parents if key in by_key]
    bundles = [each for each in parents if each.kind in ("teacher", "student")]
    tags = {"bundle": artifact.path, "bundle.digest": artifact.digest}
    if bundles and plan.index != TEACHER_ROUND:
        tags |= {"parent": bundles[0].path, "parent.digest": bundles[0].digest}
    return tags


def _source(run_dir: Path, artifact: Artifact, name: str, context: str) -> InputData:
    profile = {"bytes": _size(artifact), **artifact.details}
    return InputData(name, artifact.digest, run_dir / artifact.path, context, profile)


def _size(artifact: Artifact) -> int:
    return sum(file.size for file in artifact.files.values())
