"""Protocols of a report's metrics, from its classifier, real images and teacher."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.evaluation.candidates import ReportInputs
from pipeline.evaluation.documents import NOISE_FLOOR_SEED_OFFSET, RESAMPLES
from pipeline.evaluation.metric_protocol import PIXELS, MetricProtocol, Reference
from pipeline.evaluation.metrics.manifold import DENSITY_NEIGHBOURS, NEIGHBOURS
from pipeline.evaluation.metrics.pairwise import MOST_PSNR, RANGE, ssim_window

FRECHET = "Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500"
KERNEL = "Binkowski et al. 2018, arXiv:1801.01401"
MANIFOLD = "Kynkaanniemi et al. 2019, arXiv:1904.06991"
DENSITY = "Naeem et al. 2020, arXiv:2002.09797"
KERNEL_SETTINGS = {"degree": 3.0, "offset": 1.0}


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

    def asked(self, name: str) -> Reference:
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

    def metric(
        self,
        metric: str,
        words: tuple[str, str],
        extractor: tuple[str, str | None],
        reference: Reference,
        source: str,
        settings: Mapping[str, float] | None = None,
    ) -> MetricProtocol:
        """Build one protocol; `words` are title and meaning, `extractor` is name and sha256."""
        return MetricProtocol(
            metric=metric,
            title=words[0],
            meaning=words[1],
            extractor=extractor[0],
            extractor_sha256=extractor[1],
            components_sha256=self.components_sha256,
            reference=reference,
            num_samples=self.num_samples,
            seed=self.seed,
            resamples=self.resamples,
            settings=dict(settings or {}),
            source=source,
            shape=self.shape,
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
    setting: ProtocolContext, extractor: tuple[str, str | None], real: Reference, distance: str
) -> list[MetricProtocol]:
    """Return the protocols of metrics against real images; `distance` titles the first column."""
    near = {"k": float(NEIGHBOURS)}
    far = {"k": float(DENSITY_NEIGHBOURS)}
    specs = {
        "distance_to_real": (distance, "Frechet distance", FRECHET, {}),
        "kid_to_real": ("KID", "unbiased kernel distance", KERNEL, KERNEL_SETTINGS),
        "precision": ("precision", "share of samples inside the real manifold", MANIFOLD, near),
        "recall": ("recall", "share of real images inside the samples' manifold", MANIFOLD, near),
        "density": ("density", "real neighbourhoods around a sample, over k", DENSITY, far),
        "coverage": ("coverage", "share of real neighbourhoods with a sample", DENSITY, far),
    }
    return [
        setting.metric(key, (title, meaning), extractor, real, source, settings)
        for key, (title, meaning, source, settings) in specs.items()
    ]


def teacher_metric(setting: ProtocolContext, extractor: tuple[str, str | None]) -> MetricProtocol:
    """Return the protocol of the distance to the teacher's samples from other noise."""
    words = ("to teacher", "Frechet distance; the teacher's own row is the noise floor")
    return setting.metric("distance_to_teacher", words, extractor, setting.noise_floor, FRECHET)


def paired_metrics(setting: ProtocolContext) -> list[MetricProtocol]:
    """Return the protocols of pixel metrics against the teacher's samples from the same noise."""
    window = ssim_window(setting.shape)
    specs: dict[str, tuple[str, str, str, dict[str, float]]] = {
        "rms_to_teacher": ("RMS", "root mean square difference", "", {}),
        "psnr_to_teacher": (
            "PSNR",
            "peak signal-to-noise ratio in dB, mean over images",
            "torchmetrics",
            {"range": RANGE, "most": MOST_PSNR},
        ),
    }
    if window is not None:
        specs["ssim_to_teacher"] = (
            "SSIM",
            "structural similarity, mean over images",
            "Wang et al. 2004; torchmetrics",
            {"window": float(window)},
        )
    return [
        setting.metric(key, (title, meaning), (PIXELS, None), setting.paired, source, settings)
        for key, (title, meaning, source, settings) in specs.items()
    ]


def classifier_metrics(
    setting: ProtocolContext,
    classifier: tuple[str, str | None],
    counts: Mapping[str, int],
    *,
    reads_prompts: bool,
) -> tuple[MetricProtocol, ...]:
    """Return the protocols of a report on data with classes; `counts` are real images by split."""
    real = setting.real("heldout", counts["heldout"])
    found = real_image_metrics(setting, classifier, real, "to real")
    found.append(teacher_metric(setting, classifier))
    score = "Salimans et al. 2016, arXiv:1606.03498, with this classifier"
    for key, words, source in (
        ("inception_score", ("score", "inception-type score"), score),
        ("class_accuracy", ("accuracy", "share classified as the conditioning class"), ""),
        ("accuracy_by_class", ("worst class", "lowest accuracy of a class"), ""),
    ):
        conditions = setting.asked("the conditioning class")
        found.append(setting.metric(key, words, classifier, conditions, source))
    found += paired_metrics(setting)
    nearest = (
        "nearest",
        "mean RMS distance to the nearest image; smaller than in the real row indicates copying",
    )
    training = setting.real("train", counts["train"])
    found.append(setting.metric("nearest_training", nearest, (PIXELS, None), training, ""))
    if reads_prompts:
        words = ("prompt accuracy", "digit from the classifier, colours from the pixels")
        conditions = setting.asked("the prompt")
        found.append(setting.metric("prompt_accuracy", words, classifier, conditions, ""))
    return tuple(found)
