"""Stage `evaluate`: sample sets are committed one by one, and a report is reused."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from infra.ray.cluster import cluster
from pipeline.bundle import Lineage, read_manifest
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.documents import apply_override, build, read_yaml
from pipeline.errors import ConfigError
from pipeline.evaluation.documents import SampleSpec, read_report
from pipeline.ledger import Artifact, Ledger
from pipeline.models.assemble import family_of, load_module, save_bundle
from pipeline.sampling.sampler import BundleSampler, balanced_labels
from stages.data.shard import shard
from stages.evaluation.evaluate import evaluate, network_digest
from stages.evaluation.sample_sets import open_worker
from stages.teacher.adopt import adopt
from stages.workspace import Workspace
from tests.support.recipes import INLINE

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).resolve().parents[3] / "flows" / "recipes"
NUM = 90
DRAWN = ("reference", "samples")


@dataclass(frozen=True)
class Chain:
    run_dir: Path
    recipe: Recipe
    data: Artifact
    teacher: Artifact
    students: tuple[Artifact, ...]

    def evaluate(self) -> Artifact:
        work = Workspace(self.run_dir, self.recipe, INLINE)
        return evaluate(work, data=self.data, teacher=self.teacher, students=self.students).value

    def times(self) -> dict[str, int]:
        """Return the write times of all sample sets and features."""
        folder = self.run_dir / "evaluation"
        return {
            str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.npy")
        }


def make_recipe(num_samples: int = NUM) -> Recipe:
    tree = read_yaml(RECIPES / "gaussian.yaml")
    for override in (
        "data={source: gaussian, num_samples: 240}",
        f"evaluation={{num_samples: {num_samples}, w: [0, 2], baseline_steps: [1]}}",
    ):
        apply_override(tree, override)
    return build(Recipe, tree, "gaussian.yaml")


def make_chain(run_dir: Path, recipe: Recipe) -> Chain:
    """An exact teacher, and the untrained student of each round."""
    ledger = Ledger(run_dir)
    data = shard(Workspace(run_dir, recipe)).value
    teacher = adopt(Workspace(run_dir, recipe), data).value
    manifest = read_manifest(ledger.locate(teacher))
    module = load_module(ledger.locate(teacher), manifest)
    students = []
    for index, steps in enumerate(recipe.halving.steps):
        student = manifest.model_copy(
            update={
                "role": "student",
                "steps": (steps,) if index else None,
                "w": recipe.guidance.w,
                "lineage": Lineage(run="test", round=index, parent=teacher.digest),
            }
        )

        def write(folder: Path, student=student) -> dict[str, int]:
            save_bundle(folder, student, family_of(student).student_of(module, (0.0, 4.0)))
            return {}

        path = f"rounds/{index:02d}/student"
        students.append(ledger.publish("student", f"{index}" * 64, path, write))
    return Chain(run_dir, recipe, data, teacher, tuple(students))


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[None]:
    with cluster(Profile(), tmp_path / "logs"):
        yield


def test_a_job_draws_its_rows_into_its_part_once(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, make_recipe())
    cell = SampleSpec(
        role="student",
        bundle=chain.students[1].path,
        digest=chain.students[1].digest,
        round=1,
        sampler="ddim",
        steps=2,
        w=2.0,
        seed=7,
    )
    spec = {"run_dir": str(tmp_path), "num_samples": NUM, "data": "data", "components": None}
    serve = open_worker(spec)
    job = {
        "key": "k",
        "cell": cell.model_dump(mode="json"),
        "first": 20,
        "count": 15,
        "part": "parts/one.npy",
    }
    assert serve(job) == {"key": "k", "part": "parts/one.npy", "evaluations": 2}
    part = tmp_path / "parts/one.npy"
    labels = balanced_labels(NUM, 3)
    whole = BundleSampler(tmp_path / cell.bundle).sample(steps=2, w=2.0, conditions=labels, seed=7)
    np.testing.assert_allclose(np.load(part), whole[20:35], atol=1e-6)
    written = part.stat().st_mtime_ns
    assert serve(job)["evaluations"] == 2
    assert part.stat().st_mtime_ns == written
    assert [path.name for path in part.parent.iterdir()] == ["one.npy"]


def test_a_teacher_is_the_same_one_in_runs_of_two_names(tmp_path: Path) -> None:
    recipe = make_recipe()
    other = recipe.model_copy(update={"run": recipe.run.model_copy(update={"name": "other"})})
    chains = [make_chain(tmp_path / each.run.name, each) for each in (recipe, other)]
    ledgers = [Ledger(chain.run_dir) for chain in chains]
    first, second = (
        network_digest(ledger, chain.teacher) for ledger, chain in zip(ledgers, chains, strict=True)
    )
    assert first == second
    assert chains[0].data.digest == chains[1].data.digest
    assert chains[0].teacher.digest != chains[1].teacher.digest  # its lineage names the run
    assert network_digest(ledgers[0], chains[0].students[0]) != first


def test_too_few_samples_are_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, make_recipe(num_samples=5))
    with pytest.raises(ConfigError, match=r"evaluation\.num_samples: 5 .* use at least 6"):
        chain.evaluate()
    assert not (tmp_path / "evaluation").exists()


def test_a_chain_is_evaluated_once_and_redone_in_part(tmp_path: Path) -> None:
    chain = make_chain(tmp_path / "run", make_recipe())
    first = chain.evaluate()
    assert (first.kind, first.path) == ("report", "report")
    report = read_report(chain.run_dir / "report")
    assert report.weights == [0.0, 2.0]
    assert [row.cell.steps for row in report.at(2.0)] == [4, 4, 2, 1, 1, 1, 1]
    assert report.at(2.0)[0].evaluations == 8
    to_teacher = next(each for each in report.metrics if each.metric == "rms_to_teacher")
    assert to_teacher.reference.teacher_sha256 == network_digest(
        Ledger(chain.run_dir), chain.teacher
    )
    assert to_teacher.reference.data_sha256 == chain.data.digest
    kinds = [artifact.kind for artifact in Ledger(chain.run_dir).records()]
    # two weights: two sets of the teacher each, three students and three baselines each
    assert (kinds.count("reference"), kinds.count("samples")) == (4, 12)
    # the classifier reads each set once, and of the data three: held out, training, class means
    contents = {a.digest for a in Ledger(chain.run_dir).records() if a.kind in DRAWN}
    assert kinds.count("features") == len(contents) + 3
    assert not (chain.run_dir / "evaluation" / ".parts.tmp").exists()

    drawn = chain.times()
    assert chain.evaluate() == first
    shutil.rmtree(chain.run_dir / "report")
    lost = chain.run_dir / "evaluation" / f"{NUM}-samples" / "samples-round01-ddim-2-w2.npy"
    lost.unlink()
    again = chain.evaluate()
    assert again.files == first.files
    now = chain.times()
    # a second report extracts no features: resampled content has features already
    assert {name for name in now if now[name] != drawn[name]} == {f"{NUM}-samples/{lost.name}"}


@pytest.mark.needs_ray
@pytest.mark.usefixtures("ray")
def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    reports = []
    for workers in (1, 2):
        chain = make_chain(tmp_path / str(workers), make_recipe(num_samples=300))
        profile = Profile.model_validate({"compute": {"workers": workers}})
        reports.append(
            evaluate(
                Workspace(chain.run_dir, chain.recipe, profile),
                data=chain.data,
                teacher=chain.teacher,
                students=chain.students,
            ).value
        )
    assert reports[0].files == reports[1].files
