"""Protocols of a report's metrics, from its classifier, real images and teacher."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.evaluation.candidates import ReportInputs
from pipeline.evaluation.documents import NOISE_FLOOR_SEED_OFFSET, RESAMPLES
from pipeline.evaluation.metric_protocol import PIXELS, VERSION, MetricProtocol, Reference
from pipeline.evaluation.metrics.manifold import DENSITY_NEIGHBOURS, NEIGHBOURS
from pipeline.evaluation.metrics.pairwise import MOST_PSNR, RANGE, ssim_window

_FRECHET = "Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500"
_MANIFOLD = "Kynkaanniemi et al. 2019, arXiv:1904.06991"
_DENSITY = "Naeem et al. 2020, arXiv:2002.09797"

_METRICS: dict[str, tuple[str, str, str]] = {
    "distance_to_real": ("to real", "Frechet distance", _FRECHET),
    "relative_distance": (
        "relative distance",
        "1 + difference of the distances to real images of paired samples / the teacher's debiased",
        _FRECHET,
    ),
    "effective_w": ("effective w", "w at which the teacher's samples match best", ""),
    "kid_to_real": (
        "KID",
        "unbiased kernel distance, by classes",
        "Binkowski et al. 2018, arXiv:1801.01401",
    ),
    "precision": ("precision", "share of samples inside the real manifold", _MANIFOLD),
    "recall": ("recall", "share of real images inside the samples' manifold", _MANIFOLD),
    "density": ("density", "real neighbourhoods around a sample, over k", _DENSITY),
    "coverage": ("coverage", "share of real neighbourhoods with a sample", _DENSITY),
    "distance_to_teacher": (
        "to teacher",
        "Frechet distance; the teacher's own row is the noise floor",
        _FRECHET,
    ),
    "inception_score": (
        "score",
        "inception-type score",
        "Salimans et al. 2016, arXiv:1606.03498, with this classifier",
    ),
    "class_accuracy": ("accuracy", "share classified as the conditioning class", ""),
    "accuracy_by_class": ("worst class", "lowest accuracy of a class", ""),
    "prompt_accuracy": (
        "prompt accuracy",
        "digit from the classifier, colours from the pixels",
        "",
    ),
    "clip_score": (
        "CLIP score",
        "cosine similarity of image and prompt, times 100, at least 0",
        "Hessel et al. 2021, arXiv:2104.08718: 100 max(cos, 0), as in torchmetrics",
    ),
    "rms_to_teacher": ("RMS", "root mean square difference", ""),
    "psnr_to_teacher": (
        "PSNR",
        "peak signal-to-noise ratio in dB, mean over images",
        "torchmetrics",
    ),
    "ssim_to_teacher": (
        "SSIM",
        "structural similarity, mean over images",
        "Wang et al. 2004; torchmetrics",
    ),
    "nearest_training": (
        "nearest",
        "mean RMS distance to the nearest image; smaller than in the real row indicates copying",
        "",
    ),
}
"""Title, meaning and source of each metric."""

_SETTINGS: dict[str, dict[str, float]] = {
    "kid_to_real": {"degree": 3.0, "offset": 1.0},
    "precision": {"k": float(NEIGHBOURS)},
    "recall": {"k": float(NEIGHBOURS)},
    "density": {"k": float(DENSITY_NEIGHBOURS)},
    "coverage": {"k": float(DENSITY_NEIGHBOURS)},
    "psnr_to_teacher": {"range": RANGE, "most": MOST_PSNR},
}

Extractor = tuple[str, str | None]
"""Name of a feature network or of the pixel space, and sha256 of the weights."""


@dataclass(frozen=True)
class ProtocolContext:
    """Values shared by all protocols of one report.

    Attributes:
        num_samples: samples per row.
        seed: seed of the samples' noise and of the bootstrap.
        noise_floor_seed: seed of the teacher's noise-floor samples.
        reference_steps: sampling steps of the teacher.
        resamples: number of bootstrap resamples.
        data_sha256: digest of the data set.
        shape: shape of the images (height, width, channels).
        teacher_sha256: digest of the teacher's network.
        components_sha256: digest of VAE and text encoders; None for pixel-space networks.
    """

    num_samples: int
    seed: int
    noise_floor_seed: int
    reference_steps: int
    resamples: int
    data_sha256: str | None
    shape: tuple[int, ...]
    teacher_sha256: str | None = None
    components_sha256: str | None = None

    def conditions(self, name: str) -> Reference:
        """Return the samples' conditions (class or prompt) as a reference."""
        return Reference(name=name, data_sha256=self.data_sha256)

    def real(self, split: str, count: int) -> Reference:
        """Return the real images of a split as a reference."""
        words = {"heldout": "held-out", "train": "training"}[split]
        return Reference(
            name=f"{count} {words} real images",
            split=split,
            data_sha256=self.data_sha256,
            count=count,
        )

    @property
    def noise_floor(self) -> Reference:
        """The teacher's samples from other noise, as a reference."""
        return self._teacher(self.noise_floor_seed, "from other noise")

    @property
    def paired(self) -> Reference:
        """The teacher's samples from the same noise, as a reference."""
        return self._teacher(self.seed, "from the same noise")

    def _teacher(self, seed: int, noise: str) -> Reference:
        name = f"the teacher's {self.reference_steps}-step samples {noise}"
        return Reference(
            name=name,
            data_sha256=self.data_sha256,  # the source of its classes or prompts
            count=self.num_samples,
            seed=seed,
            steps=self.reference_steps,
            teacher_sha256=self.teacher_sha256,
        )

    def metric(self, key: str, extractor: Extractor, reference: Reference) -> MetricProtocol:
        """Build the protocol of a metric."""
        title, meaning, source = _METRICS[key]
        settings = _SETTINGS.get(key, {})
        if key == "ssim_to_teacher":
            settings = {"window": float(ssim_window(self.shape) or 0)}
        return MetricProtocol(
            metric=key,
            title=title,
            meaning=meaning,
            extractor=extractor[0],
            extractor_sha256=extractor[1],
            components_sha256=self.components_sha256,
            reference=reference,
            num_samples=self.num_samples,
            seed=self.seed,
            resamples=self.resamples,
            settings=settings,
            source=source,
            shape=self.shape,
            version=VERSION,
        )


