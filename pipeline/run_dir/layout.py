"""The layout of a run directory: names and paths of its files and folders.

Artifact paths are relative to the run directory, as in the ledger. No other module contains these
names, except `pipeline.run_files`, which names the files beside artifacts.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle import Manifest
from pipeline.evaluation import file_names
from pipeline.ledger import Artifact, Ledger
from pipeline.run_files import CHECKPOINTS as CHECKPOINTS
from pipeline.run_files import EVENTS as EVENTS
from pipeline.run_files import LOCK, LOCK_HOLDER
from pipeline.run_files import LOGS as LOGS
from pipeline.run_files import MACHINES as MACHINES
from pipeline.run_files import METRICS as METRICS
from pipeline.run_files import OUTBOX as OUTBOX
from pipeline.run_files import PREVIEWS as PREVIEWS
from pipeline.run_files import PROFILE as PROFILE
from pipeline.run_files import RAY as RAY
from pipeline.run_files import RECIPE as RECIPE
from pipeline.run_files import REPORT as REPORT
from pipeline.run_files import REPORT_PAGE as REPORT_PAGE
from pipeline.run_files import ROUNDS as ROUNDS
from pipeline.run_files import TIMING as TIMING
from pipeline.training.round_plan import RoundPlan

RAY_LINK = "ray"
"""In the folder of log files: link to the logs of a running local Ray."""

RUN_LOG = "run.log"
PIPELINES = "pipelines"

DATA = "data"
COMPONENTS = "components"
LATENTS = "latents"
TEACHER = "teacher"
ENCODERS = "encoders"
EVALUATION = "evaluation"
CLASSIFIER = f"{EVALUATION}/classifier"
FEATURES = f"{EVALUATION}/features"

STUDENT = "student"
CANDIDATE = "candidate"
VERDICT = "verdict"
TARGETS = "targets"

REPORT_JSON = file_names.REPORT_JSON
REPORT_MARKDOWN = file_names.REPORT_MARKDOWN
TARGETS_TAR = "targets.tar"
ANSWER = "answer.json"
PROMOTION = "promotion.json"

TEACHER_PREVIEWS = f"{ROUNDS}/{TEACHER}/{PREVIEWS}"

STARTING = (LOCK, LOCK_HOLDER, LOGS, EVENTS, f".{RECIPE}.*.tmp")
"""Patterns of files left by a run that stopped before its recipe was written."""

SCRATCH = (f"{RAY}/*",)
"""Patterns of temporary folders left by a killed driver."""


def student_of(plan: RoundPlan) -> str:
    """Return the artifact path of a round's accepted student."""
    return f"{plan.folder}/{STUDENT}"


def candidate_of(plan: RoundPlan) -> str:
    """Return the artifact path of a student that has not passed the quality gate."""
    return f"{plan.folder}/{CANDIDATE}"


def verdict_of(plan: RoundPlan) -> str:
    """Return the artifact path of the gate verdict on an attempt."""
    return f"{plan.folder}/{VERDICT}"


def answer_beside(verdict: str) -> str:
    """Return the artifact path of the manual decision on the verdict at a path."""
    return f"{verdict.rpartition('/')[0]}/{ANSWER}"


def promotion_of(plan: RoundPlan) -> str:
    """Return the artifact path of the registration record of a round's student."""
    return f"{plan.folder}/{PROMOTION}"


def targets_of(plan: RoundPlan) -> str:
    """Return the folder of a round's target shards."""
    return f"{plan.folder}/{TARGETS}"


def target_shard_of(plan: RoundPlan, number: int, shard: int) -> str:
    """Return the artifact path of the targets of data shard `shard` in pass `number`."""
    return f"{targets_of(plan)}/pass-{number:03d}-shard-{shard:05d}"


def previews_of(plan: RoundPlan) -> str:
    """Return the folder of a round's preview images."""
    return f"{plan.folder}/{PREVIEWS}"


def pipeline_of(manifest: Manifest) -> str:
    """Return the artifact path of a student's stock pipeline."""
    return f"{PIPELINES}/{manifest.own_steps or 'any'}-steps"


def side_report(num_samples: int) -> str:
    """Return the artifact path of a report whose number of samples is not the recipe's."""
    return f"{REPORT}-{num_samples}"


@dataclass(frozen=True)
class RunDir:
    """The files of one run directory.

    Attributes:
        root: the run directory.
    """

    root: Path

    @property
    def ledger(self) -> Ledger:
        """The commit records."""
        return Ledger(self.root)

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.root / RECIPE

    @property
    def profile(self) -> Path:
        """The compute profile of the last driver."""
        return self.root / PROFILE

    @property
    def events(self) -> Path:
        """Events of the run, one JSON object per line."""
        return self.root / EVENTS

    @property
    def timing(self) -> Path:
        """Seconds per stage."""
        return self.root / TIMING

    @property
    def outbox(self) -> Path:
        """Pending tracker updates."""
        return self.root / OUTBOX

    @property
    def machines(self) -> Path:
        """Machines used by the run."""
        return self.root / MACHINES

    @property
    def logs(self) -> Path:
        """Folder of log files."""
        return self.root / LOGS

    @property
    def run_log(self) -> Path:
        """Log of the driver."""
        return self.logs / RUN_LOG

    @property
    def ray(self) -> Path:
        """Scratch folder of training workers."""
        return self.root / RAY

    @property
    def report(self) -> Path:
        """Folder of the evaluation report."""
        return self.root / REPORT

    @property
    def page(self) -> Path:
        """The HTML report."""
        return self.report / REPORT_PAGE

    def metrics(self, plan: RoundPlan) -> Path:
        """Return the training metrics file of a round, one JSON object per line."""
        return self.root / plan.folder / METRICS

    def all_metrics(self) -> list[Path]:
        """Return the training metrics files of all started rounds."""
        return list(self.root.glob(f"{ROUNDS}/*/{METRICS}"))

    def checkpoints(self, plan: RoundPlan) -> Path:
        """Return the checkpoint folder of a round."""
        return self.root / plan.folder / CHECKPOINTS

    def all_checkpoints(self) -> list[Path]:
        """Return the checkpoint folders of all rounds."""
        return sorted(self.root.glob(f"{ROUNDS}/*/{CHECKPOINTS}"))

    def all_targets(self) -> list[Path]:
        """Return the folders of target shards of all rounds."""
        return list(self.root.glob(f"{ROUNDS}/*/{TARGETS}"))

    def artifacts(self) -> dict[str, Artifact]:
        """Load the newest record of every artifact path; files are not verified."""
        return {artifact.path: artifact for artifact in self.ledger.records()}
