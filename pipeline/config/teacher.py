"""The `teacher` section of a recipe: network, noise schedule and origin of the weights."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.config.distributions import Share, WDistribution
from pipeline.config.methods import PredictionName
from pipeline.config.rounds import TrainingConfig
from pipeline.documents import Document, OpenUnion
from pipeline.registry import Registry


class ClassLaw(NamedTuple):
    """Classes N(means[c], std^2 I) of points."""

    means: tuple[tuple[float, ...], ...]
    std: float


class NetworkConfig(Document):
    """Properties of a network that a recipe uses; the defaults are class-conditional.

    A family declares its own as a subclass, with its name as the only value of `family`.
    """

    family: str
    """Network family."""

    @property
    def is_closed_form(self) -> bool:
        """Whether a teacher has no weights, so that it is neither trained nor loaded."""
        return False

    @property
    def draws_pixels(self) -> bool:
        """Whether finished samples are pixels, which are clipped to [-1, 1]."""
        return True

    @property
    def reads_text(self) -> bool:
        """Whether the network is conditioned on prompts, else on classes."""
        return False

    @property
    def embedding_widths(self) -> tuple[int, int]:
        """Channels of a token embedding and of the pooled prompt embedding; 0 for none."""
        return 0, 0

    @property
    def extra_channels(self) -> int:
        """Input channels besides z_t that are not denoised: mask and masked latents."""
        return 0

    @property
    def is_inpainting(self) -> bool:
        """Whether the network takes a masked image as input."""
        return self.extra_channels > 0

    @property
    def needs_images(self) -> bool:
        """Whether samples must have the shape (channels, height, width)."""
        return False

    @property
    def class_law(self) -> ClassLaw | None:
        """The classes for which the network is exact; None if it is not made for any."""
        return None

    @property
    def trained_pipeline(self) -> str | None:
        """The diffusers pipeline whose other components can be trained; None if there is none."""
        return None

    @property
    def has_sampling_script(self) -> bool:
        """Whether a student on pixels is exported with a script that calls diffusers' network."""
        return False

    @property
    def idle_keys(self) -> dict[str, str]:
        """Keys that have no effect on this network, with the reason and the remedy."""
        return {}

    @property
    def takes_w(self) -> bool:
        """Whether the network has an input for w before distillation."""
        return False

    @property
    def why_not_w(self) -> str | None:
        """Return why its diffusers pipeline cannot pass w to a student; None if it can."""
        return None


class UNetConfig(NetworkConfig):
    """A diffusers `UNet2DConditionModel`, conditioned on classes or on prompts.

    Without `text_channels` it is class-conditional and has no attention. With it, it is
    text-conditional: cross-attention at every resolution except the lowest.
    """

    family: Literal["unet"]
    """Network family: `unet`."""

    block_channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64)
    """Channels at each resolution, from the highest; multiples of `norm_groups`."""

    layers_per_block: PositiveInt = 1
    """Residual layers at each resolution."""

    norm_groups: PositiveInt = 8
    """Groups of group normalisation."""

    w_embedding_dim: Annotated[int, Field(ge=4, multiple_of=2)] = 64
    """Size of the sinusoidal embedding of w in a student; even, at least 4."""

    text_channels: PositiveInt | None = None
    """Channels of a token embedding. Default: none, class-conditional."""

    pooled_channels: PositiveInt | None = None
    """Channels of the pooled prompt embedding (SDXL), which comes with original size and crop of
    the image. Default: none."""

    image_channels: NonNegativeInt = 0
    """Input channels besides z_t that are not denoised: mask and masked latents of an inpainting
    network. 0 for none."""

    attention_heads: PositiveInt = 4
    """Heads of each cross-attention layer."""

    @property
    def reads_text(self) -> bool:
        """Whether the network is conditioned on prompts, else on classes."""
        return self.text_channels is not None

    @property
    def embedding_widths(self) -> tuple[int, int]:
        """Channels of a token embedding and of the pooled prompt embedding; 0 for none."""
        return self.text_channels or 0, self.pooled_channels or 0

    @property
    def extra_channels(self) -> int:
        """Return `image_channels`."""
        return self.image_channels

    @property
    def needs_images(self) -> bool:
        """Return True: its convolutions are two-dimensional."""
        return True

    @property
    def trained_pipeline(self) -> str | None:
        """Return the class of Stable Diffusion 1.x, with or without inpainting."""
        if not self.reads_text:
            return None
        return "StableDiffusionInpaintPipeline" if self.is_inpainting else "StableDiffusionPipeline"

    @property
    def has_sampling_script(self) -> bool:
        """Return True for a class-conditional network."""
        return not self.reads_text and not self.is_inpainting

    @property
    def idle_keys(self) -> dict[str, str]:
        """Return the keys of attention if the network has none."""
        if self.reads_text:
            return {}
        reason = "has no effect on a class-conditional network, which has no attention; remove it"
        return {"attention_heads": reason}

    @model_validator(mode="after")
    def _channels_fall_into_groups(self) -> "UNetConfig":
        for count in self.block_channels:
            if count % self.norm_groups:
                raise ValueError(f"block_channels {count}: use multiples of {self.norm_groups}")
        if self.text_channels is not None:
            odd = [count for count in self.block_channels if count % self.attention_heads]
            if odd:
                raise ValueError(
                    f"block_channels {odd[0]}: use multiples of attention_heads, "
                    f"{self.attention_heads}"
                )
        if self.text_channels is None and (self.pooled_channels or self.image_channels):
            raise ValueError("pooled_channels and image_channels need text_channels; set it")
        return self