def protocol_context(
    comparison: ReportInputs, num_samples: int, shape: tuple[int, ...]
) -> ProtocolContext:
    """Collect the values shared by the protocols of a comparison; `shape` is that of an image."""
    recipe = comparison.recipe
    return ProtocolContext(
        num_samples=num_samples,
        seed=recipe.evaluation.seed,
        noise_floor_seed=recipe.evaluation.seed + NOISE_FLOOR_SEED_OFFSET,
        reference_steps=recipe.teacher.reference_steps,
        resamples=RESAMPLES,
        data_sha256=comparison.data_sha256,
        shape=shape,
        teacher_sha256=comparison.teacher_sha256,
        components_sha256=comparison.components_sha256,
    )


def real_image_metrics(
    setting: ProtocolContext, extractor: Extractor, real: Reference, distance: str
) -> list[MetricProtocol]:
    """Return the protocols of metrics against real images; `distance` titles the first column."""
    keys = ("relative_distance", "kid_to_real", "precision", "recall", "density", "coverage")
    first = setting.metric("distance_to_real", extractor, real)
    others = [setting.metric(key, extractor, real) for key in keys]
    return [first.model_copy(update={"title": distance}), *others]


def teacher_metric(setting: ProtocolContext, extractor: Extractor) -> MetricProtocol:
    """Return the protocol of the distance to the teacher's samples from other noise."""
    return setting.metric("distance_to_teacher", extractor, setting.noise_floor)


def paired_metrics(setting: ProtocolContext) -> list[MetricProtocol]:
    """Return the protocols of pixel metrics against the teacher's samples from the same noise."""
    keys = ["rms_to_teacher", "psnr_to_teacher"]
    keys += ["ssim_to_teacher"] if ssim_window(setting.shape) else []
    return [setting.metric(key, (PIXELS, None), setting.paired) for key in keys]


def effective_w_metric(setting: ProtocolContext) -> MetricProtocol:
    """Return the protocol of the effective w, of pixels for samples from the same noise."""
    return setting.metric("effective_w", (PIXELS, None), setting.paired)


def classifier_metrics(
    setting: ProtocolContext,
    classifier: Extractor,
    counts: Mapping[str, int],
    *,
    reads_prompts: bool,
) -> tuple[MetricProtocol, ...]:
    """Return the protocols of a report on data with classes; `counts` are real images by split."""
    real = setting.real("heldout", counts["heldout"])
    training = setting.real("train", counts["train"])
    classes, prompt = setting.conditions("the conditioning class"), setting.conditions("the prompt")
    conditioning = ("inception_score", "class_accuracy", "accuracy_by_class")
    return (
        *real_image_metrics(setting, classifier, real, "to real"),
        teacher_metric(setting, classifier),
        *(setting.metric(key, classifier, classes) for key in conditioning),
        *paired_metrics(setting),
        effective_w_metric(setting),
        setting.metric("nearest_training", (PIXELS, None), training),
        *([setting.metric("prompt_accuracy", classifier, prompt)] if reads_prompts else []),
    )
