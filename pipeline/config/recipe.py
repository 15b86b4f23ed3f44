"""The whole recipe. Cross-checks between sections run once, here."""

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config.data import CaptionedData, Data, PromptsData, UnclassedData
from pipeline.config.encoding import Encoding
from pipeline.config.extractors import ExtractorConfig
from pipeline.config.gate import KINDS, GateConfig
from pipeline.config.teacher import TeacherConfig, UNetConfig
from pipeline.config.training import GuidanceRound, Halving, TrainingConfig
from pipeline.diffusion.grid import nearest_point
from pipeline.documents import Document
from pipeline.wording import joined


class RunConfig(Document):
    """Identity of a run; `name` also names its MLflow run and its default directory."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seed: int = Field(default=0, ge=0, lt=2**31)


class TargetsConfig(Document):
    """How targets reach training.

    `pregenerated` computes `draws_per_tuple`-fold reused pools of targets ahead of time, `online`
    computes each target inside the training loop. `keep` says which rounds' pools stay on disk.
    """

    mode: Literal["pregenerated", "online"] = "pregenerated"
    draws_per_tuple: PositiveFloat = 2.0
    dtype: Literal["float32", "float16"] = "float32"
    keep: Literal["none", "last", "all"] = "last"


class EvaluationConfig(Document):
    """What is sampled and compared when the students are done.

    `samplers` are the training-free ways to sample the teacher, each in `baseline_steps`.
    `extractors` read images beside the data set's own classifier; each has tables of its own.
    `edits` are strengths in (0, 1]: held-out pictures noised so far of the way and redrawn as
    another class, by every deterministic student from the nearest time of its grid, and by the
    teacher. They are reported with the encoders.
    """

    num_samples: PositiveInt = 500
    w: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2, 4)
    baseline_steps: tuple[PositiveInt, ...] = (1, 2, 4, 8)
    samplers: tuple[Literal["ddim", "dpm++", "unipc"], ...] = ("ddim", "dpm++", "unipc")
    extractors: tuple[ExtractorConfig, ...] = ()
    edits: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    seed: int = Field(default=1234, ge=0, lt=2**31)

    @property
    def ends_and_middle(self) -> tuple[float, ...]:
        """The least, the middle and the largest guidance weight, each once."""
        known = sorted(set(self.w))
        return tuple(dict.fromkeys((known[0], known[len(known) // 2], known[-1])))


class Recipe(Document):
    """Everything that determines the result of a run, but for the profile's precision."""

    run: RunConfig
    data: Data
    teacher: TeacherConfig
    guidance: GuidanceRound
    halving: Halving
    encoding: Encoding | None = None
    targets: TargetsConfig = TargetsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig | None = None

    @model_validator(mode="after")
    def _sections_agree(self) -> "Recipe":
        if (self.data.source == "gaussian") != (self.teacher.network.family == "gaussian"):
            raise ValueError("data source gaussian and family gaussian go together, or not at all")
        self._captions_go_with_text()
        self._extractors_see_images()
        law = self.guidance.w
        why_not = self.teacher.network.why_not_w
        if why_not and law.min != law.max:
            raise ValueError(
                f"guidance.w: {why_not}, so its student has one w baked in; choose it with "
                f"w: {{min: {law.max:g}, max: {law.max:g}, mass_at_min: 0}}"
            )
        if self.guidance.time.shift != 1 and self.teacher.schedule.kind != "rectified_flow":
            raise ValueError(
                f"guidance.time.shift: {self.guidance.time.shift:g} moves times of a rectified "
                f"flow, and this teacher's path is {self.teacher.schedule.kind}; leave it out"
            )
        if self.converts_prediction and not self.guidance.conversion_updates:
            raise ValueError(
                "guidance.conversion_updates: the teacher predicts epsilon and its student is to "
                "predict v, which takes updates of its own; say how many, half of guidance.updates "
                "or more, or guidance.prediction: keep"
            )
        outside = [w for w in self.evaluation.w if not law.allows(w)]
        if outside:
            raise ValueError(
                f"evaluation.w asks for {outside} outside guidance.w {law.said}; "
                "widen one or narrow the other"
            )
        self._gate_fits()
        self._grids_fall_on_timesteps()
        self._encoders_have_a_teacher()
        self._edits_are_reported()
        return self

    @property
    def gate_weights(self) -> tuple[float, ...]:
        """The guidance weights that the gate looks at, ascending."""
        own = self.gate.w if self.gate else None
        return tuple(sorted(set(own))) if own else self.evaluation.ends_and_middle

    def _gate_fits(self) -> None:
        if self.gate is None:
            return
        law, arrows = self.guidance.w, len(self.halving.steps) - 1
        last = len(self.halving.samplers) * arrows
        outside = [w for w in self.gate.w or () if not law.allows(w)]
        if outside:
            raise ValueError(
                f"gate.w asks for {outside} outside guidance.w {law.said}; widen one or narrow the "
                "other"
            )
        noisy = "stochastic" in self.halving.samplers and any(n > 1 for n in self.halving.steps[1:])
        if noisy and isinstance(self.data, UnclassedData) and not self.evaluation.extractors:
            raise ValueError(
                "gate: of stochastic students of several steps nothing can be asked without "
                "features, as noise is added on their way and these data have no classes; give "
                "evaluation.extractors, or drop gate"
            )
        rounds = [str(index) for index in range(last + 1)]
        for key in self.gate.rounds:
            if key not in (*KINDS, *rounds):
                raise ValueError(
                    f"gate.rounds: there is no round {key!r}; use 0 to {last}, {' or '.join(KINDS)}"
                )

    def _extractors_see_images(self) -> None:
        asked = self.evaluation.extractors
        if asked and self.data.source == "gaussian":
            raise ValueError("evaluation.extractors: points are no images; drop it")
        if len(set(asked)) != len(asked):
            raise ValueError("evaluation.extractors: the same one twice; give each once")

    def _captions_go_with_text(self) -> None:
        network, source = self.teacher.network, self.data.source
        if isinstance(self.data, CaptionedData) != network.reads_text:
            wanted = "captions" if network.reads_text else "classes"
            raise ValueError(
                f"data.source: {source} does not go with this teacher, a {network.family} that is "
                f"conditioned on {wanted}"
            )

        if not isinstance(self.data, PromptsData):
            return
        if self.teacher.pipeline is None:
            raise ValueError(
                "data.source: prompts are drawn by the teacher, which has to be there already; "
                "give teacher.pipeline, or data with images"
            )
        if isinstance(network, UNetConfig) and network.image_channels:
            raise ValueError(
                "data.source: prompts are not enough for an inpainting teacher, which draws into "
                "images; give data with images"
            )

    def _encoders_have_a_teacher(self) -> None:
        if self.encoding is None:
            return
        if not self.guidance.w.allows(0.0):
            raise ValueError(
                f"encoding: pictures are encoded at w = 0, and the stage-1 student, which teaches "
                f"encoders, knows w {self.guidance.w.in_words}; use guidance.w: {{min: 0, ...}}, "
                "or drop encoding"
            )
        if isinstance(self.data, PromptsData):
            raise ValueError(
                "encoding: encoders are given pictures, and prompts come without; drop encoding, "
                "or give data with images"
            )
        if self.teacher.prediction == "sample":
            raise ValueError(
                "encoding: a teacher that predicts the sample says nothing of the noise where an "
                "encoder starts, at the data themselves; drop encoding"
            )
        if isinstance(self.teacher.network, UNetConfig) and self.teacher.network.image_channels:
            raise ValueError("encoding: an inpainting network draws into pictures; drop encoding")
        self._encoders_have_decoders(self.encoding.steps[1:])

    def _encoders_have_decoders(self, encoders: tuple[int, ...]) -> None:
        """What one has encoded is drawn from by a student of as many steps, without more noise."""
        drawn = self.halving.steps[1:]
        if "deterministic" not in self.halving.samplers:
            drawn = tuple(steps for steps in drawn if steps == 1)  # both samplers are the same
        alone = [str(steps) for steps in encoders if steps not in drawn]
        if alone:
            raise ValueError(
                f"encoding.steps: an encoder of {joined(alone)} steps needs a student that draws "
                "in as many, without noise on the way, and halving makes none; drop it, or have "
                "halving.steps and halving.sampler make one"
            )

    def _edits_are_reported(self) -> None:
        asked, most = self.evaluation.edits, self.halving.steps[0]
        if asked and self.encoding is None:
            raise ValueError(
                "evaluation.edits: edits are reported with the encoders; give encoding: "
                "{steps: ..., updates: ...}, or drop edits"
            )
        for strength in asked:
            if nearest_point(strength, most) == 0:
                raise ValueError(
                    f"evaluation.edits: {strength:g} is nearer to none of {most} steps than to the "
                    f"first, so nothing would change; use {1 / most:g} or more"
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
                    f"{key}: {count} steps do not divide the schedule's {total} timesteps, so "
                    "its grid falls between them; use a divisor"
                )

    @property
    def converts_prediction(self) -> bool:
        """Whether the stage-1 student is to learn v from a teacher that predicts epsilon."""
        return self.teacher.prediction == "epsilon" and self.guidance.prediction == "v"

    def passes(self, training: TrainingConfig, num_samples: int) -> int:
        """How often pre-generation goes over the data so that no tuple is drawn too often."""
        drawn = training.updates * training.batch_size
        return max(1, math.ceil(drawn / (self.targets.draws_per_tuple * num_samples)))