class DiTConfig(NetworkConfig):
    """A diffusers `DiTTransformer2DModel`: a class-conditional transformer on latents.

    Source: Peebles & Xie 2022, arXiv:2212.09748.
    """

    family: Literal["dit"]
    """Network family: `dit`."""

    layers: PositiveInt = 2
    """Transformer blocks."""

    heads: PositiveInt = 2
    """Attention heads per block."""

    head_dim: PositiveInt = 8
    """Channels per attention head."""

    patch: PositiveInt = 2
    """Width and height of a patch, in latent pixels."""

    @property
    def needs_images(self) -> bool:
        """Return True: its patches are two-dimensional."""
        return True

    @property
    def why_not_w(self) -> str | None:
        """Return the reason: the network has no input for w."""
        return "DiTPipeline cannot pass w to its network"


class MMDiTConfig(NetworkConfig):
    """A multimodal flow-matching transformer: Stable Diffusion 3 or Flux.

    Source: Esser et al. 2024, arXiv:2403.03206.
    """

    family: Literal["mmdit"]
    """Network family: `mmdit`."""

    kind: Literal["sd3", "flux"]
    """Architecture: `sd3` or `flux`."""

    layers: PositiveInt = 1
    """Transformer blocks."""

    heads: PositiveInt = 2
    """Attention heads per block."""

    head_dim: PositiveInt = 8
    """Channels per attention head; for `flux` even, at least 6."""

    text_channels: PositiveInt = 16
    """Channels of a token embedding."""

    pooled_channels: PositiveInt = 16
    """Channels of the pooled prompt embedding."""

    guidance_embeds: bool = False
    """Whether the network has an input for the guidance scale 1 + w; `flux` only."""

    @property
    def reads_text(self) -> bool:
        """Return True: it is conditioned on prompts."""
        return True

    @property
    def embedding_widths(self) -> tuple[int, int]:
        """Channels of a token embedding and of the pooled prompt embedding."""
        return self.text_channels, self.pooled_channels

    @property
    def needs_images(self) -> bool:
        """Return True: its patches are two-dimensional."""
        return True

    @property
    def takes_w(self) -> bool:
        """Whether the teacher has a guidance embedding, as Flux has."""
        return self.guidance_embeds

    @property
    def why_not_w(self) -> str | None:
        """Return the reason for SD3, which has no input for w; None for Flux."""
        if self.kind == "flux":
            return None
        return "StableDiffusion3Pipeline cannot pass w to its network"

    @model_validator(mode="after")
    def _flux_has_guidance_and_rotary_channels(self) -> "MMDiTConfig":
        if self.kind == "flux" and (self.head_dim % 2 or self.head_dim < 6):
            raise ValueError(f"head_dim {self.head_dim}: flux needs an even number >= 6")
        if self.guidance_embeds and self.kind != "flux":
            raise ValueError("guidance_embeds: sd3 networks have no such input; remove it")
        return self


