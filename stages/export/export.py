"""Stage `export`: write a student as a stock diffusers pipeline, after a parity check.

It also provides the scores of the model card, and finds components near a bundle.
"""

import glob
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pipeline.bundle import Manifest, read_manifest
from pipeline.durable import make_folder, sync, sync_tree
from pipeline.errors import BundleError, ConfigError
from pipeline.evaluation.documents import read_report
from pipeline.evaluation.reports.comparisons import card_facts
from pipeline.failpoints import failpoint
from pipeline.ledger import FORMAT_VERSION, Artifact, Ledger, fingerprint
from pipeline.models.directory.pipeline_files import INDEX, component_files, read_index
from pipeline.run_dir import layout
from pipeline.training.round_plan import RoundPlan
from stages.export.network_script import check_scriptable, fill_network
from stages.workspace import UNOBSERVED, Observer, StageResult, Workspace, find_or_make

if TYPE_CHECKING:
    from stages.export.parity import Difference


def export_student(
    work: Workspace,
    student: Artifact,
    components: Artifact | None,
    *,
    facts: Mapping[str, Any] | None = None,
    observer: Observer = UNOBSERVED,
) -> StageResult[Artifact]:
    """Export a student to a stock pipeline, committed if it passes the parity check, or reuse it.

    The path is `pipelines/N-steps`, or `pipelines/any-steps` for the stage-1 student. Without
    components it is a network on pixels, which is exported with a sampling script.

    Raises:
        ConfigError: see `export`.
        BundleError: see `export_checked`.
    """
    ledger = work.ledger
    bundle = ledger.locate(student)
    parts = None if components is None else ledger.locate(components)
    manifest = _check_network(bundle) if parts is None else _check(bundle, parts)
    stated = {**(facts or {}), "student": student.digest}
    key = export_key(student, components, facts or {})

    def write(folder: Path) -> dict[str, Any]:
        from stages.export.parity import check_script, check_supported

        if parts is None:
            fill_network(folder, bundle, manifest, stated)
            found = check_script(folder, bundle)
        else:
            _fill(folder, bundle, manifest, parts, stated)
            found = check_supported(folder, bundle, parts)
        worst = max(difference.value for difference in found)
        return {"steps": manifest.own_steps, "largest_difference": worst}

    def make() -> Artifact:
        parents = tuple(each.fingerprint for each in (student, components) if each)
        return ledger.publish("pipeline", key, layout.pipeline_of(manifest), write, parents)

    return find_or_make(ledger, key, observer, make)


def export(bundle: Path, components: Path, output: Path, *, facts: Mapping[str, Any]) -> None:
    """Write a complete stock pipeline directory atomically.

    `stages.export.parity.check_parity` compares its samples with those of our sampler.

    Args:
        bundle: a student, or a teacher.
        components: its pipeline without the denoising network.
        output: the new directory; it must not exist, or be empty.
        facts: entries of the model card besides those of the manifest.

    Raises:
        ConfigError: no stock pipeline can sample the bundle, or `output` is not empty.
        BundleError: bundle or components are damaged, or the components have another class.
    """
    manifest = _check(bundle, components)
    with atomic_directory(output) as folder:
        _fill(folder, bundle, manifest, components, facts)


def export_checked(
    bundle: Path, output: Path, components: Path | None = None
) -> "list[Difference]":
    """Export a bundle if it passes the parity check; return the measured differences.

    Default components are those of the run that contains the bundle. A class-conditional student
    without a stock pipeline is exported with a sampling script.

    Raises:
        ConfigError: see `export`; or there are no components near the bundle.
        BundleError: see `export`; or the samples of stock diffusers differ from our sampler's.
    """
    from stages.export.parity import check_supported

    network = read_manifest(bundle)
    if network.pipeline is None:
        return _export_network(bundle, output, components)
    parts = components or components_near(bundle)
    if parts is None:
        raise ConfigError(
            f"{bundle}: no run with components contains this bundle; give --components, the "
            "directory of its VAE and text encoders"
        )
    manifest = _check(bundle, parts)
    with atomic_directory(output) as folder:
        _fill(folder, bundle, manifest, parts, {})
        return check_supported(folder, bundle, parts)


def _export_network(bundle: Path, output: Path, components: Path | None) -> "list[Difference]":
    manifest = _check_network(bundle)
    if components is not None:
        raise ConfigError(
            f"--components {components}: {bundle} is a network on pixels, without other parts; "
            "leave the option out"
        )
    from stages.export.parity import check_script

    with atomic_directory(output) as folder:
        fill_network(folder, bundle, manifest, {})
        return check_script(folder, bundle)


