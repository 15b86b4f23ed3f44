"""The protocols of a report's own numbers: its classifier, its real images, its teacher."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.evaluation.candidates import Comparison
from pipeline.evaluation.documents import RESAMPLES, YARDSTICK_SEED_OFFSET
from pipeline.evaluation.metric_protocol import PIXELS, MetricProtocol, Reference
from pipeline.evaluation.metrics.manifold import DENSITY_NEIGHBOURS, NEIGHBOURS
from pipeline.evaluation.metrics.pairwise import MOST_PSNR, RANGE, ssim_window

FRECHET = "Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500"
KERNEL = "Binkowski et al. 2018, arXiv:1801.01401"
MANIFOLD = "Kynkaanniemi et al. 2019, arXiv:1904.06991"
DENSITY = "Naeem et al. 2020, arXiv:2002.09797"
KERNEL_SETTINGS = {"degree": 3.0, "offset": 1.0}


@dataclass(frozen=True)
class Setting:
    """What the protocols of one report have in common.

    Attributes:
        num_samples: samples a row.
        seed: of their noise, and of the bootstrap.
        yardstick_seed: of the teacher's other samples.
        reference_steps: of the teacher.
        resamples: of the bootstrap.
        data_sha256: of the data set.
        shape: of images (height, width, channels).
        teacher_sha256: of the teacher's network.
        components_sha256: of what surrounds networks of latents; None for networks of pixels.
    """

    num_samples: int
    seed: int
    yardstick_seed: int
    reference_steps: int
    resamples: int
    data_sha256: str | None
    shape: tuple[int, ...]
    teacher_sha256: str | None = None
    components_sha256: str | None = None

    def asked(self, name: str) -> Reference:
        """What samples were asked for, which is the data's: a class, or a prompt."""
        return Reference(name=name, data_sha256=self.data_sha256)

    def real(self, split: str, count: int) -> Reference:
        """The real images of a split."""
        words = {"heldout": "held-out", "train": "training"}[split]
        return Reference(
            name=f"{count} {words} real images",
            split=split,
            data_sha256=self.data_sha256,
            count=count,
        )

    @property
    def yardstick(self) -> Reference:
        """The teacher's samples from other noise."""
        return self._teacher(self.yardstick_seed, "from other noise")

    @property
    def paired(self) -> Reference:
        """The teacher's samples from the same noise."""
        return self._teacher(self.seed, "from the same noise")

    def _teacher(self, seed: int, noise: str) -> Reference:
        name = f"the teacher's {self.reference_steps}-step samples {noise}"
        return Reference(
            name=name,
            data_sha256=self.data_sha256,  # whose classes or prompts it was asked for
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
        """One protocol; `words` are title and meaning, `extractor` its name and sha256."""
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


def setting_of(comparison: Comparison, num_samples: int, shape: tuple[int, ...]) -> Setting:
    """What the protocols of a comparison have in common; `shape` is an image's."""
    recipe = comparison.recipe
    return Setting(
        num_samples=num_samples,
        seed=recipe.evaluation.seed,
        yardstick_seed=recipe.evaluation.seed + YARDSTICK_SEED_OFFSET,
        reference_steps=recipe.teacher.reference_steps,
        resamples=RESAMPLES,
        data_sha256=comparison.data_sha256,
        shape=shape,
        teacher_sha256=comparison.teacher_sha256,
        components_sha256=comparison.components_sha256,
    )


def against_real(
    setting: Setting, extractor: tuple[str, str | None], real: Reference, distance: str
) -> list[MetricProtocol]:
    """What is measured against real images in any features; `distance` heads the first column."""
    balls = {"k": float(NEIGHBOURS)}
    crowd = {"k": float(DENSITY_NEIGHBOURS)}
    said = {
        "distance_to_real": (distance, "Frechet distance", FRECHET, {}),
        "kid_to_real": ("KID", "unbiased kernel distance", KERNEL, KERNEL_SETTINGS),
        "precision": ("precision", "samples among the real images", MANIFOLD, balls),
        "recall": ("recall", "real images among the samples", MANIFOLD, balls),
        "density": ("density", "real neighbourhoods a sample lies in, over k", DENSITY, crowd),
        "coverage": ("coverage", "real neighbourhoods with a sample inside", DENSITY, crowd),
    }
    return [
        setting.metric(key, (title, meaning), extractor, real, source, settings)
        for key, (title, meaning, source, settings) in said.items()
    ]


def against_teacher(setting: Setting, extractor: tuple[str, str | None]) -> MetricProtocol:
    """The distance to the teacher's samples from other noise, in any features."""
    words = ("to teacher", "Frechet distance; in the teacher's own row the floor")
    return setting.metric("distance_to_teacher", words, extractor, setting.yardstick, FRECHET)


def against_pairs(setting: Setting) -> list[MetricProtocol]:
    """What is measured against the teacher's samples from the same noise, pixel by pixel."""
    window = ssim_window(setting.shape)
    said: dict[str, tuple[str, str, str, dict[str, float]]] = {
        "rms_to_teacher": ("RMS", "root mean square difference", "", {}),
        "psnr_to_teacher": (
            "PSNR",
            "peak signal-to-noise ratio in dB, mean over images",
            "torchmetrics",
            {"range": RANGE, "most": MOST_PSNR},
        ),
    }
    if window is not None:
        said["ssim_to_teacher"] = (
            "SSIM",
            "structural similarity, mean over images",
            "Wang et al. 2004; torchmetrics",
            {"window": float(window)},
        )
    return [
        setting.metric(key, (title, meaning), (PIXELS, None), setting.paired, source, settings)
        for key, (title, meaning, source, settings) in said.items()
    ]


def own_metrics(
    setting: Setting,
    classifier: tuple[str, str | None],
    counts: Mapping[str, int],
    *,
    reads_prompts: bool,
) -> tuple[MetricProtocol, ...]:
    """The protocols of a report on data with classes; `counts` are real images by split."""
    real = setting.real("heldout", counts["heldout"])
    found = against_real(setting, classifier, real, "to real")
    found.append(against_teacher(setting, classifier))
    score = "Salimans et al. 2016, arXiv:1606.03498, with this classifier"
    for key, words, source in (
        ("inception_score", ("score", "inception-type score"), score),
        ("class_accuracy", ("accuracy", "seen as the class asked for"), ""),
        ("accuracy_by_class", ("worst class", "seen as asked, class by class; the least"), ""),
    ):
        asked = setting.asked("the class asked for")
        found.append(setting.metric(key, words, classifier, asked, source))
    found += against_pairs(setting)
    nearest = ("nearest", "mean RMS distance to the nearest; smaller than the real row's is copied")
    training = setting.real("train", counts["train"])
    found.append(setting.metric("nearest_training", nearest, (PIXELS, None), training, ""))
    if reads_prompts:
        words = ("as prompted", "digit by the classifier, colours by the pixels")
        asked = setting.asked("the prompt")
        found.append(setting.metric("prompt_accuracy", words, classifier, asked, ""))
    return tuple(found)