class GaussianConfig(NetworkConfig):
    """Classes N(means[c], std^2 I), whose denoiser has a closed form."""

    family: Literal["gaussian"]
    """Network family: `gaussian`."""

    means: tuple[tuple[float, ...], ...]
    """Mean of each class; all of the same length."""

    std: PositiveFloat = 0.5
    """Standard deviation of each class."""

    null: Literal["mixture", "moments"] = "moments"
    """Unconditional denoiser: that of the class `mixture`, or of one Gaussian with the same mean
    and mean variance (`moments`), which makes all maps affine, so that students can be exact."""

    w_nodes: PositiveInt = 5
    """Interpolation nodes in w of a student."""

    @property
    def is_closed_form(self) -> bool:
        """Return True: the teacher is exact."""
        return True

    @property
    def draws_pixels(self) -> bool:
        """Return False: samples are points."""
        return False

    @property
    def class_law(self) -> ClassLaw:
        """Return its classes."""
        return ClassLaw(self.means, self.std)

    @model_validator(mode="after")
    def _means_are_a_table(self) -> "GaussianConfig":
        if not self.means or not self.means[0] or len({len(mean) for mean in self.means}) != 1:
            raise ValueError("means: give one or more non-empty lists of the same length")
        return self


NETWORKS: Registry[NetworkConfig] = Registry(
    "pipeline.models",
    NetworkConfig,
    "model family",
    known=(UNetConfig, DiTConfig, MMDiTConfig, GaussianConfig),
    entry_points="stepfold.families",
    tag="family",
)

Network = Annotated[NetworkConfig, OpenUnion("family", NETWORKS.known, NETWORKS.get)]


class ScheduleConfig(Document):
    """The noise schedule. T = 1024 makes all power-of-two step counts divide T."""

    kind: Literal["cosine", "linear", "scaled_linear", "rectified_flow"] = "cosine"
    """`cosine`; `linear` or `scaled_linear` (linear in sqrt(beta)) for discrete schedules of
    existing teachers; `rectified_flow` for flow matching."""

    num_train_timesteps: PositiveInt = 1024
    """Number of training timesteps T."""

    beta_start: PositiveFloat = 0.00085
    """First beta of a discrete schedule. Default: that of Stable Diffusion."""

    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.012
    """Last beta of a discrete schedule. Default: that of Stable Diffusion."""

    shift: PositiveFloat = 1.0
    """Shift of the times of a rectified flow towards noise. 1 for none."""

    @property
    def is_discrete(self) -> bool:
        """Whether the schedule is a table of T entries."""
        return self.kind in ("linear", "scaled_linear")

    def holds(self, steps: int) -> bool:
        """Whether a grid of this many steps falls on timesteps of the schedule.

        Discrete schedules use the nearest entry and rectified flows take real times, so any number
        up to T is valid. A cosine schedule needs a divisor of T: its network was trained on
        integer timesteps.
        """
        if self.is_discrete or self.kind == "rectified_flow":
            return 1 <= steps <= self.num_train_timesteps
        return steps >= 1 and self.num_train_timesteps % steps == 0


class TeacherTraining(TrainingConfig):
    """Training of a small teacher from data, for demos; other teachers are given as a directory."""

    ema_decay: Share = 0.998
    """Decay of the exponential moving average of the weights after each update, in [0, 1). The
    random weights before the first update have no part in it."""

    label_dropout: Share = 0.15
    """Probability that a class or caption is dropped for classifier-free guidance, in [0, 1)."""


class ComponentsTraining(Document):
    """Training of a small autoencoder, tokenizer and text encoder on the data, for demos."""

    autoencoder_updates: PositiveInt
    """Updates of the `AutoencoderKL`."""

    text_encoder_updates: PositiveInt
    """Updates of the `CLIPTextModel`, trained to classify the digit and colours of a caption."""

    batch_size: PositiveInt = 64
    """Images or captions per update."""

    autoencoder_channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64)
    """Channels at each resolution; each one after the first halves width and height."""

    latent_channels: PositiveInt = 4
    """Channels of a latent."""

    text_tokens: PositiveInt = 16
    """Length in tokens to which prompts are padded."""

    text_layers: PositiveInt = 2
    """Layers of the text encoder. Its width is the network's `text_channels`."""


