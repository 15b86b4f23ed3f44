"""Stage `components`: train the demo's autoencoder, tokenizer and text encoder.

Teachers from a stock pipeline bring their own components, see `stages.teacher.adopt`.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ComponentsTraining, Recipe
from pipeline.data.shards.reader import SampleShards
from pipeline.errors import ConfigError
from pipeline.ledger import Artifact, fingerprint
from pipeline.run_dir import layout
from stages.workspace import UNOBSERVED, Observer, Progress, StageResult, Workspace, find_or_make

FORMAT = 1
_DEFAULT_PIPELINE = "StableDiffusionPipeline"

_log = logging.getLogger(__name__)


def components_key(recipe: Recipe, data: Artifact) -> str:
    """Return the fingerprint of trained components: the data and everything that affects training.

    Raises:
        ConfigError: the recipe has no components to train, or their configuration is not supported.
    """
    config, width = _training_config(recipe)
    content = {
        "stage": "components",
        "format": FORMAT,
        "data": data.digest,
        "components": config.model_dump(mode="json"),
        "width": width,
        "schedule": recipe.teacher.schedule.model_dump(mode="json"),
        "prediction": recipe.teacher.prediction,
        "seed": recipe.run.seed,
    }
    pipeline = recipe.teacher.trained_pipeline
    # text to image is left out to keep the fingerprints of runs from before other pipelines
    return fingerprint(
        content if pipeline == _DEFAULT_PIPELINE else content | {"pipeline": pipeline}
    )


def components(
    work: Workspace, *, data: Artifact, observer: Observer = UNOBSERVED
) -> StageResult[Artifact]:
    """Train components on the captioned data, committed at `components/`, or reuse them.

    The details of the artifact are the pipeline class, the reconstruction error of held-out images,
    their variance explained by captions, and, if samples have classes, the accuracy of the class
    predicted from the caption's embedding.

    Args:
        work: the run; its recipe has the components and the teacher.
        data: the sharded images and captions.
        observer: receives the number of updates.

    Raises:
        ConfigError: the recipe has no components to train, or their configuration is not supported.
        DataError: the data have no captions, or are damaged.
        DivergenceError: training diverged.
    """
    ledger, key = work.ledger, components_key(work.recipe, data)

    def write(folder: Path) -> dict[str, Any]:
        return _train(folder, work.recipe, ledger.locate(data), observer.progress)

    def make() -> Artifact:
        return ledger.publish("components", key, layout.COMPONENTS, write, (data.fingerprint,))

    return find_or_make(ledger, key, observer, make)


def _training_config(recipe: Recipe) -> tuple[ComponentsTraining, int]:
    """Return the training configuration and the channels of an embedded token, validated."""
    network, config = recipe.teacher.network, recipe.teacher.components
    if config is None:
        raise ConfigError("teacher.components is missing, so there is nothing to train; add it")
    if network.trained_pipeline is None:
        raise ConfigError(
            f"teacher.network: components cannot be trained for family {network.family}; use a "
            "unet with text_channels, or teacher.pipeline: DIRECTORY, which has components"
        )
    width, pooled = network.embedding_widths
    if pooled:
        raise ConfigError(
            "teacher.network: components can only be trained for Stable Diffusion 1.x; remove "
            "pooled_channels, or use teacher.pipeline: DIRECTORY, which has components"
        )
    if not recipe.teacher.schedule.is_discrete:
        raise ConfigError(
            f"teacher.schedule.kind: {recipe.teacher.schedule.kind} is not a discrete schedule, "
            "which Stable Diffusion's scheduler requires; use scaled_linear or linear"
        )
    return config, width


def _train(folder: Path, recipe: Recipe, data: Path, progress: Progress) -> dict[str, Any]:
    # imported here, so that a driver that reuses components does not pay for them
    from pipeline.demo.autoencoder import reconstruction_rms, train_autoencoder
    from pipeline.demo.text_encoder import (
        class_accuracy,
        explained_variance,
        train_text_encoder,
        train_tokenizer,
    )
    from pipeline.demo.write import Parts, write_components

    config, width = _training_config(recipe)
    seed, pipeline = recipe.run.seed, recipe.teacher.trained_pipeline or _DEFAULT_PIPELINE
    train, heldout = SampleShards(data, "train"), SampleShards(data, "heldout")
    captions = train.captions(np.arange(len(train)))
    tokenizer = train_tokenizer((caption.text for caption in captions), config.text_tokens)
    first = config.text_encoder_updates
    total = first + config.autoencoder_updates
    reader = train_text_encoder(
        config, width, tokenizer, train, seed, lambda done: progress(done, total)
    )
    size = train.info.latent_shape[1]
    autoencoder = train_autoencoder(
        config, train, size, seed, lambda done: progress(first + done, total)
    )
    write_components(
        folder,
        Parts(autoencoder, tokenizer, reader.encoder),
        recipe.teacher.schedule,
        recipe.teacher.prediction,
        pipeline,
    )
    details: dict[str, Any] = {
        "pipeline": pipeline,
        "reconstruction_rms": reconstruction_rms(autoencoder, heldout),
        "explained_variance": explained_variance(reader, tokenizer, heldout),
    }
    if train.info.num_classes:
        details["class_accuracy"] = class_accuracy(reader, tokenizer, train, heldout)
    _log.info("components: %s", ", ".join(f"{name} {value}" for name, value in details.items()))
    return details
