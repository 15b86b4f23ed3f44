"""What a report says of one student, in words for the card of its pipeline."""

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
from pipeline.evaluation.tables import worst_class
from pipeline.failpoints import failpoint
from pipeline.ledger import FORMAT_VERSION, Artifact, Ledger, fingerprint
from pipeline.models.directory.pipeline_files import component_files, read_index
from pipeline.training.round_plan import RoundPlan

_SAID = {
    "distance_to_real": "Frechet distance to held-out images, not FID",
    "rms_to_teacher": "RMS to the teacher's sample from the same noise",
    "class_accuracy": "class seen as asked",
}


def report_facts(run_dir: Path, report: Artifact, plan: RoundPlan) -> dict[str, Any]:
    """The numbers of a round's student at every guidance weight, each beside its teacher's."""
    path = Ledger(run_dir).locate(report) / "report.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    facts: dict[str, Any] = {}
    for row in tree["rows"]:
        cell = row["cell"]
        if cell["role"] == "student" and cell["round"] == plan.index:
            teachers = [
                other["scores"]
                for other in tree["rows"]
                if other["cell"]["role"] == "teacher" and other["cell"]["w"] == cell["w"]
            ]
            teacher = teachers[0] if teachers else {}
            facts |= _at(cell["w"], row["scores"], teacher)
    if facts:
        facts["samples measured"] = tree["protocol"]["num_samples"]
    return facts


def _at(w: float, scores: dict[str, Any], teacher: dict[str, Any]) -> dict[str, str]:
    found = {}
    for key, words in _SAID.items():
        if scores.get(key) is not None:
            found[f"w = {w:g}: {words}"] = _beside(scores[key], teacher.get(key))
    if worst := worst_class(scores):
        share = scores["accuracy_by_class"][worst]
        theirs = (teacher.get("accuracy_by_class") or {}).get(worst)
        found[f"w = {w:g}: class seen as asked least"] = f"{worst}, {_beside(share, theirs)}"
    for part, share in (scores.get("prompt_accuracy") or {}).items():
        theirs = (teacher.get("prompt_accuracy") or {}).get(part)
        found[f"w = {w:g}: {part} seen as prompted"] = _beside(share, theirs)
    return found


def _beside(value: float, teacher: float | None) -> str:
    return f"{value:.3g}" if teacher in (None, 0.0) else f"{value:.3g} (teacher {teacher:.3g})"


if TYPE_CHECKING:
    from stages.export.parity import Difference


def export(bundle: Path, components: Path, output: Path, *, facts: Mapping[str, Any]) -> None:
    """Write a complete stock pipeline directory in one move.

    `stages.export.parity.check_export` compares its samples with those of our sampler.

    Args:
        bundle: a student, or a teacher.
        components: its pipeline without the denoising network.
        output: the directory to make; it must not exist, or be empty.
        facts: what the model card states beside what the manifest says.

    Raises:
        ConfigError: the bundle belongs in no pipeline or cannot be told w there, or there is
            something at `output` already.
        BundleError: bundle or components are damaged, or components are of another class.
    """
    manifest = _check(bundle, components)
    with _in_one_move(output) as folder:
        _fill(folder, bundle, manifest, components, facts)


def export_checked(
    bundle: Path, output: Path, components: Path | None = None
) -> "list[Difference]":
    """`export`, but nothing is left at `output` unless it passed the gate; what was measured.

    Components are by default those of the run that the bundle lies in.

    Raises:
        ConfigError: see `export`; or there are no components near the bundle.
        BundleError: also if stock diffusers draws something else from it than our sampler.
    """
    from stages.export.parity import check_offered

    parts = components or components_near(bundle)
    if parts is None:
        raise ConfigError(
            f"{bundle} lies in no run that has components; give --components, the directory of the "
            "pipeline's other parts"
        )
    manifest = _check(bundle, parts)
    with _in_one_move(output) as folder:
        _fill(folder, bundle, manifest, parts, {})
        return check_offered(folder, bundle, parts)


