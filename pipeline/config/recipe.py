"""The whole recipe, with the checks that concern several sections."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, model_validator

from pipeline.config.data import CaptionedData, Data, PromptsData, UnclassedData
from pipeline.config.evaluation import EvaluationConfig
from pipeline.config.gate import KINDS, GateConfig
from pipeline.config.rounds import Encoding, GuidanceRound, Halving, TrainingConfig
from pipeline.config.teacher import TeacherConfig
from pipeline.diffusion.grid import nearest_point
from pipeline.documents import Document
from pipeline.wording import format_list


class RunConfig(Document):
    """Identity of a run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name of the run in MLflow and of its default directory: up to 64 letters, digits, `.`, `_`,
    `-`."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of all random numbers in training."""


class TargetsConfig(Document):
    """How training targets are computed."""

    mode: Literal["pregenerated", "online"] = "pregenerated"
    """`pregenerated`: before each round, to disk. `online`: during training, with the teacher in
    memory beside the student."""

    draws_per_tuple: PositiveFloat = 2.0
    """Average number of times that a pregenerated target is used in training."""

    dtype: Literal["float32", "float16"] = "float32"
    """Data type of pregenerated targets on disk."""

    keep: Literal["none", "last", "all"] = "last"
    """Rounds whose pregenerated targets are kept on disk."""


RENAMED = {
    "guidance.time.law": "distribution",
    "halving.own_states": "on_policy_fraction",
    "gate.follows_w": "w_consistency",
    "gate.then": "on_fail",
    "gate.rounds.*.follows_w": "w_consistency",
    "gate.rounds.*.then": "on_fail",
}
"""Keys of earlier recipes and the new name of the last key."""


