"""Export: stock diffusers draws the same samples as our sampler."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline
from safetensors.torch import load_file

from pipeline.bundle import MANIFEST, read_manifest
from pipeline.errors import BundleError, ConfigError
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.models.stock.card import supported_weights
from stages.export.export import export, export_checked, export_key, export_student
from stages.export.parity import (
    NOISE,
    PROMPTS,
    TOLERANCE,
    check_parity,
    check_supported,
    sample_ours,
)
from stages.workspace import StageResult, Workspace
from tests.support.small_run import small_recipe
from tests.support.stock_bundles import LAW, Make, Tiny
from tests.support.tiny_pipelines import KINDS, PIXELS, edit


def differences(directory: Path, bundle: Path, parts: Tiny, steps: int) -> list[float]:
    """Run the parity check in this process."""
    manifest, stock = read_manifest(bundle), parts.stock
    pipeline = DiffusionPipeline.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    weights = supported_weights(manifest, stock)
    ours = sample_ours(bundle, stock, [(w, steps) for w in weights])
    theirs = [
        pipeline(
            **stock.arguments(manifest, PROMPTS, steps=steps, w=w),
            **stock.pictures(manifest),
            generator=torch.Generator().manual_seed(NOISE),
        ).images
        for w in weights
    ]
    told = {tuple(drawn.flatten().tolist()) for drawn in ours}
    assert len(told) == len(weights)  # otherwise agreement would not test w
    return [((a - b).abs().max() / a.abs().max()).item() for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_stock_diffusers_matches_our_sampler(
    made: Make, kind: str, steps: int, tmp_path: Path
) -> None:
    parts = made(kind)
    if not parts.manifest.schedule.holds(steps):
        with pytest.raises(BundleError, match="do not divide"):
            parts.manifest.check_use(steps, 0.0)
        return
    export(parts.student(steps), parts.components, tmp_path / "out", facts={})
    found = differences(tmp_path / "out", parts.student(steps), parts, steps)
    assert max(found) <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_teachers_and_students_of_any_number_of_steps_are_exported_too(
    made: Make, kind: str, tmp_path: Path
) -> None:
    parts = made(kind)
    for bundle in (parts.teacher(), parts.student(None)):
        export(bundle, parts.components, tmp_path / bundle.name, facts={})
        assert max(differences(tmp_path / bundle.name, bundle, parts, 5)) <= TOLERANCE


@pytest.mark.parametrize("steps", [2, 4])
def test_a_shifted_sd3_is_exported_on_its_shifted_grid(
    made: Make, steps: int, tmp_path: Path
) -> None:
    parts = made("sd3")
    bundle = tmp_path / "student"
    shutil.copytree(parts.student(steps), bundle)
    shifted = parts.manifest.schedule.model_copy(update={"shift": 3.0}).model_dump(mode="json")
    edit(bundle / MANIFEST, schedule=shifted)
    export(bundle, parts.components, tmp_path / "out", facts={})
    assert max(differences(tmp_path / "out", bundle, parts, steps)) <= TOLERANCE


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_passes_the_gate(made: Make, kind: str, tmp_path: Path) -> None:
    parts = made(kind)
    export(parts.student(2), parts.components, tmp_path / "out", facts={})
    found = check_supported(tmp_path / "out", parts.student(2), parts.components)
    assert {difference.steps for difference in found} == {2}


def test_a_tampered_or_incomplete_directory_does_not_pass_the_gate(
    made: Make, tmp_path: Path
) -> None:
    parts = made("sd")
    output = tmp_path / "out"

    def refused(message: str) -> None:
        with pytest.raises(BundleError, match=message):
            check_parity(output, parts.student(4), parts.components, ws=(2.0,), steps=(4,))

    export(parts.student(4), parts.components, output, facts={})
    scheduler = output / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"trailing"', '"leading"'))
    refused(r"parity check failed at .* 4 step\(s\).*tolerance")
    (output / "text_encoder" / "model.safetensors").unlink()
    refused("parity check failed")


def test_the_card_code_matches_our_sampler(made: Make, tmp_path: Path) -> None:
    parts = made("flux")
    output, drawn = tmp_path / "out", tmp_path / "drawn.safetensors"
    export(parts.student(2), parts.components, output, facts={})
    script = f"""
        import torch
        from diffusers import DiffusionPipeline
        from safetensors.torch import save_file

        pipeline = DiffusionPipeline.from_pretrained({str(output)!r}, dtype=torch.float32)
        images = pipeline(
            {list(PROMPTS)!r}, height={PIXELS}, width={PIXELS}, num_inference_steps=2,
            guidance_scale=1 + 5.0, generator=torch.Generator().manual_seed({NOISE}),
            output_type="latent").images
        save_file({{"images": images}}, {str(drawn)!r})
        import sys
        assert not {{"pipeline", "stages"}} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-I", "-c", textwrap.dedent(script)], check=True, timeout=600)
    (ours,) = sample_ours(parts.student(2), parts.stock, [(5.0, 2)])
    theirs = load_file(drawn)["images"]
    assert (ours - theirs).abs().max() <= TOLERANCE * ours.abs().max()


