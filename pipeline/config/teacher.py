"""The recipe's `teacher` section: the network, its noise path, and where its weights come from."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.config.laws import Share
from pipeline.config.training import TrainingConfig
from pipeline.documents import Document


class UNetConfig(Document):
    """A diffusers `UNet2DConditionModel`: told a class, or a prompt by cross-attention.

    Without `text_channels` it is class-conditional and has no attention. With it, the network
    attends to embedded prompts of so many channels, at every resolution but the lowest, as Stable
    Diffusion does; the labels are then words.

    Attributes:
        block_channels: of each resolution, from the highest.
        w_embedding_dim: size of the sinusoids that a student is told w in.
        text_channels: channels of an embedded token; None for classes.
        pooled_channels: of a prompt's pooled embedding, which comes with six numbers on the size
            and crop of the image (SDXL); None without.
        image_channels: channels that are given beside z_t and are not denoised: mask and masked
            latents of an inpainting network.
        attention_heads: at every resolution that attends.
    """

    family: Literal["unet"]
    block_channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64)
    layers_per_block: PositiveInt = 1
    norm_groups: PositiveInt = 8
    w_embedding_dim: Annotated[int, Field(ge=4, multiple_of=2)] = 64
    text_channels: PositiveInt | None = None
    pooled_channels: PositiveInt | None = None
    image_channels: NonNegativeInt = 0
    attention_heads: PositiveInt = 4

    @property
    def reads_text(self) -> bool:
        """Whether its condition is a prompt."""
        return self.text_channels is not None

    @property
    def why_not_w(self) -> str | None:
        """Why its stock pipelines cannot tell a student w; None if they do."""
        return None

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
            raise ValueError("pooled_channels and image_channels go with text_channels")
        return self


class DiTConfig(Document):
    """A diffusers `DiTTransformer2DModel`: a class-conditional transformer on latents.

    Source: Peebles & Xie 2022, arXiv:2212.09748.
    """

    family: Literal["dit"]
    layers: PositiveInt = 2
    heads: PositiveInt = 2
    head_dim: PositiveInt = 8
    patch: PositiveInt = 2

    @property
    def reads_text(self) -> bool:
        """Never: its condition is a class."""
        return False

    @property
    def why_not_w(self) -> str | None:
        """Its network has no input for w."""
        return "DiTPipeline has no way to tell its network w"


class MMDiTConfig(Document):
    """A multimodal transformer of flow matching: `sd3` or `flux`.

    Only Flux's network has an input for guidance, `guidance_embeds`, which is told 1 + w.

    Source: Esser et al. 2024, arXiv:2403.03206.
    """

    family: Literal["mmdit"]
    kind: Literal["sd3", "flux"]
    layers: PositiveInt = 1
    heads: PositiveInt = 2
    head_dim: PositiveInt = 8
    text_channels: PositiveInt = 16
    pooled_channels: PositiveInt = 16
    guidance_embeds: bool = False

    @property
    def reads_text(self) -> bool:
        """Always."""
        return True

    @property
    def why_not_w(self) -> str | None:
        """SD3's network has no input for w; Flux's has."""
        if self.kind == "flux":
            return None
        return "StableDiffusion3Pipeline has no way to tell its network w"

    @model_validator(mode="after")
    def _only_flux_is_told(self) -> "MMDiTConfig":
        if self.kind == "flux" and (self.head_dim % 2 or self.head_dim < 6):
            raise ValueError(f"head_dim {self.head_dim}: flux wants an even number from 6 up")
        if self.guidance_embeds and self.kind != "flux":
            raise ValueError("guidance_embeds is Flux's; an sd3 network has no such input")
        return self


class GaussianConfig(Document):
    """Classes N(means[c], std^2 I): every denoiser of it has a closed form.

    `null: mixture` is the true unconditional denoiser of the class mixture. `null: moments` puts
    one Gaussian of the same mean and mean variance in its place, which makes every map affine in
    z_t, so that a student of tables can be exact.
    """

    family: Literal["gaussian"]
    means: tuple[tuple[float, ...], ...]
    std: PositiveFloat = 0.5
    null: Literal["mixture", "moments"] = "moments"
    w_nodes: PositiveInt = 5

    @property
    def reads_text(self) -> bool:
        """Never: its condition is a class."""
        return False

    @property
    def why_not_w(self) -> str | None:
        """Nothing is in the way: it is never exported."""
        return None

    @model_validator(mode="after")
    def _means_are_a_table(self) -> "GaussianConfig":
        if not self.means or not self.means[0] or len({len(mean) for mean in self.means}) != 1:
            raise ValueError("means must be one or more lists of equally many numbers")
        return self


Network = Annotated[
    UNetConfig | DiTConfig | MMDiTConfig | GaussianConfig, Field(discriminator="family")
]

PredictionName = Literal["epsilon", "sample", "v_prediction", "flow_prediction"]


class ScheduleConfig(Document):
    """The noise path. Own schedules use T = 1024, so that every halving grid falls on integers.

    Attributes:
        kind: `linear` and `scaled_linear` (linear in the square root) are the discrete paths of
            existing teachers, `rectified_flow` is that of flow matching.
        num_train_timesteps: T.
        beta_start: first beta of a discrete path; the default is Stable Diffusion's.
        beta_end: its last.
        shift: of the times of a rectified flow; 1 for none.
    """

    kind: Literal["cosine", "linear", "scaled_linear", "rectified_flow"] = "cosine"
    num_train_timesteps: PositiveInt = 1024
    beta_start: PositiveFloat = 0.00085
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.012
    shift: PositiveFloat = 1.0

    @property
    def is_discrete(self) -> bool:
        """Whether it is a table with T entries."""
        return self.kind in ("linear", "scaled_linear")

    def holds(self, steps: int) -> bool:
        """Whether a grid of so many steps can be asked for.

        A table takes any, each time being its nearest entry, because a stock scheduler does the
        same; so does a rectified flow, whose networks are told real numbers. Elsewhere the network
        is to see the integer timesteps that it was trained on.
        """
        if self.is_discrete or self.kind == "rectified_flow":
            return 1 <= steps <= self.num_train_timesteps
        return steps >= 1 and self.num_train_timesteps % steps == 0


class TeacherTraining(TrainingConfig):
    """How the demo's own teacher is trained; real teachers come as bundles."""

    ema_decay: Share = 0.998
    label_dropout: Share = 0.15