class Recipe(Document):
    """Everything that determines the result of a run, except the precision in the profile."""

    renamed: ClassVar[Mapping[str, str]] = RENAMED

    run: RunConfig
    """Name and seed of the run."""

    data: Data
    """Data set, by `source`."""

    teacher: TeacherConfig
    """The guided teacher."""

    guidance: GuidanceRound
    """Stage 1: guidance distillation."""

    halving: Halving
    """Stage 2: progressive distillation to fewer steps."""

    encoding: Encoding | None = None
    """Encoders from data to noise. Default: none."""

    targets: TargetsConfig = TargetsConfig()
    """Computation and storage of training targets."""

    evaluation: EvaluationConfig = EvaluationConfig()
    """The final evaluation."""

    gate: GateConfig | None = None
    """Quality gate after each round. Default: none."""

    @model_validator(mode="after")
    def _sections_agree(self) -> "Recipe":
        if (self.data.source == "gaussian") != (self.teacher.network.family == "gaussian"):
            raise ValueError(
                "data.source: gaussian needs teacher.network.family: gaussian, and vice versa"
            )
        self._captions_go_with_text()
        self._extractors_see_images()
        trained = self.guidance.w
        why_not = self.teacher.network.why_not_w
        if why_not and trained.min != trained.max:
            raise ValueError(
                f"guidance.w: {why_not}, so the student needs a fixed w; use "
                f"w: {{min: {trained.max:g}, max: {trained.max:g}, mass_at_min: 0}}"
            )
        if self.guidance.time.shift != 1 and self.teacher.schedule.kind != "rectified_flow":
            raise ValueError(
                f"guidance.time.shift: {self.guidance.time.shift:g} needs a rectified_flow "
                f"schedule, not {self.teacher.schedule.kind}; remove the key"
            )
        if self.converts_prediction and not self.guidance.conversion_updates:
            raise ValueError(
                "guidance.conversion_updates: converting an epsilon teacher to v takes additional "
                "updates; use at least half of guidance.updates, or set guidance.prediction: keep"
            )
        chosen = {"evaluation.w": self.evaluation.w, "gate.w": self.gate.w if self.gate else None}
        for key, weights in chosen.items():
            outside = [w for w in weights or () if not trained.allows(w)]
            if outside:
                raise ValueError(
                    f"{key}: {outside} is outside guidance.w {trained.as_text}; extend guidance.w "
                    "or remove it"
                )
        self._gate_fits()
        self._grids_fall_on_timesteps()
        self._encoders_have_a_teacher()
        self._edits_are_reported()
        return self

    @property
    def gate_weights(self) -> tuple[float, ...]:
        """Return the guidance weights of the gate, ascending."""
        own = self.gate.w if self.gate else None
        return tuple(sorted(set(own))) if own else self.evaluation.ends_and_middle

    def _gate_fits(self) -> None:
        if self.gate is None:
            return
        last = len(self.halving.samplers) * (len(self.halving.steps) - 1)
        noisy = "stochastic" in self.halving.samplers and any(n > 1 for n in self.halving.steps[1:])
        if noisy and isinstance(self.data, UnclassedData) and not self.evaluation.extractors:
            raise ValueError(
                "gate: multi-step stochastic students on unlabelled data need "
                "evaluation.extractors; add one or remove gate"
            )
        for key in self.gate.rounds:
            if key not in (*KINDS, *map(str, range(last + 1))):
                raise ValueError(
                    f"gate.rounds: unknown round {key!r}; use 0 to {last}, {' or '.join(KINDS)}"
                )

    def _extractors_see_images(self) -> None:
        extractors = self.evaluation.extractors
        if extractors and self.data.source == "gaussian":
            raise ValueError("evaluation.extractors: gaussian data are not images; remove the key")
        if len(set(extractors)) != len(extractors):
            raise ValueError("evaluation.extractors: duplicate entry; list each extractor once")

    def _captions_go_with_text(self) -> None:
        network, source = self.teacher.network, self.data.source
        if isinstance(self.data, CaptionedData) != network.reads_text:
            wanted = "captions" if network.reads_text else "classes"
            raise ValueError(
                f"data.source: {source} has no {wanted}, which condition this teacher "
                f"({network.family}); choose data with {wanted}"
            )

        if not isinstance(self.data, PromptsData):
            return
        if self.teacher.pipeline is None:
            raise ValueError(
                "data.source: prompts need an existing teacher to generate images; give "
                "teacher.pipeline, or data with images"
            )
        if network.is_inpainting:
            raise ValueError(
                "data.source: an inpainting teacher needs data with images, not prompts"
            )

    def _encoders_have_a_teacher(self) -> None:
        if self.encoding is None:
            return
        if not self.guidance.w.allows(0.0):
            raise ValueError(
                f"encoding: encoders are trained at w = 0, outside guidance.w "
                f"{self.guidance.w.as_text}; use guidance.w: {{min: 0, ...}}, or remove encoding"
            )
        if isinstance(self.data, PromptsData):
            raise ValueError(
                "encoding: encoders need data with images, not prompts; remove encoding, or give "
                "data with images"
            )
        if self.teacher.prediction == "sample":
            raise ValueError(
                "encoding: sample-prediction teachers are undefined at t = 0, where encoders "
                "start; use an epsilon or v teacher, or remove encoding"
            )
        if self.teacher.network.is_inpainting:
            raise ValueError("encoding: inpainting networks cannot encode; remove encoding")
        self._encoders_have_decoders(self.encoding.steps[1:])

    def _encoders_have_decoders(self, encoders: tuple[int, ...]) -> None:
        """Check that each encoder has a deterministic student with the same number of steps."""
        drawn = self.halving.steps[1:]
        if "deterministic" not in self.halving.samplers:
            drawn = tuple(steps for steps in drawn if steps == 1)  # both samplers are the same
        alone = [str(steps) for steps in encoders if steps not in drawn]
        if alone:
            raise ValueError(
                f"encoding.steps: an encoder of {format_list(alone)} steps needs a deterministic "
                "student with as many; remove it, or change halving.steps or halving.sampler"
            )

    def _edits_are_reported(self) -> None:
        edits, most = self.evaluation.edits, self.halving.steps[0]
        if edits and self.encoding is None:
            raise ValueError(
                "evaluation.edits: edits need encoding: {steps: ..., updates: ...}; add it, or "
                "remove edits"
            )
        for strength in edits:
            if nearest_point(strength, most) == 0:
                raise ValueError(
                    f"evaluation.edits: strength {strength:g} rounds to 0 of {most} steps; use "
                    f"{1 / most:g} or more"
                )

    def _grids_fall_on_timesteps(self) -> None:
        total = self.teacher.schedule.num_train_timesteps
        counts = {
            "halving.steps": self.halving.steps,
            "halving.first_substeps": (self.halving.first_steps,),
            "teacher.reference_steps": (self.teacher.reference_steps,),
            "evaluation.baseline_steps": self.evaluation.baseline_steps,
        }
        if isinstance(self.data, PromptsData):
            counts["data.steps"] = (self.data.steps,)
        if self.encoding is not None:
            counts["encoding.steps"] = self.encoding.steps
            counts["encoding.first_substeps"] = (self.encoding.first_steps,)
        for key, count in ((key, count) for key, values in counts.items() for count in values):
            if not self.teacher.schedule.holds(count):
                raise ValueError(
                    f"{key}: {count} steps do not divide the schedule's {total} timesteps; use a "
                    "divisor"
                )

    @property
    def converts_prediction(self) -> bool:
        """Whether stage 1 converts an epsilon teacher to a student that predicts v."""
        return self.teacher.prediction == "epsilon" and self.guidance.prediction == "v"

    def passes(self, training: TrainingConfig, num_samples: int) -> int:
        """Return the passes over the data in which enough targets are pregenerated."""
        drawn = training.updates * training.batch_size
        return max(1, math.ceil(drawn / (self.targets.draws_per_tuple * num_samples)))