def test_image_to_image_listens_to_w(made: Make, tmp_path: Path) -> None:
    parts = made("sd")
    export(parts.student(4), parts.components, tmp_path / "out", facts={})
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(
        tmp_path / "out", local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)

    def redrawn(w: float) -> torch.Tensor:
        images: torch.Tensor = pipeline(
            "7",
            image=torch.full((1, 3, PIXELS, PIXELS), 0.25),
            strength=0.5,
            num_inference_steps=4,
            guidance_scale=1 + w,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).images
        return images

    least, most = redrawn(LAW.min), redrawn(LAW.max)
    assert torch.equal(least, redrawn(LAW.min))
    assert (least - most).abs().max() > 100 * TOLERANCE * least.abs().max()


def test_an_exported_directory_is_complete_and_data_only(made: Make, tmp_path: Path) -> None:
    parts = made("sdxl")
    output = tmp_path / "deep" / "out"
    (parts.components / "vae" / "notes.py").write_text("raise SystemExit")
    export(parts.student(1), parts.components, output, facts={"distance": 0.5})
    (parts.components / "vae" / "notes.py").unlink()
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    suffixes = {path.suffix for path in output.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".txt", ".md"}
    index = json.loads((output / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionXLPipeline"
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    folders = {path.name for path in output.iterdir() if path.is_dir()}
    assert folders == {name for name, kind in index.items() if isinstance(kind, list) and kind[0]}
    assert "| distance | 0.5 |" in (output / "README.md").read_text()


def test_a_checked_export_leaves_nothing_that_does_not_pass(made: Make, tmp_path: Path) -> None:
    parts = made("sd")
    (found, *_) = export_checked(parts.student(1), tmp_path / "good" / "out", parts.components)
    assert found.value <= TOLERANCE
    assert (tmp_path / "good" / "out" / "README.md").is_file()
    tokenizer = parts.components / "tokenizer" / "tokenizer.json"
    before = tokenizer.read_text()
    tokenizer.write_text("{}")
    with pytest.raises(BundleError, match="parity check failed"):
        export_checked(parts.student(1), tmp_path / "bad" / "out", parts.components)
    tokenizer.write_text(before)
    assert list((tmp_path / "bad").iterdir()) == []


def altered(parts: Tiny, folder: Path, **changes: Any) -> Path:
    """A copy of the teacher's bundle with another manifest."""
    (folder / parts.manifest.folder).mkdir(parents=True)
    manifest = parts.manifest.model_copy(update=changes)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return folder


def test_what_has_no_pipeline_of_its_own_is_not_exported(made: Make, tmp_path: Path) -> None:
    sd, flux, dit = (made(kind) for kind in ("sd", "flux", "dit"))
    alone = altered(sd, tmp_path / "alone", pipeline=None)
    told = altered(dit, tmp_path / "told", role="student", w=LAW)
    for bundle, components, message in (
        (alone, sd.components, "load unet/ with diffusers"),
        (told, dit.components, "DiTPipeline cannot pass w"),
    ):
        with pytest.raises(ConfigError, match=message):
            export(bundle, components, tmp_path / "out", facts={})
    with pytest.raises(BundleError, match="components of a FluxPipeline"):
        export(sd.student(4), flux.components, tmp_path / "out", facts={})
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(made: Make, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    export(made("sd").student(4), made("sd").components, output, facts={})
    before = (output / "model_index.json").read_bytes()
    with pytest.raises(ConfigError, match="export to a new directory"):
        export(made("sd").student(2), made("sd").components, output, facts={})
    assert (output / "model_index.json").read_bytes() == before


def commit(ledger: Ledger, kind: str, source: Path, path: str) -> Artifact:
    def fill(folder: Path) -> dict[str, Any]:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        return {}

    return ledger.publish(kind, fingerprint([kind, str(source)]), path, fill)


def committed(run_dir: Path, parts: Tiny, steps: int) -> tuple[Workspace, Artifact, Artifact]:
    """A run with a student and its components."""
    work = Workspace(run_dir, small_recipe())
    student = commit(work.ledger, "student", parts.student(steps), "rounds/01/student")
    return work, student, commit(work.ledger, "components", parts.components, "components")


def test_a_run_commits_a_pipeline_once_it_passed_the_gate(made: Make, tmp_path: Path) -> None:
    work, student, components = committed(tmp_path, made("sd-inpaint"), 3)
    done = export_student(work, student, components).value
    assert (done.kind, done.path) == ("pipeline", "pipelines/3-steps")
    assert done.details["largest_difference"] <= TOLERANCE
    assert student.digest in (tmp_path / done.path / "README.md").read_text()
    assert work.ledger.damage(done) is None
    assert work.ledger.find(export_key(student, components, {})) == done
    assert export_student(work, student, components) == StageResult(done, reused=True)


def test_a_run_commits_nothing_that_does_not_pass_the_gate(made: Make, tmp_path: Path) -> None:
    work, student, components = committed(tmp_path, made("sd"), 1)
    (tmp_path / "components" / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match="parity check failed"):
        export_student(work, student, components)
    assert not (tmp_path / "pipelines" / "1-steps").exists()
    assert [record.kind for record in work.ledger.records()] == ["student", "components"]
