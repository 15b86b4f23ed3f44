"""Plan the rounds of a recipe: teacher, method and length of each."""

from pipeline.config import (
    DenoisingConfig,
    LossConfig,
    Recipe,
    TargetsConfig,
    TrainingConfig,
)
from pipeline.config.rounds import ORIGINAL, OWN_TEACHER
from pipeline.ledger import FORMAT_VERSION, Artifact, fingerprint
from pipeline.training.round_plan import TEACHER_ROUND, RoundPlan


def plan_teacher(recipe: Recipe) -> RoundPlan | None:
    """Plan the round that trains the teacher from data; None for an existing teacher."""
    train = recipe.teacher.train
    if train is None:
        return None
    # a higher weight at high noise is unstable for a network that outputs eps
    is_epsilon = recipe.teacher.prediction == "epsilon"
    return RoundPlan(
        index=TEACHER_ROUND,
        name="teacher",
        parent=None,
        method=DenoisingConfig.name,
        config=DenoisingConfig(label_dropout=train.label_dropout),
        training=TrainingConfig(
            **{key: getattr(train, key) for key in TrainingConfig.model_fields}
        ),
        loss=LossConfig(kind="squared", weight="snr" if is_epsilon else "snr_plus_one"),
        sampling_steps=recipe.teacher.reference_steps,
        seed=recipe.run.seed,
    )


def plan_rounds(recipe: Recipe) -> tuple[RoundPlan, ...]:
    """Plan the rounds of a recipe, parents first."""
    rounds, first = recipe.round_configs, recipe.first_round
    indices: dict[str | None, int] = {ORIGINAL: TEACHER_ROUND}
    indices |= {each.name: index for index, each in enumerate(rounds, first)}
    return tuple(
        RoundPlan(
            index=index,
            name=each.name or each.config.label,
            parent=indices[each.teacher],
            init_from=None if each.init_from == OWN_TEACHER else indices[each.init_from],
            method=each.method,
            config=each.config,
            training=each.training,
            loss=each.loss,
            targets=each.targets or TargetsConfig(),
            sampling_steps=each.sampling_steps or recipe.teacher.reference_steps,
            seed=recipe.run.seed,
        )
        for index, each in enumerate(rounds, first)
    )


def plan_decoders(recipe: Recipe) -> tuple[RoundPlan, ...]:
    """Plan the rounds whose students are decoders."""
    return tuple(plan for plan in plan_rounds(recipe) if plan.direction == "decode")


def round_key(
    plan: RoundPlan, recipe: Recipe, precision: str, data: Artifact, teacher: Artifact | None
) -> str:
    """Compute the fingerprint of a round's student from all inputs that determine its weights.

    It is independent of the number of workers, the ZeRO stage, paths, timings and attempts.
    """
    return fingerprint(
        {
            "format": FORMAT_VERSION,
            "plan": plan.model_dump(mode="json", exclude={"name", "sampling_steps"}),
            "network": recipe.teacher.network.model_dump(mode="json"),
            "schedule": recipe.teacher.schedule.model_dump(mode="json"),
            "prediction": recipe.teacher.prediction,
            "precision": precision,
            "data": data.digest,
            "teacher": teacher.digest if teacher else None,
        }
    )
