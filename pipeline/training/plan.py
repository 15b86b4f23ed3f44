"""From a recipe to its rounds: which teacher, how many steps, how long."""

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
"""What pictures are encoded at: guidance would push them away from where they are."""


def plan_teacher(recipe: Recipe) -> RoundPlan | None:
    """The round that trains the teacher from data; None for a teacher that is given."""
    train = recipe.teacher.train
    if train is None:
        return None
    return RoundPlan(
        index=TEACHER_ROUND,
        method="denoising",
        parent=None,
        training=_training(train),
        # any more weight on the noise than this is unstable for a network that outputs eps
        loss_weight="snr" if recipe.teacher.prediction == "epsilon" else "snr_plus_one",
        ema_decay=train.ema_decay,
        label_dropout=train.label_dropout,
        seed=recipe.run.seed,
    )


def plan_rounds(recipe: Recipe) -> tuple[RoundPlan, ...]:
    """Round 0 (guidance) and one round for each arrow of `halving.steps`; a parent comes first."""
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
    """The rounds whose students draw."""
    return tuple(plan for plan in plan_rounds(recipe) if plan.direction == "decode")


@dataclass(frozen=True)
class _Ladder:
    """Halvings one after the other: the stage-1 student's first, then each the next one's.

    The stage-1 student is asked as a deterministic teacher whatever it teaches: it is good at any
    time, so its grid holds every jump. A student of one step starts from noise,
    so it meets no states of its own; what is made ahead has those of its teacher.
    """

    config: Halving
    w: WDistribution
    sampler: Sampling = "deterministic"
    direction: Direction = "decode"
    on_policy_source: OnPolicySource = "teacher"

    def rounds(self, first: int, seed: int) -> list[RoundPlan]:
        """Its rounds, from round `first` on."""
        found = []
        for arrow, (teacher, student) in enumerate(itertools.pairwise(self.config.steps)):
            training = self.config.training(arrow)
            own = self.config.on_policy_fraction if student > 1 else 0.0
            found.append(
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
                    on_policy_fraction=own,
                    on_policy_source=self.on_policy_source if own else "teacher",
                    training=_training(training),
                    loss_weight=training.loss_weight,
                    w=self.w,
                    seed=seed,
                )
            )
        return found


def _student_prediction(recipe: Recipe) -> PredictionName | None:
    """v, if the teacher predicts epsilon and its student is not to keep that; None: no change."""
    return "v_prediction" if recipe.converts_prediction else None


def _training(config: TrainingConfig, extra_updates: int = 0) -> TrainingConfig:
    values = {key: getattr(config, key) for key in TrainingConfig.model_fields}
    return TrainingConfig(**values | {"updates": config.updates + extra_updates})


def round_key(
    plan: RoundPlan, recipe: Recipe, precision: str, data: Artifact, teacher: Artifact | None
) -> str:
    """The fingerprint of a round's student: all that determines its weights, and nothing else.

    Not in it: the number of workers, the ZeRO stage, paths, timings, attempts.
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
