"""Stage `components`: the demo's own autoencoder, tokenizer and text encoder, as a stock pipeline.

Teachers from elsewhere bring theirs, see `stages.teacher.adopt`.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ComponentsTraining, Recipe, UNetConfig
from pipeline.data.shards.reader import SampleShards
from pipeline.errors import ConfigError
from pipeline.ledger import Artifact, Ledger, fingerprint
from stages.evaluation.sample_sets import Progress

FORMAT = 1
_USUAL = "StableDiffusionPipeline"

_log = logging.getLogger(__name__)


def components_key(recipe: Recipe, data: Artifact) -> str:
    """Fingerprint of trained components: the data, and all that decides how they are trained.

    Raises:
        ConfigError: the recipe asks for no components, or for some that are not trained here.
    """
    config, width = _asked(recipe)
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
    # text to image is not named: it was the only kind once
    return fingerprint(content if pipeline == _USUAL else content | {"pipeline": pipeline})


def components(
    run_dir: Path,
    recipe: Recipe,
    *,
    data: Artifact,
    progress: Progress = lambda _done, _total: None,
) -> Artifact:
    """Train them on the captioned data and commit them at `components/`, or find them there.

    The details of the artifact are the pipeline's class, what held-out images lose by way of their
    latents, how much of them their captions explain, and, if samples have classes, how often the
    class is read from the caption's embedding.

    Args:
        run_dir: the run directory.
        recipe: what to train, and for which teacher.
        data: the sharded images and captions.
        progress: told of the updates done and of all there are.

    Raises:
        ConfigError: the recipe asks for no components, or for some that are not trained here.
        DataError: the data have no captions, or are damaged.
        DivergenceError: training went bad.
    """
    ledger = Ledger(run_dir)
    key = components_key(recipe, data)
    found = ledger.find(key)
    if found is not None:
        return found

    def write(folder: Path) -> dict[str, Any]:
        return _train(folder, recipe, ledger.locate(data), progress)

    return ledger.publish("components", key, "components", write, (data.fingerprint,))


def _asked(recipe: Recipe) -> tuple[ComponentsTraining, int]:
    """How to train them, and the channels of an embedded token; refuses what cannot be."""
    network, config = recipe.teacher.network, recipe.teacher.components
    if config is None:
        raise ConfigError("teacher.components is not given, so there are none to train; add it")
    if not isinstance(network, UNetConfig) or network.text_channels is None:
        raise ConfigError(
            f"teacher.network: components are trained for a unet with text_channels, not for "
            f"{network.family}; use one, or a pipeline: DIRECTORY that has its own"
        )
    if network.pooled_channels:
        raise ConfigError(
            "teacher.network: components are trained for Stable Diffusion 1.x alone; drop "
            "pooled_channels, or use a pipeline: DIRECTORY that has its own"
        )
    if not recipe.teacher.schedule.is_discrete:
        raise ConfigError(
            f"teacher.schedule.kind: {recipe.teacher.schedule.kind} is no table of betas, which "
            "Stable Diffusion's scheduler needs; use scaled_linear or linear"
        )
    return config, network.text_channels


def _train(folder: Path, recipe: Recipe, data: Path, progress: Progress) -> dict[str, Any]:
    # imported here, so that a driver that finds them made does not pay for it
    from pipeline.demo.autoencoder import reconstruction_rms, train_autoencoder
    from pipeline.demo.text_encoder import class_accuracy, explained, train_text_encoder
    from pipeline.demo.tokenizer import train_tokenizer
    from pipeline.demo.write import Parts, write_components

    config, width = _asked(recipe)
    seed, pipeline = recipe.run.seed, recipe.teacher.trained_pipeline or _USUAL
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
        "explained": explained(reader, tokenizer, heldout),
    }
    if train.info.num_classes:
        details["class_accuracy"] = class_accuracy(reader, tokenizer, train, heldout)
    _log.info("components: %s", ", ".join(f"{name} {value}" for name, value in details.items()))
    return details
