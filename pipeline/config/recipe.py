"""The whole recipe, with the checks that concern several sections."""

import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.data import Data, PromptsData
from pipeline.config.distributions import WDistribution
from pipeline.config.evaluation import EvaluationConfig
from pipeline.config.gate import KINDS, GateConfig
from pipeline.config.methods import GuidanceConfig, OnPolicyConfig, ProgressiveConfig
from pipeline.config.rounds import (
    NAME,
    Encoding,
    GuidanceRound,
    Halving,
    RoundConfig,
    TargetsConfig,
    resolve,
)
from pipeline.config.teacher import TeacherConfig
from pipeline.diffusion.grid import Grid, Sampling, nearest_point
from pipeline.documents import Document, leaves
from pipeline.wording import format_list


class RunConfig(Document):
    """Identity of a run."""

    name: str = Field(pattern=NAME)
    """Name of the run in MLflow and of its default directory: up to 64 letters, digits, `.`, `_`,
    `-`."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of all random numbers in training."""


class RunTargets(TargetsConfig):
    """How training targets are computed and stored, unless a round has its own `targets`."""

    keep: Literal["none", "last", "all"] = "last"
    """Rounds whose pregenerated targets are kept on disk."""


_MASS_AT_MIN = WDistribution().mass_at_min

RENAMED = {
    "guidance.time.law": "distribution",
    "halving.own_states": "on_policy_fraction",
    "gate.then": "on_fail",
    "gate.rounds.*.then": "on_fail",
}
"""Keys of earlier recipes and the new name of the last key."""

_OLD_DISTANCE = (
    "multiples of the noise floor depend on the number of samples; use relative_distance: 1.5 in "
    "place of distance: 2, and off in place of off"
)
_OLD_W = "use effective_w: 0.25 in place of true, and off in place of false"

REPLACED = {
    f"gate.{place}{key}": advice
    for place in ("", "rounds.*.")
    for key, advice in (
        ("distance", _OLD_DISTANCE),
        ("w_consistency", _OLD_W),
        ("follows_w", _OLD_W),
    )
}
"""Keys of earlier recipes that have no equal, and what to use."""