class ComponentsTraining(Document):
    """How the demo's own autoencoder, tokenizer and text encoder are trained, on its own data.

    Attributes:
        autoencoder_updates: of an `AutoencoderKL`, on batches of `batch_size` training images.
        autoencoder_channels: of each resolution; every one but the first halves the image.
        latent_channels: of what the denoising network sees.
        text_encoder_updates: of a `CLIPTextModel`, which learns to tell the classes and colours in
            captions apart.
        text_tokens: length that every prompt is padded to.
        text_layers: of the text encoder; its width is the network's `text_channels`.
    """

    autoencoder_updates: PositiveInt
    text_encoder_updates: PositiveInt
    batch_size: PositiveInt = 64
    autoencoder_channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64)
    latent_channels: PositiveInt = 4
    text_tokens: PositiveInt = 16
    text_layers: PositiveInt = 2


class TeacherConfig(Document):
    """Where the guided teacher comes from, and how it is sampled for reference.

    `pipeline` names a stock diffusers pipeline directory, which says itself what network, schedule
    and prediction are; `bundle` names one of ours; or `train` says how to train one. A Gaussian
    needs none of them. A teacher that is trained to read captions needs `components` trained too.
    """

    network: Network
    schedule: ScheduleConfig = ScheduleConfig()
    prediction: PredictionName = "v_prediction"
    pipeline: str | None = None
    bundle: str | None = None
    train: TeacherTraining | None = None
    components: ComponentsTraining | None = None
    reference_steps: PositiveInt = 64

    @property
    def has_components(self) -> bool:
        """Whether its network belongs in a stock pipeline, whose other parts draw latents."""
        return self.pipeline is not None or self.components is not None

    @property
    def trained_pipeline(self) -> str | None:
        """The stock pipeline that `components` are trained for; None where none are."""
        if self.components is None or not isinstance(self.network, UNetConfig):
            return None
        paints = self.network.image_channels > 0
        return "StableDiffusionInpaintPipeline" if paints else "StableDiffusionPipeline"

    @model_validator(mode="after")
    def _sees_one_mask_and_masked_latents(self) -> "TeacherConfig":
        if self.components is None or self.trained_pipeline != "StableDiffusionInpaintPipeline":
            return self
        beside = getattr(self.network, "image_channels", 0)
        if beside != self.components.latent_channels + 1:
            raise ValueError(
                f"network.image_channels {beside}: an inpainting network is given a mask and the "
                f"masked latents; use {self.components.latent_channels + 1}, one more than "
                "components.latent_channels"
            )
        return self

    @model_validator(mode="after")
    def _has_one_origin(self) -> "TeacherConfig":
        origins = sum(origin is not None for origin in (self.pipeline, self.bundle, self.train))
        if self.network.family == "gaussian" and origins:
            raise ValueError(
                "a gaussian teacher is its closed form; drop `train`, `bundle` and `pipeline`"
            )
        if (self.components is not None) != (self.train is not None and self.network.reads_text):
            raise ValueError(
                "`components: {autoencoder_updates: ..., text_encoder_updates: ...}` goes with a "
                "teacher that is trained here to read captions, and with no other"
            )
        path = (self.schedule.kind, self.prediction)
        if self.network.family == "gaussian" and path != ("cosine", "v_prediction"):
            raise ValueError(f"a gaussian is cosine and v_prediction, not {path}; drop them")
        if self.network.family != "gaussian" and origins != 1:
            raise ValueError(
                "give one of `pipeline: DIRECTORY`, `bundle: DIRECTORY` and `train: {updates: ...}`"
            )
        flow = self.schedule.kind == "rectified_flow"
        if flow != (self.prediction == "flow_prediction") or path == ("cosine", "epsilon"):
            raise ValueError(
                f"prediction {self.prediction} does not fit schedule {self.schedule.kind}: "
                "flow_prediction goes with rectified_flow, the others with the rest, and epsilon "
                "says nothing of x at the pure noise that cosine ends in"
            )
        return self
