"""Where a run and its rounds come from, told to MLflow: data sets, targets, bundles by digest."""

from pathlib import Path

from infra.mlflow.content import Source
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan


def sources_of_chain(run_dir: Path) -> list[Source]:
    """The data set of a run, and its teacher."""
    by_place = {artifact.path: artifact for artifact in Ledger(run_dir).records()}
    contexts = {"data": "training", "teacher": "teacher"}
    return [
        _source(run_dir, by_place[place], place, context)
        for place, context in contexts.items()
        if place in by_place
    ]


def sources_of_round(run_dir: Path, plan: RoundPlan, made: Artifact) -> list[Source]:
    """What a round learnt from: data, the bundle it was taught by, pre-generated targets.

    Targets that were dropped after the round are not in it any more.
    """
    records = Ledger(run_dir).records()
    by_place = {artifact.path: artifact for artifact in records}
    found = [_source(run_dir, by_place["data"], "data", "training")] if "data" in by_place else []
    if plan.index == TEACHER_ROUND:
        return found
    found += [
        _source(run_dir, parent, parent.path, "teacher")
        for parent in records
        if parent.fingerprint in made.parents and parent.kind in ("teacher", "student")
    ]
    place = f"{plan.targets_of.folder}/targets"
    shards = [artifact for artifact in records if artifact.path.startswith(f"{place}/")]
    if shards:
        digest = fingerprint({"targets": [shard.digest for shard in shards]})
        profile = {"shards": len(shards), "bytes": sum(map(_size, shards))}
        found.append(Source(place, digest, run_dir / place, "targets", profile))
    return found


def marks_of_round(run_dir: Path, plan: RoundPlan, made: Artifact) -> dict[str, str]:
    """Tags that say what a round has made, and from what."""
    by_key = {artifact.fingerprint: artifact for artifact in Ledger(run_dir).records()}
    parents = [by_key[key] for key in made.parents if key in by_key]
    bundles = [each for each in parents if each.kind in ("teacher", "student")]
    marks = {"bundle": made.path, "bundle.digest": made.digest}
    if bundles and plan.index != TEACHER_ROUND:
        marks |= {"parent": bundles[0].path, "parent.digest": bundles[0].digest}
    return marks


def _source(run_dir: Path, artifact: Artifact, name: str, context: str) -> Source:
    profile = {"bytes": _size(artifact), **artifact.details}
    return Source(name, artifact.digest, run_dir / artifact.path, context, profile)


def _size(artifact: Artifact) -> int:
    return sum(file.size for file in artifact.files.values())
