"""Plan the rounds of a recipe: teacher, step counts and length of each."""

import itertools
from dataclasses import dataclass

from pipeline.config import (
    UNIFORM,
    Halving,
    OnPolicySource,
    PredictionName,
    Recipe,
    TrainingConfig,
    WDistribution,
)
from pipeline.diffusion.grid import Direction, Sampling
from pipeline.ledger import FORMAT_VERSION, Artifact, fingerprint
from pipeline.training.round_plan import GUIDANCE_ROUND, TEACHER_ROUND, RoundPlan

_UNGUIDED = WDistribution(min=0, max=0, mass_at_min=0)
"""Guidance weight of encoders: guidance would move latents away from the given images."""


def plan_teacher(recipe: Recipe) -> RoundPlan | None:
    """Plan the round that trains the teacher from data; None for an existing teacher."""
    train = recipe.teacher.train
    if train is None:
        return None
    return RoundPlan(
        index=TEACHER_ROUND,
        method="denoising",
        parent=None,
        training=_training(train),
        # a higher weight at high noise is unstable for a network that outputs eps
        loss_weight="snr" if recipe.teacher.prediction == "epsilon" else "snr_plus_one",
        ema_decay=train.ema_decay,
        label_dropout=train.label_dropout,
        seed=recipe.run.seed,
    )


def plan_rounds(recipe: Recipe) -> tuple[RoundPlan, ...]:
    """Plan round 0 (guidance) and one round per pair of `halving.steps`, parents first."""
    prediction = _student_prediction(recipe)
    converted = recipe.guidance.conversion_updates if prediction else 0
    rounds = [
        RoundPlan(
            index=GUIDANCE_ROUND,
            method="guidance",
            parent=TEACHER_ROUND,
            training=_training(recipe.guidance, extra_updates=converted),
            loss_weight=recipe.guidance.loss_weight,
            ema_decay=recipe.guidance.ema_decay,
            prediction=prediction,
            time=None if recipe.guidance.time == UNIFORM else recipe.guidance.time,
            w=recipe.guidance.w,
            seed=recipe.run.seed,
        )
    ]
    halving, encoding = recipe.halving, recipe.encoding
    of: OnPolicySource = "student" if recipe.targets.mode == "online" else "teacher"
    ladders = [
        _Ladder(halving, recipe.guidance.w, sampler=each, on_policy_source=of)
        for each in halving.samplers
    ]
    if encoding is not None:
        ladders.append(_Ladder(encoding, _UNGUIDED, direction="encode"))
    for ladder in ladders:
        rounds += ladder.rounds(len(rounds), recipe.run.seed)
    return tuple(rounds)


def plan_decoders(recipe: Recipe) -> tuple[RoundPlan, ...]:
    """Plan the rounds whose students are decoders."""
    return tuple(plan for plan in plan_rounds(recipe) if plan.direction == "decode")


@dataclass(frozen=True)
class _Ladder:
    """A chain of halvings; the first teacher is the stage-1 student, then each previous student.

    The stage-1 student always acts as a deterministic teacher: it is valid at any time, so its grid
    contains every jump. A one-step student starts from noise and has no on-policy states.
    Precomputed targets use the teacher's states.
    """

    config: Halving
    w: WDistribution
    sampler: Sampling = "deterministic"
    direction: Direction = "decode"
    on_policy_source: OnPolicySource = "teacher"

    def rounds(self, first: int, seed: int) -> list[RoundPlan]:
        """Plan its rounds, numbered from `first`."""
        plans = []
        for arrow, (teacher, student) in enumerate(itertools.pairwise(self.config.steps)):
            training = self.config.training(arrow)
            on_policy = self.config.on_policy_fraction if student > 1 else 0.0
            plans.append(
                RoundPlan(
                    index=first + arrow,
                    method="progressive",
                    parent=first + arrow - 1 if arrow else GUIDANCE_ROUND,
                    teacher_steps=teacher,
                    student_steps=student,
                    substeps=self.config.first_substeps if arrow == 0 else 1,
                    direction=self.direction,
                    sampler=self.sampler,
                    teacher_sampler=self.sampler if arrow else "deterministic",
                    on_policy_fraction=on_policy,
                    on_policy_source=self.on_policy_source if on_policy else "teacher",
                    training=_training(training),
                    loss_weight=training.loss_weight,
                    w=self.w,
                    seed=seed,
                )
            )
        return plans


def _student_prediction(recipe: Recipe) -> PredictionName | None:
    """Return v if an epsilon teacher's student is converted to v; None for no conversion."""
    return "v_prediction" if recipe.converts_prediction else None


def _training(config: TrainingConfig, extra_updates: int = 0) -> TrainingConfig:
    values = {key: getattr(config, key) for key in TrainingConfig.model_fields}
    return TrainingConfig(**values | {"updates": config.updates + extra_updates})


def round_key(
    plan: RoundPlan, recipe: Recipe, precision: str, data: Artifact, teacher: Artifact | None
) -> str:
    """Compute the fingerprint of a round's student from all inputs that determine its weights.

    It is independent of the number of workers, the ZeRO stage, paths, timings and attempts.
    """
    return fingerprint(
        {
            "format": FORMAT_VERSION,
            "plan": plan.model_dump(mode="json"),
            "network": recipe.teacher.network.model_dump(mode="json"),
            "schedule": recipe.teacher.schedule.model_dump(mode="json"),
            "prediction": recipe.teacher.prediction,
            "targets": [recipe.targets.mode, recipe.targets.dtype, recipe.targets.draws_per_tuple],
            "precision": precision,
            "data": data.digest,
            "teacher": teacher.digest if teacher else None,
        }
    )
