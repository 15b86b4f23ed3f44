"""Types of the recipe: data, teacher, training, evaluation and quality gate of a run.

Settings of the machine are in the profile. No module here imports torch, so that a recipe is
validated immediately.
"""

from pipeline.config.data import (
    AlphaFill,
    CaptionedDigitsData,
    CaptionedFolderData,
    CaptionedTarsData,
    Data,
    DataConfig,
    DigitCanvasesData,
    DigitsData,
    GaussianData,
    ImageFolderData,
    PromptsData,
)
from pipeline.config.distributions import UNIFORM, TimeDistribution, WDistribution
from pipeline.config.evaluation import EvaluationConfig, ExtractorConfig, ExtractorKind
from pipeline.config.gate import GateConfig, GateRules, Remedy
from pipeline.config.methods import (
    ON_POLICY_STEPS,
    DenoisingConfig,
    GuidanceConfig,
    MethodConfig,
    OnPolicySource,
    PredictionName,
    ProgressiveConfig,
)
from pipeline.config.recipe import Recipe, RunConfig, RunTargets
from pipeline.config.rounds import (
    Encoding,
    GuidanceRound,
    Halving,
    LossConfig,
    OptimiserConfig,
    RoundConfig,
    RoundTraining,
    TargetsConfig,
    TrainingConfig,
)
from pipeline.config.teacher import (
    ComponentsTraining,
    DiTConfig,
    GaussianConfig,
    MMDiTConfig,
    Network,
    NetworkConfig,
    ScheduleConfig,
    TeacherConfig,
    TeacherTraining,
    UNetConfig,
)

__all__ = [
    "ON_POLICY_STEPS",
    "UNIFORM",
    "AlphaFill",
    "CaptionedDigitsData",
    "CaptionedFolderData",
    "CaptionedTarsData",
    "ComponentsTraining",
    "Data",
    "DataConfig",
    "DenoisingConfig",
    "DiTConfig",
    "DigitCanvasesData",
    "DigitsData",
    "Encoding",
    "EvaluationConfig",
    "ExtractorConfig",
    "ExtractorKind",
    "GateConfig",
    "GateRules",
    "GaussianConfig",
    "GaussianData",
    "GuidanceConfig",
    "GuidanceRound",
    "Halving",
    "ImageFolderData",
    "LossConfig",
    "MMDiTConfig",
    "MethodConfig",
    "Network",
    "NetworkConfig",
    "OnPolicySource",
    "OptimiserConfig",
    "PredictionName",
    "ProgressiveConfig",
    "PromptsData",
    "Recipe",
    "Remedy",
    "RoundConfig",
    "RoundTraining",
    "RunConfig",
    "RunTargets",
    "ScheduleConfig",
    "TargetsConfig",
    "TeacherConfig",
    "TeacherTraining",
    "TimeDistribution",
    "TrainingConfig",
    "UNetConfig",
    "WDistribution",
]
