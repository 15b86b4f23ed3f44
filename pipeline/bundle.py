"""A bundle on disk: a stock weights folder plus a manifest. Data only, and cheap to inspect.

The manifest says what the network is and what it was made for. Sampling a student outside its own
step count or w range does not degrade gracefully (a 1-step student asked for 4 steps gets worse,
not better), so it is refused with the reason.
"""

import json
import math
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.config import MMDiTConfig, Network, PredictionName, ScheduleConfig, WDistribution
from pipeline.diffusion.grid import Direction, Sampling
from pipeline.documents import Document, build
from pipeline.errors import BundleError, ConfigError

MANIFEST = "manifest.json"


class Lineage(Document):
    """Where a bundle comes from: the recipe's name, the round, and its parent's weights digest."""

    run: str
    round: int | None
    parent: str | None


class Manifest(Document):
    """What a bundle holds and what it may be used for.

    Attributes:
        role: a teacher is sampled under guidance, a student is told w.
        steps: the step counts a student may be sampled with; None for any divisor of T.
        direction: whether a student of those step counts goes from noise to data, or back.
        sampler: how a student of those step counts is to be sampled.
        jump: how many steps of the round's teacher one step stands for; None outside halvings.
        pipeline: class of the stock diffusers pipeline its network belongs in; None for a network
            that stands alone. Its samples are then latents, and `components` beside it draw them.
        baked_w: the one w of a student whose stock pipeline cannot be told w.
        w: the law of w a student was trained under, in the paper's convention (w = 0 unguided,
            diffusers' guidance_scale = 1 + w).
        folder: sub-folder of the weights.
    """

    format_version: Literal[1] = 1
    role: Literal["teacher", "student"]
    network: Network
    num_classes: int
    latent_shape: tuple[int, int, int]
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
    def knows_w(self) -> bool:
        """Whether the network has an input for w."""
        if self.role == "student":
            return self.baked_w is None
        return isinstance(self.network, MMDiTConfig) and self.network.guidance_embeds

    def check_use(self, steps: int, w: float, direction: Direction = "decode") -> None:
        """Refuse a step count, guidance weight or direction the network was not made for.

        A network without step counts of its own, a teacher or a stage-1 student, goes both ways.

        Raises:
            BundleError: with the reason and what is allowed.
        """
        if self.steps is not None and direction != self.direction:
            way = {"decode": "draws, from noise", "encode": "encodes, from pictures to noise"}
            raise BundleError(
                f"this student {way[self.direction]}, and cannot be used the other way; use "
                + ("stepfold sample" if self.direction == "decode" else "stepfold stylize")
            )
        total = self.schedule.num_train_timesteps
        if not self.schedule.holds(steps):
            raise BundleError(f"{steps} steps do not divide the schedule's {total}; use a divisor")
        if self.steps is not None and steps not in self.steps:
            allowed = " or ".join(str(count) for count in self.steps)
            raise BundleError(
                f"this student was distilled for {allowed} step(s) and is worse, not better, at "
                f"{steps}; use --steps {allowed}"
            )
        if not math.isfinite(w) or w < 0:
            raise BundleError(
                f"guidance weight {w} is not a number from 0 upwards; w = 0 is unguided"
            )
        if self.w is not None and not self.w.allows(w):
            raise BundleError(
                f"this student was distilled for guidance weights in {self.w.said} "
                f"and knows nothing of w = {w} (diffusers' guidance_scale is 1 more); ask within"
            )


def read_manifest(bundle: Path) -> Manifest:
    """The manifest of a bundle directory.

    Raises:
        BundleError: the directory is not a bundle, or is not data only.
    """
    path = bundle / MANIFEST
    if not path.is_file():
        raise BundleError(f"{bundle} is not a bundle: it has no {MANIFEST}")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        manifest = build(Manifest, tree if isinstance(tree, dict) else {}, str(path))
    except (ConfigError, ValueError) as error:
        raise BundleError(f"not a manifest this version reads: {error}") from None
    if not (bundle / manifest.folder).is_dir():
        raise BundleError(f"{bundle} is damaged: its weights folder {manifest.folder} is missing")
    foreign = [
        file.relative_to(bundle).as_posix()
        for file in bundle.rglob("*")
        if file.is_file() and file.suffix not in {".safetensors", ".json"}
    ]
    if foreign:
        raise BundleError(f"{bundle} holds more than data ({', '.join(foreign[:3])}); refused")
    return manifest
