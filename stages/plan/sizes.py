"""What shape one sample has, as it is given and as a run trains on it, known beforehand."""

from pathlib import Path
from typing import TypeAlias

from pydantic import NonNegativeInt, PositiveInt

from infra.deepspeed.memory_model import Precision, ZeroStage, frozen_bytes, state_bytes
from pipeline.bundle import Lineage, read_manifest
from pipeline.config import (
    CaptionedDigitsData,
    CaptionedFolderData,
    CaptionedTarsData,
    DigitCanvasesData,
    DigitsData,
    GaussianConfig,
    ImageFolderData,
    PromptsData,
    Recipe,
)
from pipeline.config.profile import Profile
from pipeline.data.sources.counting import count_source
from pipeline.documents import Document
from pipeline.models.assemble import fresh_manifest
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.models.directory.pipeline_files import component_files
from pipeline.models.parameter_count import count_networks, count_stored
from pipeline.training.plan import plan_rounds, plan_teacher
from stages.teacher.adopt import pipeline_manifest, pipeline_of

Shape: TypeAlias = tuple[int, int, int]
"""(channels, height, width)."""


def sample_shape(recipe: Recipe) -> Shape:
    """Of one sample of the data set as it is given."""
    match recipe.data:
        case DigitsData():
            return (1, 8, 8)
        case ImageFolderData(channels=channels, size=size):
            return (channels, size, size)
        case (
            DigitCanvasesData(size=size)
            | CaptionedDigitsData(size=size)
            | CaptionedTarsData(size=size)
            | CaptionedFolderData(size=size)
            | PromptsData(size=size)
        ):
            return (3, size, size)
        case _:
            network = recipe.teacher.network
            return (len(network.means[0]) if isinstance(network, GaussianConfig) else 1, 1, 1)


def trained_shape(recipe: Recipe) -> Shape:
    """Of one sample as the network sees it: its latents, where there is an autoencoder."""
    teacher = recipe.teacher
    if teacher.pipeline is not None:
        return read_pipeline(Path(teacher.pipeline)).latent_shape
    channels, height, width = sample_shape(recipe)
    if teacher.components is None:
        return (channels, height, width)
    smaller = 2 ** (len(teacher.components.autoencoder_channels) - 1)
    return (teacher.components.latent_channels, height // smaller, width // smaller)


ZERO_STAGES: tuple[ZeroStage, ...] = (0, 1, 2, 3)


class Footprint(Document):
    """Parameters of a run's networks, and bytes of a training worker by ZeRO stage.

    Attributes:
        teacher: parameters of the teacher's network.
        student: of the students', which may have an input more.
        components: numbers in text encoders and autoencoder, which no training worker holds; None
            where there are none yet.
        workers: that train together.
        precision: of their weights.
        zero_stage: what the profile asks for.
        online: whether every worker also holds the teacher, in float32.
        split_teacher: whether the workers share its weights.
        checkpointing: whether activations are computed twice.
        stages: bytes of one worker at its peak, without activations; None where the engine refuses.
    """

    teacher: NonNegativeInt
    student: NonNegativeInt
    components: NonNegativeInt | None
    workers: PositiveInt
    precision: Precision
    zero_stage: ZeroStage
    online: bool
    split_teacher: bool
    checkpointing: bool
    stages: dict[ZeroStage, NonNegativeInt | None]


def measure_footprint(recipe: Recipe, profile: Profile) -> Footprint:
    """The footprint of a recipe under a profile; no weights are read.

    Raises:
        BundleError: the teacher that the recipe names is none.
    """
    teacher, student = _count_networks(recipe)
    return Footprint(
        teacher=teacher,
        student=student,
        components=_count_components(recipe),
        workers=profile.compute.workers,
        precision=profile.engine.precision,
        zero_stage=profile.engine.zero_stage,
        online=recipe.targets.mode == "online",
        split_teacher=profile.engine.split_teacher,
        checkpointing=profile.engine.gradient_checkpointing,
        stages={
            stage: worker_bytes(recipe, profile, stage, teacher=teacher, student=student)
            for stage in ZERO_STAGES
        },
    )


def worker_bytes(
    recipe: Recipe, profile: Profile, stage: ZeroStage, *, teacher: int, student: int
) -> int | None:
    """Bytes of one worker in the largest round; None for a stage that the engine refuses.

    Args:
        recipe: says which rounds there are and whether they hold their teacher.
        profile: says how many workers, and in what precision.
        stage: of ZeRO.
        teacher: parameters of the teacher.
        student: parameters of a student.
    """
    if stage == 0 and profile.engine.precision == "bfloat16":
        return None

    def state(parameters: int, ema_decay: float) -> int:
        return state_bytes(
            parameters,
            zero_stage=stage,
            workers=profile.compute.workers,
            precision=profile.engine.precision,
            ema=ema_decay > 0,
        )

    online = recipe.targets.mode == "online"
    # a halving's teacher is a student, and a student is never the smaller one
    beside = 0
    if online:
        beside = frozen_bytes(
            max(teacher, student),
            workers=profile.compute.workers,
            split=profile.engine.split_teacher,
        )
    rounds = [state(student, plan.ema_decay) + beside for plan in plan_rounds(recipe)]
    training = plan_teacher(recipe)
    return max(rounds + ([state(teacher, training.ema_decay)] if training else []))


def _count_networks(recipe: Recipe) -> tuple[int, int]:
    """Parameters of the teacher and of a student."""
    teacher, law = recipe.teacher, recipe.guidance.w
    if teacher.bundle is not None:
        bundle = Path(teacher.bundle)
        manifest = read_manifest(bundle)
        return count_networks(manifest, bundle / manifest.folder, (law.min, law.max))
    if teacher.pipeline is not None:
        manifest = pipeline_manifest(recipe)
        return count_networks(manifest, pipeline_of(recipe) / manifest.folder, (law.min, law.max))
    lineage = Lineage(run=recipe.run.name, round=None, parent=None)
    manifest = fresh_manifest(teacher, count_source(recipe)[1], trained_shape(recipe), lineage)
    return count_networks(manifest, None, (law.min, law.max))


def _count_components(recipe: Recipe) -> int | None:
    if recipe.teacher.pipeline is None:
        return None
    directory = pipeline_of(recipe)
    files = component_files(directory, read_pipeline(directory).network_folder)
    return count_stored([file for file in files if file.suffix == ".safetensors"])