class Recipe(Document):
    """Everything that determines the result of a run, except the precision in the profile."""

    renamed: ClassVar[Mapping[str, str]] = RENAMED
    replaced: ClassVar[Mapping[str, str]] = REPLACED

    run: RunConfig
    """Name and seed of the run."""

    data: Data
    """Data set, by `source`."""

    teacher: TeacherConfig
    """The guided teacher."""

    guidance: GuidanceRound | None = None
    """Stage 1: guidance distillation. `guidance`, `halving` and `encoding` are the short form of
    `rounds`."""

    halving: Halving | None = None
    """Stage 2: progressive distillation to fewer steps."""

    encoding: Encoding | None = None
    """Encoders from data to noise. Default: none."""

    rounds: Annotated[tuple[RoundConfig, ...], Field(min_length=1)] | None = Field(
        default=None, exclude_if=lambda rounds: rounds is None
    )
    """Rounds of any method, in order, instead of the short form; `stepfold plan --expand` shows the
    rounds of a short form. Default: none."""

    targets: RunTargets = RunTargets()
    """Computation and storage of training targets."""

    evaluation: EvaluationConfig = EvaluationConfig()
    """The final evaluation."""

    gate: GateConfig | None = None
    """Quality gate after each round. Default: none."""

    @model_validator(mode="after")
    def _sections_agree(self) -> "Recipe":
        if (self.data.source == "gaussian") != (self.teacher.network.family == "gaussian"):
            raise ValueError(
                "data.source: gaussian and teacher.network.family: gaussian need each other; set "
                "both or neither"
            )
        self._captions_go_with_text()
        self._extractors_see_images()
        self._has_rounds_once()
        self._students_can_take_w()
        if self.converts_prediction and self.guidance and not self.guidance.conversion_updates:
            raise ValueError(
                "guidance.conversion_updates: converting an epsilon teacher to v takes additional "
                "updates; use at least half of guidance.updates, or set guidance.prediction: keep"
            )
        chosen = {"evaluation.w": self.evaluation.w, "gate.w": self.gate.w if self.gate else None}
        for key, weights in chosen.items():
            outside = [w for w in weights or () if not self.w.allows(w)]
            if outside:
                raise ValueError(
                    f"{key}: {outside} is outside {self._w_key} {self.w.as_text}; extend "
                    f"{self._w_key} or remove it"
                )
        self._gate_fits()
        self._grids_fall_on_timesteps()
        self._encoders_have_a_teacher()
        self._edits_are_reported()
        self._guidance_has_a_null_condition()
        self._every_key_has_an_effect()
        return self

    def _has_rounds_once(self) -> None:
        short = {"guidance": self.guidance, "halving": self.halving, "encoding": self.encoding}
        given = [key for key, section in short.items() if section is not None]
        if self.rounds is not None and given:
            raise ValueError(
                f"rounds: cannot be combined with {format_list(given)}, the short form of rounds; "
                "keep one form"
            )
        if self.teacher.w is not None and self.guidance is not None:
            raise ValueError(
                "guidance: has no effect, because the teacher takes teacher.w as an input; remove "
                "the section, or teacher.w"
            )
        needed = ("halving",) if self.teacher.w else ("guidance", "halving")
        missing = [key for key in needed if short[key] is None]
        if self.rounds is None and missing:
            raise ValueError(
                f"{format_list(missing)}: missing; give {format_list(needed)}, or rounds"
            )

    def _students_can_take_w(self) -> None:
        self._rounds_are_within_teacher_w()
        why_not, trained = self.teacher.network.why_not_w, self.w
        if why_not and trained.min != trained.max:
            raise ValueError(
                f"{self._w_key}: {why_not}, so the student needs a fixed w; use "
                f"w: {{min: {trained.max:g}, max: {trained.max:g}, mass_at_min: 0}}"
            )
        for index, each in enumerate(self.round_configs):
            if not isinstance(each.config, GuidanceConfig):
                continue
            if each.config.to_v and self.teacher.prediction != "epsilon":
                raise ValueError(
                    f"rounds.{index}.config.to_v: needs an epsilon teacher, not "
                    f"{self.teacher.prediction}; remove the key"
                )
            key = "guidance.time.shift" if self.guidance else f"rounds.{index}.config.time.shift"
            if each.config.time.shift != 1 and self.teacher.schedule.kind != "rectified_flow":
                raise ValueError(
                    f"{key}: {each.config.time.shift:g} needs a rectified_flow schedule, not "
                    f"{self.teacher.schedule.kind}; remove the key"
                )

    def _rounds_are_within_teacher_w(self) -> None:
        given = self.teacher.w
        if given is None:
            return
        for index, each in enumerate(self.round_configs):
            where, w = f"rounds.{index}", each.config.w
            if isinstance(each.config, GuidanceConfig):
                raise ValueError(
                    f"{where}.method: guidance has no effect, because the teacher takes teacher.w "
                    "as an input; remove the round, or teacher.w"
                )
            if w is not None and not all(map(given.allows, w.values or (w.min, w.max))):
                raise ValueError(
                    f"{where}.config.w: {w.as_text} is outside teacher.w {given.as_text}; extend "
                    "teacher.w, or leave the key out"
                )

    @property
    def first_round(self) -> int:
        """Return the number of the first round that is trained: 1 if the teacher gives round 0."""
        return 0 if self.teacher.w is None else 1

    @cached_property
    def round_configs(self) -> tuple[RoundConfig, ...]:
        """Return the rounds of the recipe; a short form is expanded.

        Names, teachers, targets and the settings that come from a teacher are set. A student
        without a fixed step count is sampled in the largest number of steps that a later round
        folds, else in `teacher.reference_steps`.

        Raises:
            ValueError: a teacher or a name is not valid.
        """
        teacher = self.teacher
        rounds = self.rounds or self._expanded
        return resolve(rounds, self.targets, teacher.reference_steps, teacher.w)

    def __copy__(self) -> "Recipe":
        """Copy the recipe for `model_copy`, whose changes may concern the rounds."""
        copied = super().__copy__()
        copied.__dict__.pop("round_configs", None)
        return copied

    def with_rounds(self) -> "Recipe":
        """Return the recipe with `rounds` in place of the short form; its rounds are the same."""
        short = {"guidance": None, "halving": None, "encoding": None}
        return self.model_copy(update={**short, "rounds": self.rounds or self._expanded})

    @property
    def _expanded(self) -> tuple[RoundConfig, ...]:
        halving = self.halving
        if halving is None or (self.guidance is None and self.teacher.w is None):
            return ()
        first = None
        if self.guidance is not None:
            steps = halving.first_steps
            first = self.guidance.expand(converts=self.converts_prediction, steps=steps)
        chains = [halving.expand(first, sampler) for sampler in halving.samplers]
        if self.encoding is not None:
            chains.append(self.encoding.expand(first, "deterministic", "encode"))
        return (*([first] if first else []), *itertools.chain.from_iterable(chains))

    @property
    def w(self) -> WDistribution:
        """Return the guidance weights that students are trained for: those of the first round."""
        return self.round_configs[0].config.w or WDistribution()

    @property
    def _w_key(self) -> str:
        if self.teacher.w is not None:
            return "teacher.w"
        return "guidance.w" if self.guidance else "rounds.0.config.w"

    @property
    def has_online_targets(self) -> bool:
        """Whether a round computes its targets during training."""
        return any(each.targets and each.targets.mode == "online" for each in self.round_configs)

    @property
    def has_encoders(self) -> bool:
        """Whether a round trains an encoder."""
        return bool(self._encoders)

    @property
    def gate_weights(self) -> tuple[float, ...]:
        """Return the guidance weights of the gate, ascending."""
        own = self.gate.w if self.gate else None
        return tuple(sorted(set(own))) if own else self.evaluation.ends_and_middle

    def _gate_fits(self) -> None:
        if self.gate is None:
            return
        rounds = self.round_configs
        grids = [each.config.grid for each in rounds]
        noisy = any(grid and grid.sampling == "stochastic" and grid.steps > 1 for grid in grids)
        if noisy and not self.data.has_classes and not self.evaluation.extractors:
            raise ValueError(
                "gate: multi-step stochastic students on unlabelled data need "
                "evaluation.extractors; add one or remove gate"
            )
        names = {
            index: str(each.name)
            for index, (each, grid) in enumerate(zip(rounds, grids, strict=True), self.first_round)
            if grid is None or grid.direction == "decode"
        }
        judged = list(names)
        for key in self.gate.rounds:
            if key not in (*KINDS, *map(str, judged), *names.values()):
                raise ValueError(
                    f"gate.rounds: unknown round {key!r}; use {judged[0]} to {judged[-1]}, "
                    f"{' or '.join(KINDS)}, or the name of a round"
                )

    def _extractors_see_images(self) -> None:
        extractors = self.evaluation.extractors
        if extractors and self.data.encoding == "npy":
            raise ValueError(
                f"evaluation.extractors: {self.data.source} data are not images; remove the key"
            )
        if len(set(extractors)) != len(extractors):
            raise ValueError("evaluation.extractors: duplicate entry; list each extractor once")

    def _captions_go_with_text(self) -> None:
        network, source = self.teacher.network, self.data.source
        if self.data.has_captions != network.reads_text:
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

    @property
    def _encoders(self) -> tuple[RoundConfig, ...]:
        grids = [(each, each.config.grid) for each in self.round_configs]
        return tuple(each for each, grid in grids if grid and grid.direction == "encode")

    def _encoders_have_a_teacher(self) -> None:
        if not self._encoders:
            return
        key = "encoding" if self.encoding else "rounds"
        if not self.w.allows(0.0):
            raise ValueError(
                f"{key}: encoders are trained at w = 0, outside {self._w_key} {self.w.as_text}; "
                f"use {self._w_key}: {{min: 0, ...}}, or remove the encoders"
            )
        if isinstance(self.data, PromptsData):
            raise ValueError(
                f"{key}: encoders need data with images, not prompts; remove the encoders, or give "
                "data with images"
            )
        if self.teacher.prediction == "sample":
            raise ValueError(
                f"{key}: sample-prediction teachers are undefined at t = 0, where encoders "
                "start; use an epsilon or v teacher, or remove the encoders"
            )
        if self.teacher.network.is_inpainting:
            raise ValueError(f"{key}: inpainting networks cannot encode; remove the encoders")
        self._encoders_have_decoders(key)

    def _encoders_have_decoders(self, key: str) -> None:
        """Check that each encoder has a deterministic student with the same number of steps."""
        # with one step both samplers are the same
        drawn = {
            grid.steps
            for grid in self._decoder_grids
            if grid.sampling == "deterministic" or grid.steps == 1
        }
        encoders = [each.config.grid.steps for each in self._encoders if each.config.grid]
        alone = [str(steps) for steps in encoders if steps not in drawn]
        if alone:
            raise ValueError(
                f"{key}: an encoder of {format_list(alone)} steps needs a deterministic student "
                "with the same number of steps; remove it, or add that student"
            )

    def _edits_are_reported(self) -> None:
        edits, most = self.evaluation.edits, self.most_steps
        if edits and not self.has_encoders:
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

    @property
    def samples_per_image(self) -> int:
        """Return the training samples of an image: one per mask for an inpainting teacher."""
        return self.data.masks_per_image if self.teacher.network.is_inpainting else 1

    @property
    def any_steps(self) -> int:
        """Return the sampling steps of a student without a fixed step count."""
        found = [each.sampling_steps for each in self.round_configs if not each.config.grid]
        return next((steps for steps in found if steps), self.teacher.reference_steps)

    @property
    def _decoder_grids(self) -> tuple[Grid, ...]:
        grids = (each.config.grid for each in self.round_configs)
        return tuple(grid for grid in grids if grid and grid.direction == "decode")

    @property
    def step_counts(self) -> tuple[int, ...]:
        """Return the steps of the first teacher of a chain, then of all students, each once."""
        students = (grid.steps for grid in self._decoder_grids)
        return tuple(dict.fromkeys([self.most_steps, *students]))

    @property
    def samplers(self) -> tuple[Sampling, ...]:
        """Return the samplers of the students that generate samples, each once."""
        return tuple(dict.fromkeys(grid.sampling for grid in self._decoder_grids))

    @property
    def most_steps(self) -> int:
        """Return the most steps, without sub-steps, that a round reduces."""
        configs = [each.config for each in self.round_configs]
        counts = [
            each.teacher_steps or 1 for each in configs if isinstance(each, ProgressiveConfig)
        ]
        return max(counts, default=self.teacher.reference_steps)

    def _grids_fall_on_timesteps(self) -> None:
        total = self.teacher.schedule.num_train_timesteps
        counts: dict[str, tuple[int, ...]] = {}
        if self.halving is not None:
            counts["halving.steps"] = self.halving.steps
            counts["halving.first_substeps"] = (self.halving.first_steps,)
        counts["teacher.reference_steps"] = (self.teacher.reference_steps,)
        counts["evaluation.baseline_steps"] = self.evaluation.baseline_steps
        if isinstance(self.data, PromptsData):
            counts["data.steps"] = (self.data.steps,)
        if self.encoding is not None:
            counts["encoding.steps"] = self.encoding.steps
            counts["encoding.first_substeps"] = (self.encoding.first_steps,)
        for index, each in enumerate((self.rounds and self.round_configs) or ()):
            grids = (each.config.grid, each.config.teacher_grid)
            counts[f"rounds.{index}.config"] = tuple(grid.steps for grid in grids if grid)
        for key, count in ((key, count) for key, values in counts.items() for count in values):
            if not self.teacher.schedule.holds(count):
                raise ValueError(
                    f"{key}: {count} steps do not divide the schedule's {total} timesteps; use a "
                    "divisor"
                )

    def _guidance_has_a_null_condition(self) -> None:
        """Check that a guided teacher is also trained without condition."""
        train = self.teacher.train
        weights = [each.config.w.max for each in self.round_configs if each.config.w]
        if train is None or train.label_dropout or not any(weights):
            return
        raise ValueError(
            "teacher.train.label_dropout: 0 trains no unconditional network, which guidance up to "
            f"w = {max(weights):g} needs; use 0.1 to 0.2, or "
            f"{self._w_key}: {{min: 0, max: 0, mass_at_min: 0}}"
        )

    def _every_key_has_an_effect(self) -> None:
        """Refuse values that no stage reads, all at once; default values are accepted."""
        idle = [*self._idle_teacher_keys(), *self._idle_round_keys(), *self._idle_report_keys()]
        if idle:
            shown = [f"{value:g}" if isinstance(value, float) else value for _, value, _ in idle]
            each = (
                f"{key}: {value} {why}" for (key, _, why), value in zip(idle, shown, strict=True)
            )
            raise ValueError("; ".join(each))

    def _idle_teacher_keys(self) -> Iterator[tuple[str, object, str]]:
        schedule, network = self.teacher.schedule, self.teacher.network
        kinds = {
            "beta_start": ("linear", "scaled_linear"),
            "beta_end": ("linear", "scaled_linear"),
            "shift": ("rectified_flow",),
        }
        for key, used_by in kinds.items():
            if schedule.kind not in used_by and (value := _changed(schedule, key)) is not None:
                yield (
                    f"teacher.schedule.{key}",
                    value,
                    f"has no effect on a {schedule.kind} schedule; remove it, or set "
                    f"teacher.schedule.kind: {' or '.join(used_by)}",
                )
        masks = _changed(self.data, "masks_per_image")
        if masks is not None and not network.is_inpainting:
            yield (
                "data.masks_per_image",
                masks,
                "has no effect without an inpainting teacher; remove it",
            )
        for key, reason in network.idle_keys.items():
            if (value := _changed(network, key)) is not None:
                yield f"teacher.network.{key}", value, reason

    def _idle_round_keys(self) -> Iterator[tuple[str, object, str]]:
        guidance = self.guidance
        # of a teacher that is not epsilon it is ignored, so that one recipe fits several pipelines
        if guidance and guidance.prediction == "keep" and guidance.conversion_updates:
            reason = "has no effect with guidance.prediction: keep; remove it"
            yield "guidance.conversion_updates", guidance.conversion_updates, reason
        if self.w.min == self.w.max and self.w.mass_at_min not in (0.0, _MASS_AT_MIN):
            reason = f"has no effect on the single weight {self.w.min:g}; use 0"
            yield f"{self._w_key}.mass_at_min", self.w.mass_at_min, reason
        if all(each.targets and each.targets.mode == "online" for each in self.round_configs):
            yield from _idle_targets("targets", self.targets)
        for index, (given, each) in enumerate(
            zip(self.rounds or (), self.round_configs, strict=False)
        ):
            where = f"rounds.{index}"
            if given.targets is not None:
                mode = each.targets.mode if each.targets else given.targets.mode
                if mode != given.targets.mode and "mode" in given.targets.model_fields_set:
                    reason = f"does not fit method {given.method}, which computes targets online"
                    yield f"{where}.targets.mode", given.targets.mode, f"{reason}; remove it"
                if mode == "online":
                    yield from _idle_targets(f"{where}.targets", given.targets)
            grid, steps = given.config.grid, given.sampling_steps
            if grid is not None and steps not in (None, grid.steps):
                reason = f"has no effect on a student of {grid.steps} steps; remove it"
                yield f"{where}.sampling_steps", steps, reason
            config = given.config
            source = config.on_policy_source if isinstance(config, OnPolicyConfig) else None
            if isinstance(config, OnPolicyConfig) and source and not config.on_policy_fraction:
                reason = "has no effect without on_policy_fraction; remove it, or set that"
                yield f"{where}.config.on_policy_source", source, reason

    def _idle_report_keys(self) -> Iterator[tuple[str, object, str]]:
        samplers = _changed(self.evaluation, "samplers")
        if samplers and not self.evaluation.baseline_steps:
            reason = "has no effect without evaluation.baseline_steps; remove it"
            yield "evaluation.samplers", list(self.evaluation.samplers), reason
        if self.gate is None:
            return
        overrides = {f"gate.rounds.{key}": each for key, each in self.gate.rounds.items()}
        own = [each.on_fail for each in overrides.values() if each.on_fail is not None]
        reactions = set(itertools.chain(self.gate.on_fail, *own))
        for key, reaction in (("extend", "extend"), ("retry", "retry"), ("ask_hours", "ask")):
            reason = f"has no effect unless on_fail lists {reaction}; remove it, or add {reaction}"
            places = {"gate": self.gate, **(overrides if key != "ask_hours" else {})}
            for where, rules in places.items():
                changed = _changed(rules, key)
                if reaction not in reactions and changed is not None:
                    for name, value in leaves({key: changed}):
                        yield f"{where}.{name}", value, reason

    @property
    def converts_prediction(self) -> bool:
        """Whether stage 1 converts an epsilon teacher to a student that predicts v."""
        wanted = self.guidance is not None and self.guidance.prediction == "v"
        return wanted and self.teacher.prediction == "epsilon"


def _changed(section: Document, key: str) -> object:
    """Return the value of a key as written; None if it is the default."""
    value = getattr(section, key)
    if value == type(section).model_fields[key].default:
        return None
    return value.model_dump(exclude_defaults=True) if isinstance(value, Document) else value


def _idle_targets(where: str, targets: TargetsConfig) -> Iterator[tuple[str, object, str]]:
    """Yield the keys of stored targets; online targets are not stored."""
    for key in ("draws_per_tuple", "dtype", "keep"):
        value = _changed(targets, key) if key in type(targets).model_fields else None
        if value is not None:
            reason = "has no effect on online targets, which are not stored; remove it"
            yield f"{where}.{key}", value, reason