def export_key(student: Artifact, components: Artifact | None, facts: Mapping[str, Any]) -> str:
    """Return the fingerprint of an exported pipeline, from its parts and its model card's facts."""
    return fingerprint(
        {
            "stage": "export",
            "format": FORMAT_VERSION,
            "student": student.digest,
            "components": components.digest if components else None,
            "facts": dict(facts),
        }
    )


def check_exportable(manifest: Manifest, name: str) -> None:
    """Validate that a stock scheduler can sample a bundle.

    Raises:
        ConfigError: it is an encoder, or a stochastic student of more than one step.
    """
    if manifest.direction == "encode":
        raise ConfigError(
            f"{name} is an encoder, which no stock pipeline supports; use stepfold stylize, or "
            "export a student that samples"
        )
    if manifest.sampler == "stochastic" and manifest.steps != (1,):
        raise ConfigError(
            f"{name} is a stochastic student, which no stock pipeline samples: diffusers' "
            "TCDScheduler has one eta for all steps, but it needs 1/(i - 1) at point i. Use "
            "stepfold sample, or export a deterministic student"
        )


def components_near(bundle: Path) -> Path | None:
    """Return the `components/` beside or above a bundle; None if there are none."""
    for folder in bundle.absolute().parents:
        if (folder / layout.COMPONENTS / INDEX).is_file():
            return folder / layout.COMPONENTS
    return None


def model_card_facts(run_dir: Path, report: Artifact, plan: RoundPlan) -> dict[str, Any]:
    """Return the scores of a round's student at every guidance weight, each with its teacher's."""
    return card_facts(read_report(Ledger(run_dir).locate(report)), plan.index)


@contextmanager
def atomic_directory(output: Path) -> Iterator[Path]:
    """Yield a temporary directory that becomes `output` unless an error is raised."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} exists and is not empty; export to a new directory")
    make_folder(output.parent)
    for debris in output.parent.glob(f".{glob.escape(output.name)}.*.tmp"):
        shutil.rmtree(debris)  # left by an attempt that was killed
    temporary = output.with_name(f".{output.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        sync_tree(temporary)
        temporary.rename(output)
        failpoint("export.renamed")
        sync(output.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_network(bundle: Path) -> Manifest:
    manifest = read_manifest(bundle)
    check_scriptable(manifest, bundle)
    check_exportable(manifest, str(bundle))
    return manifest


def _check(bundle: Path, components: Path) -> Manifest:
    manifest = read_manifest(bundle)
    if manifest.pipeline is None:
        raise ConfigError(
            f"{bundle} has no stock pipeline, only a network; load {manifest.folder}/ with "
            "diffusers directly"
        )
    reason = manifest.network.why_not_w
    if manifest.role == "student" and manifest.baked_w is None and reason:
        raise ConfigError(
            f"{bundle} is w-conditioned, but {reason}; distil a student with a fixed w"
        )
    check_exportable(manifest, str(bundle))
    found = read_index(components).get("_class_name")
    if found != manifest.pipeline:
        raise BundleError(
            f"{components} has components of a {found}, but {bundle} needs those of a "
            f"{manifest.pipeline}; give its own components"
        )
    return manifest


def _fill(
    folder: Path, bundle: Path, manifest: Manifest, components: Path, facts: Mapping[str, Any]
) -> None:
    from pipeline.models.stock.card import model_card
    from pipeline.models.stock.stock_pipeline import STOCK

    stock = STOCK.get(manifest.pipeline or "")(components)
    scheduler = stock.scheduler(manifest)
    folder.mkdir(exist_ok=True)
    for file in component_files(components, stock.network):
        place = folder / file.relative_to(components)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, place)
    shutil.copytree(bundle / manifest.folder, folder / stock.network)
    network = json.loads((folder / stock.network / "config.json").read_text(encoding="utf-8"))
    index = {
        **stock.index,
        "scheduler": ["diffusers", scheduler["_class_name"]],
        stock.network: ["diffusers", network["_class_name"]],
    }
    shutil.rmtree(folder / "scheduler")  # the teacher's
    (folder / "scheduler").mkdir()
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    _write_json(folder / "model_index.json", index)
    (folder / "README.md").write_text(model_card(manifest, stock, facts), encoding="utf-8")
    failpoint("export.filled")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
