"""Small workloads that commit an artifact; repeated runs give the same bytes.

Between them they come past every failpoint that needs no cluster. The test that kills them imports
this module in a process of its own, once, and forks from it.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file
from torch import nn

from infra.trackers.mlflow.tracker import MlflowTracker, default_uri
from pipeline.bundle import Lineage, Manifest, read_manifest
from pipeline.config import Recipe
from pipeline.config.profile import EngineConfig, Profile
from pipeline.documents import apply_override, build, read_yaml
from pipeline.durable import write_durably
from pipeline.evaluation.documents import SampleSpec
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import family_of, save_bundle
from pipeline.run_dir.layout import RECIPE
from pipeline.run_dir.recipe_file import prepare_run_dir
from pipeline.training.checkpoint import claim
from pipeline.training.engines import TorchEngine
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import RoundPlan
from stages.data.encode import Jobs, encode
from stages.data.encode_worker import open_worker as open_encoder
from stages.data.shard import shard
from stages.evaluation.sample_sets import SampleInputs, open_worker
from stages.export.export import export
from stages.gate.attempts import GateContext, find_attempt, judged_attempt, record_answer
from stages.gate.attempts import accept as accept_attempt
from stages.gate.judge import judge, on_workers
from stages.rounds.promote import Registry, accept, register
from stages.rounds.target_worker import open_worker as open_asker
from stages.rounds.train import round_job
from stages.rounds.train_worker import RoundJob, train_with
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.support.stock_bundles import tiny

torch.set_num_threads(1)

RECIPES = Path(__file__).resolve().parents[2] / "flows" / "recipes"
_DEBRIS = re.compile(r"\..*\.[0-9a-f]{8}\.tmp")


def ends(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a folder, by name, without the debris of killed attempts."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    kept = [name for name in names if not any(_DEBRIS.fullmatch(part) for part in name.parts)]
    return {name.as_posix(): (folder / name).read_bytes() for name in kept}


@dataclass(frozen=True)
class Workload:
    """A workload to kill.

    Attributes:
        work: runs or resumes it in a folder.
        before: creates the initial state.
        evidence: results that must be equal.
    """

    work: Callable[[Path], object]
    before: Callable[[Path], object] = lambda folder: folder.mkdir()
    evidence: Callable[[Path], Any] = ends


def _recipe(*overrides: str) -> Recipe:
    tree = read_yaml(RECIPES / "gaussian.yaml")
    for override in ("data.num_samples=30", "data.shard_size=10", *overrides):
        apply_override(tree, override)
    return build(Recipe, tree, "gaussian.yaml")


def _make(ledger: Ledger, name: str, path: str) -> Artifact:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "sub").mkdir()
        for file in ("one", "sub/two"):
            (folder / file).write_text(f"{file} of {name}")
        return {}

    key = name * 40
    return ledger.find(key) or ledger.publish("thing", key, path, write)


def _publish(folder: Path) -> None:
    ledger = Ledger(folder)
    for name in "ab":
        _make(ledger, name, "deep/place")
    ledger.forget(_make(ledger, "c", "elsewhere"))


def _take_over(folder: Path) -> None:
    if not (folder / "run" / RECIPE).is_file():
        prepare_run_dir(_recipe(), folder / "run", accept_changes=False)
    prepare_run_dir(_recipe("run.seed=1"), folder / "run", accept_changes=True)


def _data_and_teacher(run_dir: Path) -> tuple[Artifact, Artifact]:
    data = shard(Workspace(run_dir, _recipe())).value
    return data, adopt(Workspace(run_dir, _recipe()), data).value


def _ask(run_dir: Path) -> None:
    data, teacher = _data_and_teacher(run_dir)
    spec = {
        "run_dir": str(run_dir),
        "plan": plan_rounds(_recipe())[1].model_dump(mode="json"),
        "data": str(run_dir / data.path),
        "teacher": str(run_dir / teacher.path),
        "parents": [],
        "dtype": "float32",
    }
    ask = open_asker(spec)
    for first in (0, 10):
        place = {"key": f"{first:040d}", "path": f"targets/{first}"}
        if not Ledger(run_dir).find(place["key"]):
            ask({**place, "first": first, "count": 10, "first_tuple": first})


def _train(run_dir: Path) -> None:
    recipe, (data, teacher) = _recipe("guidance.updates=9"), _data_and_teacher(run_dir)
    plan, ledger = plan_rounds(recipe)[0], Ledger(run_dir)
    engine = EngineConfig(checkpoint_every=2, keep_checkpoints=2, log_every=3)
    job = round_job(
        Workspace(run_dir, recipe, Profile(engine=engine)),
        plan,
        data=data,
        teacher=teacher,
        targets=None,
    )
    job["attempt"] = "attempt"
    claim(Path(job["checkpoints"]), job["attempt"])

    def write(output: Path) -> dict[str, Any]:
        train_with(RoundJob.model_validate({**job, "output": str(output)}), TorchEngine)
        return {}

    if not ledger.find(job["key"]):
        ledger.publish("student", job["key"], f"{plan.folder}/student", write)


def _untrained(run_dir: Path, teacher: Artifact) -> tuple[Manifest, nn.Module]:
    """The student of round 0 before its first update."""
    lineage = Lineage(run="gaussian", round=0, parent=teacher.digest)
    told = {"role": "student", "w": _recipe().guidance.w, "lineage": lineage}
    manifest = read_manifest(run_dir / teacher.path).model_copy(update=told)
    family = family_of(manifest)
    return manifest, family.student_of(family.build(), (0.0, 4.0))


def _student(run_dir: Path) -> None:
    manifest, module = _untrained(run_dir, _data_and_teacher(run_dir)[1])
    plan, ledger = plan_rounds(_recipe())[0], Ledger(run_dir)

    def write(folder: Path) -> dict[str, Any]:
        save_bundle(folder, manifest, module)
        return {}

    ledger.publish("student", "s" * 40, f"{plan.folder}/student", write)
    _make_targets(ledger, f"{plan.folder}/targets/pass-000")
    store = MlflowTracker(None, run_dir, "test")
    store.start("round", "round", {}, {}, parent=store.start("chain", "chain", {}, {}))


def _make_targets(ledger: Ledger, path: str) -> None:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "targets.tar").write_text("targets")
        return {}

    ledger.publish("targets", "t" * 40, path, write)


def _promote(run_dir: Path) -> None:
    _, teacher = _data_and_teacher(run_dir)
    store = MlflowTracker(None, run_dir, "test")
    plan, student = plan_rounds(_recipe())[0], Ledger(run_dir).find("s" * 40)
    assert student is not None
    work = Workspace(run_dir, _recipe("targets.keep=none"))
    accept(work, plan, student=student, teacher=teacher)
    register(run_dir, plan, student, Registry(store, "model", str(store.find("round"))))


def _registry(run_dir: Path) -> dict[str, Any]:
    client = MlflowClient(default_uri(run_dir))
    versions = client.search_model_versions("name = 'model'")
    aliases = client.get_registered_model("model").aliases
    files = {name: text for name, text in ends(run_dir).items() if not name.startswith("mlflow")}
    return {"versions": [each.version for each in versions], "aliases": dict(aliases), **files}


def _gate(run_dir: Path) -> tuple[GateContext, RoundPlan]:
    work = Workspace(run_dir, _recipe("gate={num_samples: 6}"))
    data, teacher = _data_and_teacher(run_dir)
    context = GateContext(work, data, teacher, SampleInputs(data, None))
    return context, plan_rounds(work.recipe)[0]


def _failed_candidate(run_dir: Path) -> None:
    """A candidate with non-finite weights, which needs no samples."""
    context, plan = _gate(run_dir)
    manifest, module = _untrained(run_dir, context.teacher)

    def write(folder: Path) -> dict[str, Any]:
        save_bundle(folder, manifest, module)
        file = folder / "gaussian" / "tables.safetensors"
        tables = load_file(file)
        tables["slope.weight"][0, 0] = torch.nan
        save_file(tables, file)
        return {}

    parents = (context.data.fingerprint, context.teacher.fingerprint)
    place = f"{plan.folder}/candidate"
    Ledger(run_dir).publish("student", context.key(plan), place, write, parents)


def _judge_and_accept(run_dir: Path) -> None:
    """Judge the candidate, approve it manually, and move it to the student path."""
    context, plan = _gate(run_dir)
    found = find_attempt(context, plan)
    judged = found.judged
    if judged is None:
        assert found.student is not None
        workers = on_workers(context.work.profile, lambda done, total: None)
        record = judge(context.work, context.candidate(plan, found.student), workers)
        judged = judged_attempt(Ledger(run_dir), plan, found.student, record)
    assert judged.verdict.reasons == ("weight slope.weight is not finite",)
    if judged.answer is None:
        record_answer(run_dir, judged.record, accepted=True)
    accepted = find_attempt(context, plan).judged
    assert accepted is not None
    accept_attempt(run_dir, plan, accepted)


def _sample(run_dir: Path) -> None:
    data, teacher = _data_and_teacher(run_dir)
    cell = SampleSpec(
        role="teacher",
        bundle=teacher.path,
        digest=teacher.digest,
        round=None,
        sampler="ddim",
        steps=2,
        w=1.0,
        seed=0,
    )
    spec = {"run_dir": str(run_dir), "num_samples": 6, "data": data.path, "components": None}
    draw = open_worker(spec)
    for first in (0, 3):
        part = f"evaluation/parts/{first}.npy"
        draw({"key": "k", "cell": cell.model_dump(), "first": first, "count": 3, "part": part})


def _pictures(run_dir: Path) -> None:
    run_dir.mkdir()
    parts = tiny("sd", run_dir / "tiny")
    parts.student(2)
    ledger = Ledger(run_dir)

    def write(folder: Path) -> dict[str, Any]:
        shutil.copytree(parts.components, folder, dirs_exist_ok=True)
        return {"pipeline": parts.manifest.pipeline}

    ledger.publish("components", "c" * 40, "components", write)
    shard(Workspace(run_dir, _captioned()))


def _captioned() -> Recipe:
    tree = read_yaml(RECIPES / "captions.yaml")
    source = "data={source: captioned_digits, count: 6, holdout_count: 2, shard_size: 4}"
    apply_override(tree, source)
    return build(Recipe, tree, "captions.yaml")


def _encode(run_dir: Path) -> None:
    work = Workspace(run_dir, _captioned())
    data, components = shard(work).value, work.ledger.find("c" * 40)
    assert components is not None

    def serve(spec: dict[str, Any], jobs: Jobs) -> Iterator[dict[str, Any]]:
        yield from map(open_encoder(spec), jobs)

    encode(work, data=data, components=components, run=serve)


def _export(run_dir: Path) -> None:
    student, parts = run_dir / "tiny" / "student-2", run_dir / "tiny" / "components"
    if not (run_dir / "out").exists():
        export(student, parts, run_dir / "out", facts={})


MEASURED = ("time/", "memory/", "targets/age_s")
"""Numbers of a round that are of the machine and its clock, by how their names begin."""


def _without_times(run_dir: Path) -> dict[str, Any]:
    files: dict[str, Any] = ends(run_dir)
    name = f"{plan_rounds(_recipe())[0].folder}/metrics.jsonl"
    lines = [json.loads(line) for line in files[name].splitlines()]
    told = [{key: line[key] for key in line if not key.startswith(MEASURED)} for line in lines]
    return {**files, name: told}


def _write(folder: Path) -> None:
    for text in ("old", "new"):
        write_durably(folder / "deep" / "state.json", text)


WORKLOADS = {
    "write": Workload(_write),
    "publish": Workload(_publish),
    "take over": Workload(_take_over),
    "shard": Workload(lambda run_dir: shard(Workspace(run_dir, _recipe()))),
    "ask": Workload(_ask, _data_and_teacher),
    "train": Workload(_train, _data_and_teacher, _without_times),
    "promote": Workload(_promote, _student, _registry),
    "gate": Workload(_judge_and_accept, _failed_candidate),
    "sample": Workload(_sample, _data_and_teacher),
    "encode": Workload(_encode, _pictures),
    "export": Workload(_export, _pictures),
}
