"""A model card has the usage, limits and scores, in numbers."""

import re
from pathlib import Path

import pytest

from pipeline.bundle import read_manifest
from pipeline.documents import parse_yaml
from pipeline.models.stock.card import model_card
from tests.support.stock_bundles import Tiny, tiny
from tests.support.tiny_pipelines import KINDS


def card(parts: Tiny, bundle: Path, **facts: object) -> str:
    return model_card(read_manifest(bundle), parts.stock, facts)


def header(text: str) -> dict[str, object]:
    _, document, _ = text.split("---\n", 2)
    return parse_yaml(document, "README.md")


def code(text: str) -> str:
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_header_and_code_that_is_python(kind: str, tmp_path: Path) -> None:
    parts = tiny(kind, tmp_path)
    text = card(parts, parts.student(4))
    assert header(text)["library_name"] == "diffusers"
    assert parts.manifest.pipeline in str(header(text)["tags"])
    compile(code(text), "card", "exec")
    assert "num_inference_steps=4" in code(text)
    assert "from 0 to 8" in text or "baked in at w = 3" in text
    assert "None" not in text


def test_it_states_w_lineage_facts_and_what_drops_w(tmp_path: Path) -> None:
    parts = tiny("sd", tmp_path)
    text = card(parts, parts.student(2), frechet_distance=1.25, base_model="owner/name")
    assert "from 1 to 9, 5 in the middle" in text
    assert "guidance_scale=5.0" in code(text)
    assert "round 1" in text
    assert "f" * 64 in text
    assert "| frechet distance | 1.25 |" in text
    assert "StableDiffusionControlNetInpaintPipeline" in text.partition("## Do not")[2]
    assert header(text)["base_model"] == "owner/name"


def test_a_baked_weight_is_to_be_left_off_in_the_call(tmp_path: Path) -> None:
    parts = tiny("sd3", tmp_path)
    text = card(parts, parts.student(2))
    assert "guidance_scale=1.0" in code(text)
    assert "`guidance_scale=4`, because StableDiffusion3Pipeline cannot pass w" in text
    assert "sigmas" not in text
    assert "sigmas=[1.0" in code(card(parts, parts.student(None)))


def test_a_teacher_is_called_a_guided_teacher(tmp_path: Path) -> None:
    parts = tiny("sd", tmp_path)
    text = card(parts, parts.teacher())
    assert "the guided teacher" in text
    assert "second network evaluation" in text
    assert "another number of steps" not in text


def test_a_path_on_this_machine_is_no_base_model(tmp_path: Path) -> None:
    parts = tiny("sd", tmp_path)
    assert "base_model" not in header(card(parts, parts.student(1), base_model="/tmp/model"))
