"""The benchmarks run, store their results and write their tables; times are not asserted.

`round`, which starts Ray, is left to `make bench`.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Recipe
from pipeline.documents import read_yaml
from pipeline.training.plan import plan_rounds
from tests.benchmarks.harness import (
    Part,
    Row,
    Timing,
    at_least,
    at_most,
    interleave,
    read_parts,
    this_machine,
    to_markdown,
    write_parts,
)
from tests.benchmarks.scaling import fit_power
from tests.benchmarks.variants import Variant, variants
from tests.support.cases import RECIPES, read_recipe

ROOT = Path(__file__).resolve().parents[2]
PATHS = {path.stem: path for path in RECIPES}


def run(output: Path, *names: str) -> dict[str, Part]:
    """Run the quick suite in a process of its own, as users start it."""
    command = [sys.executable, "-m", "tests.benchmarks", *names, "--quick", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return read_parts(output / "bench.json")


def check_sense(part: Part) -> None:
    """Check that every value is plausible."""
    assert part.quick
    assert part.seconds > 0
    assert len({row.name for row in part.rows}) == len(part.rows) > 0
    for row in part.rows:
        assert row.value > 0 or "law" in row.name, row
        assert row.ratio is None or row.ratio > 0, row
        assert (row.target is None) == (row.passed is None), row


@pytest.mark.nightly
def test_the_quick_benchmarks_are_measured(tmp_path: Path) -> None:
    parts = run(tmp_path, "bf16", "resume", "loader", "pregenerate")
    assert list(parts) == ["pregenerate", "loader", "resume", "bf16"]
    for part in parts.values():
        check_sense(part)
    assert parts["loader"].row("latents/np.copyto").ratio == pytest.approx(1)
    assert parts["pregenerate"].row("student/worker").target == ">= 0.95"
    assert 1e-4 < parts["bf16"].row("demo/bfloat16").details["relative_error"] < 0.1
    assert parts["resume"].row("next").target == "<= 5"
    assert "## loader" in (tmp_path / "bench.md").read_text(encoding="utf-8")


@pytest.mark.needs_ray
@pytest.mark.nightly
def test_what_trains_on_deepspeed_is_measured(tmp_path: Path) -> None:
    parts = run(tmp_path, "update", "workers", "memory", "scaling")
    for part in parts.values():
        check_sense(part)
    assert parts["update"].row("demo/train_round on DeepSpeed, ZeRO-1").target == "<= 1.15"
    assert parts["workers"].row("1 worker, 1 thread").ratio == pytest.approx(1)
    assert parts["memory"].row("demo/targets online").ratio == pytest.approx(1)


@pytest.mark.slow
def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "speed", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "speed" in done.stderr


def test_arms_take_turns_and_the_order_is_reversed() -> None:
    seen: list[tuple[str, int]] = []

    def arm(name: str) -> Callable[[int], None]:
        return lambda count: seen.append((name, count))

    timings = interleave({"a": arm("a"), "b": arm("b")}, blocks=2, per_block=3, warm=1)
    assert seen == [("a", 1), ("b", 1), ("a", 3), ("b", 3), ("b", 3), ("a", 3)]
    assert [len(timing.wall) for timing in timings.values()] == [2, 2]


def test_a_ratio_compares_neighbouring_blocks() -> None:
    slow, fast = Timing(wall=[2.0, 20.0, 2.2]), Timing(wall=[1.0, 10.0, 1.0])
    assert slow.over(fast) == pytest.approx(2.0)
    assert slow.seconds == pytest.approx(2.2)


def test_results_survive_and_become_a_table(tmp_path: Path) -> None:
    row = Row(name="a/b", what="a thing", value=1234.5, unit="ms", ratio=1.2, **at_most(1.15, 1.2))
    part = Part(
        name="update",
        about="About.",
        quick=False,
        seconds=1.0,
        machine=this_machine(),
        rows=(row,),
    )
    write_parts(tmp_path / "bench.json", {"update": part})
    assert read_parts(tmp_path / "bench.json") == {"update": part}
    assert "| a thing | 1,234 ms | 1.2 | <= 1.15 missed |" in to_markdown([part])
    assert at_least(0.95, 0.9) == {"target": ">= 0.95", "passed": False}


def test_a_power_law_is_found_again() -> None:
    x = [1.0, 2.0, 4.0, 8.0]
    assert fit_power(x, [3 * each**1.5 for each in x]) == pytest.approx((1.5, 3, 0), abs=1e-9)


def updates_of(variant: Variant, recipe: Recipe) -> int:
    rounds = plan_rounds(recipe)
    return sum(plan.training.updates for plan in (rounds[:1] if variant.stage_one else rounds[1:]))


@pytest.mark.parametrize("stem", ["digits", "captions", "flow-times", "digits-on-policy"])
def test_every_ablation_of_a_group_is_a_recipe_of_as_many_updates(stem: str) -> None:
    tree, recipe = read_yaml(PATHS[stem]), read_recipe(PATHS[stem])
    found, updates = variants(1800, recipe), dict[str, set[int]]()
    assert len({variant.folder for variant in found}) == len(found)
    for each in found:
        group = each.name.partition("/")[0]
        updates.setdefault(group, set()).add(updates_of(each, each.recipe(tree)))
    assert all(len(different) == 1 for different in updates.values()), updates
    assert tree == read_yaml(PATHS[stem])
    assert {w for each in found for w in each.w} == set(recipe.evaluation.ends_and_middle)


def test_an_ablation_changes_only_what_its_name_states() -> None:
    tree = read_yaml(PATHS["digits"])
    found = variants(1800, read_recipe(PATHS["digits"]))
    recipes = {each.name: each.recipe(tree) for each in found}
    plain = recipes["jumps/16-8-4-2-1"]
    assert recipes["sampler/stochastic"].halving.samplers == ("stochastic",)
    assert plan_rounds(recipes["states/own quarter"])[1].config.on_policy_source == "teacher"
    for name in ("sampler/stochastic", "states/own quarter"):
        other = recipes[name]
        assert other.halving.updates == plain.halving.updates
        assert (other.teacher, other.guidance) == (plain.teacher, plain.guidance)
    alone = {each.name: each.w for each in found if each.name.endswith("alone")}
    assert alone == {f"laws of w/{w} alone": (w,) for w in (0, 2, 4)}
