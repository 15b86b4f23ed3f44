"""Shapes of samples, parameter counts and memory of training workers, known before a run."""

from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt

from infra.deepspeed.memory_model import Precision, ZeroStage, state_bytes, teacher_bytes
from pipeline.bundle import Lineage, read_manifest
from pipeline.config import Recipe
from pipeline.config.profile import Profile
from pipeline.data.sources.datasets import count_source
from pipeline.documents import Document
from pipeline.models.assemble import fresh_manifest
from pipeline.models.directory.pipeline_directory import read_pipeline
from pipeline.models.directory.pipeline_files import component_files
from pipeline.models.parameter_count import count_networks, count_stored
from pipeline.shapes import LatentShape, check_image_shape, check_shape
from pipeline.training.plan import plan_rounds
from stages.teacher.adopt import pipeline_manifest, pipeline_of

ZERO_STAGES: tuple[ZeroStage, ...] = (0, 1, 2, 3)


def sample_shape(recipe: Recipe) -> LatentShape:
    """Return the shape of one sample of the data set.

    Raises:
        ConfigError: it is not a shape, or not that of an image where the recipe needs images; the
            message lists all keys that do.
    """
    teacher, origin = recipe.teacher, f"data.source: {recipe.data.source}"
    shape = check_shape(recipe.data.sample_shape(teacher.network), origin)
    needs = {
        "encoding png of the source": recipe.data.encoding == "png",
        f"teacher.network.family: {teacher.network.family}": teacher.network.needs_images,
        "teacher.pipeline": teacher.pipeline is not None,
        "teacher.components": teacher.components is not None,
    }
    needed_by = [name for name, is_needed in needs.items() if is_needed]
    if needed_by:
        check_image_shape(shape, origin, ", ".join(needed_by))
    return shape


def trained_shape(recipe: Recipe) -> LatentShape:
    """Return the shape of one sample as the network sees it: of latents with an autoencoder.

    Raises:
        ConfigError: see `sample_shape`.
    """
    teacher, shape = recipe.teacher, sample_shape(recipe)
    if teacher.pipeline is not None:
        return read_pipeline(Path(teacher.pipeline)).latent_shape
    if teacher.components is None:
        return shape
    _, height, width = shape
    smaller = 2 ** (len(teacher.components.autoencoder_channels) - 1)
    return (teacher.components.latent_channels, height // smaller, width // smaller)


class Footprint(Document):
    """Parameters of a run's networks, and memory of a training worker by ZeRO stage.

    Attributes:
        teacher: parameters of the teacher's network.
        student: parameters of a student, which may have an additional input.
        components: parameters of text encoders and autoencoder, which training workers do not hold;
            None if they are not known yet.
        workers: number of training workers.
        precision: precision of the weights.
        zero_stage: ZeRO stage of the profile.
        online: whether every worker also holds the teacher, in float32.
        split_teacher: whether the workers share the teacher's weights.
        checkpointing: whether gradient checkpointing is enabled.
        stages: peak bytes of one worker without activations; None for unsupported stages.
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
    """Return the footprint of a recipe under a profile, without reading weights.

    Raises:
        BundleError: the recipe's teacher is not a valid bundle or pipeline.
    """
    teacher, student = count_parameters(recipe)
    return Footprint(
        teacher=teacher,
        student=student,
        components=count_components(recipe),
        workers=profile.compute.workers,
        precision=profile.engine.precision,
        zero_stage=profile.engine.zero_stage,
        online=recipe.has_online_targets,
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
    """Return the bytes of one worker in the largest round; None for an unsupported stage.

    `teacher` and `student` are numbers of parameters.
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

    online = recipe.has_online_targets
    # the teacher of a halving round is a student, which is at least as large
    teacher_memory = 0
    if online:
        teacher_memory = teacher_bytes(
            max(teacher, student),
            workers=profile.compute.workers,
            split=profile.engine.split_teacher,
        )
    decays = [plan.training.ema_decay for plan in plan_rounds(recipe)]
    rounds = [state(student, ema_decay) + teacher_memory for ema_decay in decays]
    first = recipe.teacher.train
    return max(rounds + ([state(teacher, first.ema_decay)] if first else []))


def count_parameters(recipe: Recipe) -> tuple[int, int]:
    """Return the parameters of the teacher and of a student, without reading weights."""
    teacher, folder = recipe.teacher, None
    if teacher.bundle is not None:
        manifest = read_manifest(Path(teacher.bundle))
        folder = Path(teacher.bundle) / manifest.folder
    elif teacher.pipeline is not None:
        manifest = pipeline_manifest(recipe)
        folder = pipeline_of(recipe) / manifest.folder
    else:
        lineage = Lineage(run=recipe.run.name, round=None, parent=None)
        manifest = fresh_manifest(teacher, count_source(recipe)[1], trained_shape(recipe), lineage)
    return count_networks(manifest, folder, (recipe.w.min, recipe.w.max))


def count_components(recipe: Recipe) -> int | None:
    """Return the parameters of text encoders and autoencoder; None if they are not known yet."""
    if recipe.teacher.pipeline is None:
        return None
    directory = pipeline_of(recipe)
    files = component_files(directory, read_pipeline(directory).network_folder)
    return count_stored([file for file in files if file.suffix == ".safetensors"])