class TeacherConfig(Document):
    """The guided teacher: exactly one of `pipeline`, `bundle` and `train`.

    A Gaussian teacher needs none of them. With `pipeline`, network, schedule and prediction are
    read from its directory. A teacher that is trained on captions also needs `components`.
    """

    network: Network
    """Architecture of the network, by `family`."""

    schedule: ScheduleConfig = ScheduleConfig()
    """Noise schedule."""

    prediction: PredictionName = "v_prediction"
    """Prediction type of the network: `epsilon`, `sample`, `v_prediction` or `flow_prediction`."""

    pipeline: str | None = None
    """Directory of a diffusers pipeline, or `org/name@COMMIT` of the Hugging Face hub with the full
    commit hash; it is downloaded once."""

    bundle: str | None = None
    """Directory of a teacher bundle of an earlier run."""

    train: TeacherTraining | None = None
    """Settings to train the teacher from the data."""

    components: ComponentsTraining | None = None
    """Settings to train autoencoder and text encoder, for a teacher that is trained on captions."""

    reference_steps: PositiveInt = 64
    """Sampling steps of the teacher in evaluation and gate."""

    w: WDistribution | None = Field(default=None, exclude_if=lambda w: w is None)
    """Guidance weights of a network that takes its guidance as an input (Flux with
    `guidance_embeds`). Such a teacher needs no round of guidance: it gives round 0, and the first
    halving is round 1. Default: none, round 0 distils the guidance."""

    @property
    def has_components(self) -> bool:
        """Whether the teacher has an autoencoder and works on latents."""
        return self.pipeline is not None or self.components is not None

    @property
    def trained_pipeline(self) -> str | None:
        """Return the diffusers pipeline class of trained `components`; None without."""
        return self.network.trained_pipeline if self.components else None

    @model_validator(mode="after")
    def _sees_one_mask_and_masked_latents(self) -> "TeacherConfig":
        if self.components is None:
            return self
        channels, needed = self.network.extra_channels, self.components.latent_channels + 1
        if channels not in (0, needed):
            raise ValueError(
                f"network.image_channels {channels}: an inpainting network takes a mask and masked "
                f"latents; use {needed}, which is components.latent_channels + 1"
            )
        return self

    @model_validator(mode="after")
    def _gives_guidance_it_takes(self) -> "TeacherConfig":
        if self.w is not None and not self.network.takes_w:
            raise ValueError(
                f"w: this {self.network.family} has no input for guidance, so round 0 distils it; "
                "give guidance.w instead"
            )
        return self

    @model_validator(mode="after")
    def _has_one_origin(self) -> "TeacherConfig":
        origins = sum(origin is not None for origin in (self.pipeline, self.bundle, self.train))
        family, is_closed_form = self.network.family, self.network.is_closed_form
        if is_closed_form and origins:
            raise ValueError(
                f"a {family} teacher has no weights; remove `train`, `bundle` and `pipeline`"
            )
        if (self.components is not None) != (self.train is not None and self.network.reads_text):
            raise ValueError(
                "`components: {autoencoder_updates: ..., text_encoder_updates: ...}` is required "
                "for a teacher that is trained on captions, and not allowed for any other"
            )
        path = (self.schedule.kind, self.prediction)
        if family == "gaussian" and path != ("cosine", "v_prediction"):
            raise ValueError(
                f"a gaussian teacher is cosine and v_prediction, not {path}; remove the keys"
            )
        if not is_closed_form and origins != 1:
            raise ValueError(
                "give exactly one of `pipeline: DIRECTORY`, `bundle: DIRECTORY` and "
                "`train: {updates: ...}`"
            )
        flow = self.schedule.kind == "rectified_flow"
        if flow != (self.prediction == "flow_prediction") or path == ("cosine", "epsilon"):
            raise ValueError(
                f"prediction {self.prediction} does not fit schedule {self.schedule.kind}: "
                "use flow_prediction with rectified_flow and only there; with cosine use "
                "v_prediction or sample, as epsilon is undefined at its pure noise"
            )
        return self
