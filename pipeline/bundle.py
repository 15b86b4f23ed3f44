"""A bundle on disk: a stock weights folder plus a manifest. Data only, and cheap to inspect.

The manifest describes the network and its valid range of use. A student sampled outside its step
count or w range degrades sharply (a 1-step student gets worse, not better, at 4 steps), so such
use raises an error with the reason.
"""

import json
import math
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pipeline.class_names import find_class
from pipeline.config import Network, PredictionName, ScheduleConfig, WDistribution
from pipeline.diffusion.grid import Direction, Sampling
from pipeline.documents import Document, build
from pipeline.errors import BundleError, ConfigError
from pipeline.shapes import LatentShape, is_image_shape

MANIFEST = "manifest.json"


class Lineage(Document):
    """Provenance of a bundle.

    Attributes:
        run: name of the recipe.
        round: index of the round; None for a teacher.
        parent: digest of the round's teacher.
        start: digest of the student of another round whose weights the round started from; None if
            it started from its teacher.
    """

    run: str
    round: int | None
    parent: str | None
    start: str | None = Field(default=None, exclude_if=lambda digest: digest is None)


class Manifest(Document):
    """Description of a bundle's network and its valid range of use.

    Attributes:
        class_names: names of the classes; empty if they are the numbers 0 to num_classes - 1, or
            not known.
        role: a teacher is sampled under guidance, a student is conditioned on w.
        steps: valid step counts of a student; None for any divisor of T.
        direction: whether a student of those step counts goes from noise to data, or back.
        sampler: the sampler that a student of those step counts was distilled for.
        jump: steps of the round's teacher that one step replaces; None outside halvings.
        pipeline: class of the stock diffusers pipeline the network belongs to; None for a
            standalone network. With a pipeline, samples are latents, decoded by its `components`.
        baked_w: the fixed w of a student whose stock pipeline has no input for w.
        w: the distribution of w a student was trained with, or that a teacher takes as an input
            (`teacher.w` of its recipe), in the paper's convention (w = 0 unguided, diffusers'
            guidance_scale = 1 + w).
        folder: sub-folder of the weights.
    """

    format_version: Literal[1] = 1
    role: Literal["teacher", "student"]
    network: Network
    num_classes: int
    class_names: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
    latent_shape: LatentShape
    schedule: ScheduleConfig
    prediction_type: PredictionName
    folder: str = Field(pattern=r"^\w[\w-]*$")
    steps: tuple[int, ...] | None = None
    direction: Direction = Field(default="decode", exclude_if=lambda way: way == "decode")
    sampler: Sampling = Field(
        default="deterministic", exclude_if=lambda kind: kind == "deterministic"
    )
    jump: int | None = None
    pipeline: str | None = None
    baked_w: float | None = None
    w: WDistribution | None = None
    w_convention: Literal["guidance_scale = 1 + w"] = "guidance_scale = 1 + w"
    lineage: Lineage

    @property
    def is_w_conditioned(self) -> bool:
        """Whether the network has an input for w."""
        if self.role == "student":
            return self.baked_w is None
        return self.network.takes_w

    @property
    def own_steps(self) -> int | None:
        """The step count a student was distilled for; None for any."""
        return self.steps[0] if self.steps else None

    @property
    def has_images(self) -> bool:
        """Whether samples are images: decoded latents, or pixels of one or three channels."""
        if self.pipeline is not None:
            return True
        channels, *sides = self.latent_shape
        return is_image_shape(self.latent_shape) and channels in {1, 3} and math.prod(sides) > 1

    @model_validator(mode="after")
    def _has_the_axes_of_its_network(self) -> "Manifest":
        if self.network.needs_images and not is_image_shape(self.latent_shape):
            raise ValueError(
                f"latent_shape {self.latent_shape}: a {self.network.family} needs (channels, "
                "height, width)"
            )
        return self

    def find_class(self, text: str, key: str) -> int:
        """Return the class of a name or number; `key` is the option it comes from.

        Raises:
            ConfigError: there is no such class, or several.
            BundleError: the network is conditioned on prompts.
        """
        if self.network.reads_text:
            raise BundleError(
                f"{key} {text}: this bundle is conditioned on prompts, not on classes; give "
                "--prompt"
            )
        return find_class(text, self.class_names, self.num_classes, key)

    def check_use(self, steps: int, w: float, direction: Direction = "decode") -> None:
        """Validate a step count, guidance weight and direction.

        A network without fixed step counts (a teacher or a stage-1 student) supports both
        directions.

        Raises:
            BundleError: outside the supported range; the message lists the valid values.
        """
        if self.steps is not None and direction != self.direction:
            purpose = {"decode": "samples images from noise", "encode": "encodes images to noise"}
            raise BundleError(
                f"direction {direction!r} is not supported: this student "
                f"{purpose[self.direction]}; use "
                + ("stepfold sample" if self.direction == "decode" else "stepfold stylize")
            )
        total = self.schedule.num_train_timesteps
        if not self.schedule.holds(steps):
            raise BundleError(
                f"{steps} steps do not divide the schedule's {total} timesteps; use a divisor"
            )
        if self.steps is not None and steps not in self.steps:
            allowed = " or ".join(str(count) for count in self.steps)
            raise BundleError(
                f"{steps} steps are not supported: this student was distilled for {allowed} "
                f"step(s) and other step counts give worse samples; use --steps {allowed}"
            )
        if not math.isfinite(w) or w < 0:
            raise BundleError(
                f"guidance weight {w} is invalid; use a finite number >= 0 (w = 0 is unguided)"
            )
        if self.w is not None and not self.w.allows(w):
            raise BundleError(
                f"guidance weight w = {w} is outside the trained weights {self.w.as_text}; use one "
                "of these (diffusers' guidance_scale is 1 + w)"
            )


def read_manifest(bundle: Path) -> Manifest:
    """Read the manifest of a bundle directory.

    Raises:
        BundleError: the directory is not a bundle, or contains files other than data.
    """
    path = bundle / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{bundle} is not a bundle: it has no {MANIFEST}; give the directory of a bundle"
        )
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        manifest = build(Manifest, tree if isinstance(tree, dict) else {}, str(path))
    except (ConfigError, ValueError) as error:
        raise BundleError(
            f"not a manifest that this version can read: {error}; use the version that wrote it"
        ) from None
    if not (bundle / manifest.folder).is_dir():
        raise BundleError(
            f"{bundle} is damaged: its weights folder {manifest.folder} is missing; copy or distil "
            "it again"
        )
    if manifest.class_names and len(manifest.class_names) != manifest.num_classes:
        raise BundleError(
            f"{path}: class_names has {len(manifest.class_names)} names, but num_classes is "
            f"{manifest.num_classes}; give one name per class, or remove the key"
        )
    foreign = [
        file.relative_to(bundle).as_posix()
        for file in bundle.rglob("*")
        if file.is_file() and file.suffix not in {".safetensors", ".json"}
    ]
    if foreign:
        raise BundleError(
            f"{bundle} contains files that are not data ({', '.join(foreign[:3])}); a bundle has "
            ".safetensors and .json files only, so remove the others"
        )
    return manifest
