"""Export: stock diffusers draws the same samples as our sampler."""

import ast
import json
import runpy
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
from pipeline.config import ScheduleConfig
from pipeline.errors import BundleError, ConfigError
from pipeline.ledger import Artifact, Ledger, fingerprint
from pipeline.models.assemble import family_of, save_bundle
from pipeline.models.stock.card import supported_weights
from stages.export.export import export, export_checked, export_key, export_student
from stages.export.network_script import fill_network
from stages.export.parity import (
    NOISE,
    PROMPTS,
    TOLERANCE,
    check_parity,
    check_script,
    check_supported,
    sample_ours,
)
from stages.workspace import StageResult, Workspace
from tests.support.cases import save_untrained, student_manifest, teacher_manifest
from tests.support.small_run import small_recipe
from tests.support.stock_bundles import LAW, Make, Tiny
from tests.support.tiny_pipelines import KINDS, PIXELS, edit

pytestmark = pytest.mark.slow


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


def pixel_student(folder: Path, steps: int | None, schedule: ScheduleConfig) -> Path:
    """A class-conditional U-Net on pixels with all parameters perturbed, w's too."""
    kind = "flow_prediction" if schedule.kind == "rectified_flow" else "v_prediction"
    teacher = teacher_manifest("unet").model_copy(
        update={"schedule": schedule, "prediction_type": kind}
    )
    manifest = student_manifest(teacher, LAW).model_copy(
        update={"steps": steps and (steps,), "class_names": tuple("abcdefghij")}
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        module = family_of(manifest).student_of(family_of(manifest).build(), (LAW.min, LAW.max))
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    save_bundle(folder, manifest, module)
    return folder


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("steps", "schedule"),
    [
        (4, ScheduleConfig(kind="cosine", num_train_timesteps=1024)),
        (3, ScheduleConfig(kind="linear", num_train_timesteps=1000)),
        (2, ScheduleConfig(kind="rectified_flow", num_train_timesteps=1000, shift=3.0)),
    ],
    ids=["cosine", "linear", "rectified_flow"],
)
def test_a_class_conditional_student_is_exported_with_a_sampling_script(
    steps: int, schedule: ScheduleConfig, tmp_path: Path
) -> None:
    bundle, output = pixel_student(tmp_path / "student", steps, schedule), tmp_path / "out"
    found = export_checked(bundle, output)
    assert [(each.w, each.steps) for each in found] == [(w, steps) for w in (0.0, 4.0, 8.0)]
    assert max(each.value for each in found) <= TOLERANCE
    assert {path.name for path in output.iterdir()} == {
        *("README.md", "sample.py", "scheduler", "unet")
    }
    assert "0 a, 1 b" in (output / "README.md").read_text()
    tree = ast.parse((output / "sample.py").read_text())
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    plain = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert froms | plain == {"argparse", "pathlib", "torch", "diffusers"}
    drawn = runpy.run_path(str(output / "sample.py"))["sample"]
    assert (drawn([3], steps, 0.0) - drawn([3], steps, 8.0)).abs().max() > 0.01  # it hears w
    for labels, count, w in (([10], steps, 1.0), ([3], steps, 9.0), ([3], steps + 1, 1.0)):
        with pytest.raises(
            ValueError, match=r"use steps in .*, 0.0 <= w <= 8.0, and labels 0 to 9"
        ):
            drawn(labels, count, w)


def test_a_run_commits_a_checked_script_with_the_scores_of_a_student_on_pixels(
    tmp_path: Path,
) -> None:
    bundle = pixel_student(tmp_path / "made", 1, teacher_manifest("unet").schedule)
    work = Workspace(tmp_path / "run", small_recipe())
    student = commit(work.ledger, "student", bundle, "rounds/01/student")
    facts = {"distance": 0.5}
    done = export_student(work, student, None, facts=facts).value
    folder = work.ledger.locate(done)
    assert (done.kind, done.path, done.parents) == (
        *("pipeline", "pipelines/1-steps"),
        (student.fingerprint,),
    )
    assert 0 <= done.details["largest_difference"] <= TOLERANCE
    card = (folder / "README.md").read_text()
    assert "| distance | 0.5 |" in card
    assert student.digest in card
    drawn = runpy.run_path(str(folder / "sample.py"))["sample"]
    assert drawn([3, 4], 1, 2.0).shape == (2, 1, 8, 8)
    assert work.ledger.find(export_key(student, None, facts)) == done
    assert export_student(work, student, None, facts=facts) == StageResult(done, reused=True)


@pytest.mark.nightly
def test_a_script_that_ignores_w_does_not_pass_the_gate(tmp_path: Path) -> None:
    bundle = pixel_student(tmp_path / "student", 1, teacher_manifest("unet").schedule)
    output = tmp_path / "out"
    fill_network(output, bundle, read_manifest(bundle), {})
    script = output / "sample.py"
    script.write_text(script.read_text().replace(", timestep_cond=w_embedding", ""))
    with pytest.raises(BundleError, match=r"parity check failed at w = 0.*tolerance"):
        check_script(output, bundle)


def test_networks_without_a_script_and_needless_components_are_refused(tmp_path: Path) -> None:
    student = pixel_student(tmp_path / "student", 1, teacher_manifest("unet").schedule)
    teacher = save_untrained(tmp_path / "teacher", teacher_manifest("unet"))
    points = save_untrained(tmp_path / "points", teacher_manifest("gaussian"))
    for bundle, components, message in (
        (student, tmp_path, "--components .*without other parts; leave the option out"),
        (teacher, None, "guided teacher without a stock pipeline; export one of its students"),
        (points, None, "has no stock pipeline, only a network"),
    ):
        with pytest.raises(ConfigError, match=message):
            export_checked(bundle, tmp_path / "out", components)
    assert not (tmp_path / "out").exists()
