"""The recipe: what to run. Types only, no torch, so that checking a recipe is instant.

What belongs to the machine is the profile's.
"""

from pipeline.config.data import (
    Data as Data,
    DigitsData as DigitsData,
    GaussianData as GaussianData,
    ImageFolderData as ImageFolderData,
)
from pipeline.config.recipe import (
    EvaluationConfig as EvaluationConfig,
    Recipe as Recipe,
    RunConfig as RunConfig,
    TargetsConfig as TargetsConfig,
)
from pipeline.config.teacher import (
    GaussianConfig as GaussianConfig,
    Network as Network,
    ScheduleConfig as ScheduleConfig,
    TeacherConfig as TeacherConfig,
    TeacherTraining as TeacherTraining,
    UNetConfig as UNetConfig,
)
from pipeline.config.training import (
    GuidanceRound as GuidanceRound,
    GuidanceWeights as GuidanceWeights,
    Halving as Halving,
    RoundTraining as RoundTraining,
    TrainingConfig as TrainingConfig,
)
