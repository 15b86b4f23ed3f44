"""A sharded teacher gives bitwise equal targets, with less memory.

Its student, split too, is sampled for states of its own by all of them equally often.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from flows.preflight import check
from pipeline.config.profile import EngineConfig, Profile
from pipeline.errors import ConfigError
from pipeline.ledger import Artifact
from pipeline.randomness import RowRandom
from pipeline.training.plan import plan_rounds
from pipeline.training.round_plan import RoundPlan
from stages.data.shard import shard
from stages.rounds.train import round_job
from stages.teacher.adopt import adopt, adopt_components
from stages.workspace import Workspace
from tests.support.family_chain import encode_here, resolve, train_here
from tests.support.ranks import run_ranks

WORKERS = 2
PLACES = ("output", "checkpoints", "metrics")
WEIGHTS = "output/unet/diffusion_pytorch_model.safetensors"
ON_POLICY = 0.4


def some_rank_meets_none(plan: RoundPlan) -> bool:
    """Whether in some update only one rank has on-policy states."""
    batch = plan.training.batch_size
    seen = RowRandom(plan.stream, 0, plan.samples_seen).uniform("own state") < ON_POLICY
    share = seen.reshape(plan.training.updates, WORKERS, batch // WORKERS).any(dim=2)
    return bool((share.any(dim=1) & ~share.all(dim=1)).any())


@pytest.mark.needs_ray
def test_its_student_is_the_same_and_it_takes_half_the_room(tmp_path: Path) -> None:
    recipe, run_dir = resolve("sd", tmp_path), tmp_path / "run"
    work = Workspace(run_dir, recipe)
    samples = encode_here(work, shard(work).value, adopt_components(work).value)
    guided, halving = plan_rounds(recipe)
    teacher = adopt(work, samples).value
    first = train_here(run_dir, recipe, guided, samples, teacher, None)
    own = halving.model_copy(
        update={"on_policy_fraction": ON_POLICY, "on_policy_source": "student"}
    )
    assert some_rank_meets_none(own)

    def jobs_of(plan: RoundPlan, teacher: Artifact) -> Iterator[dict[str, Any]]:
        for split in (False, True):
            profile = Profile(engine=EngineConfig(zero_stage=3, split_teacher=split))
            made = round_job(
                Workspace(run_dir, recipe, profile),
                plan,
                data=samples,
                teacher=teacher,
                targets=None,
            )
            place = tmp_path / f"{plan.index}-{split}"
            yield {**made, **{key: str(place / key) for key in PLACES}}

    jobs = tmp_path / "jobs.json"
    jobs.write_text(json.dumps([*jobs_of(guided, teacher), *jobs_of(own, first)]))
    held = run_ranks("tests/support/sharded_teacher_worker.py", WORKERS, tmp_path, str(jobs))
    for plan in (guided, own):
        whole, split = (
            load_file(tmp_path / f"{plan.index}-{split}" / WEIGHTS) for split in (False, True)
        )
        assert whole.keys() == split.keys()
        assert all((whole[name] == split[name]).all() for name in whole)
    # half of four bytes; a last layer may still be gathered and libraries keep some
    assert max(held) < 3


def test_it_is_refused_where_no_worker_holds_a_teacher(tmp_path: Path) -> None:
    recipe = resolve("sd", tmp_path)
    profile = Profile(engine=EngineConfig(split_teacher=True))
    with pytest.raises(ConfigError, match=r"engine\.split_teacher: .* targets are pregenerated"):
        check(recipe, profile, tmp_path / "run", accept_changes=False)