def components_near(bundle: Path) -> Path | None:
    """The `components/` beside or above a bundle, as a run has them; None if there are none."""
    for folder in bundle.absolute().parents:
        if (folder / "components" / "model_index.json").is_file():
            return folder / "components"
    return None


@contextmanager
def _in_one_move(output: Path) -> Iterator[Path]:
    """A temporary directory that becomes `output` if nothing is raised."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output} is there already and not empty; export to a new directory")
    make_folder(output.parent)
    for debris in output.parent.glob(f".{glob.escape(output.name)}.*.tmp"):
        shutil.rmtree(debris)  # of an attempt that was killed
    temporary = output.with_name(f".{output.name}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        sync_tree(temporary)
        temporary.rename(output)
        failpoint("export.renamed")
        sync(output.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def export_student(
    run_dir: Path,
    student: Artifact,
    components: Artifact,
    *,
    facts: Mapping[str, Any] | None = None,
) -> Artifact:
    """The run's own stock pipeline of a student, committed once it passed the gate.

    It is committed at `pipelines/N-steps`, or `pipelines/any-steps` for the student of stage 1.

    Raises:
        ConfigError: see `export`.
        BundleError: also if stock diffusers draws something else from it than our sampler.
    """
    ledger = Ledger(run_dir)
    bundle, parts = ledger.locate(student), ledger.locate(components)
    manifest = _check(bundle, parts)
    stated = {**(facts or {}), "student": student.digest}
    key = export_key(student, components, facts or {})
    count = "any" if manifest.steps is None else manifest.steps[0]

    def write(folder: Path) -> dict[str, Any]:
        from stages.export.parity import check_offered

        _fill(folder, bundle, manifest, parts, stated)
        found = check_offered(folder, bundle, parts)
        worst = max(difference.value for difference in found)
        return {"steps": manifest.steps and manifest.steps[0], "largest_difference": worst}

    parents = (student.fingerprint, components.fingerprint)
    return ledger.find(key) or ledger.publish(
        "pipeline", key, f"pipelines/{count}-steps", write, parents
    )


def export_label(steps: int) -> str:
    """What a person calls the stage that exports a student."""
    return f"export the pipeline of {steps} step{'' if steps == 1 else 's'}"


def export_key(student: Artifact, components: Artifact, facts: Mapping[str, Any]) -> str:
    """Fingerprint of an exported pipeline: the bytes of its parts, and what its card states."""
    return fingerprint(
        {
            "stage": "export",
            "format": FORMAT_VERSION,
            "student": student.digest,
            "components": components.digest,
            "facts": dict(facts),
        }
    )


def check_exportable(manifest: Manifest, name: str) -> None:
    """Refuse a bundle that no stock scheduler samples.

    Raises:
        ConfigError: it is an encoder, or a stochastic student of more than one step.
    """
    if manifest.direction == "encode":
        raise ConfigError(
            f"{name} encodes pictures into noise, and no stock pipeline does; use stepfold "
            "stylize, or export a student that draws"
        )
    if manifest.sampler == "stochastic" and manifest.steps != (1,):
        raise ConfigError(
            f"{name} is a stochastic student, and no stock pipeline samples it: diffusers' "
            "TCDScheduler takes its steps, but with one eta for all of them, where this one needs "
            "1/(i - 1) at point i. Sample it with stepfold, or export a deterministic student"
        )


def _check(bundle: Path, components: Path) -> Manifest:
    manifest = read_manifest(bundle)
    if manifest.pipeline is None:
        raise ConfigError(
            f"{bundle} belongs in no stock pipeline, its network stands alone; load its "
            f"{manifest.folder}/ with diffusers directly"
        )
    reason = manifest.network.why_not_w
    if manifest.role == "student" and manifest.baked_w is None and reason:
        raise ConfigError(f"{bundle} is told w, but {reason}; distil it again with one w baked in")
    check_exportable(manifest, str(bundle))
    found = read_index(components).get("_class_name")
    if found != manifest.pipeline:
        raise BundleError(
            f"{components} holds the components of a {found}, {bundle} belongs in a "
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
