"""Scores of one sample set."""

from pipeline.documents import Document

Range = tuple[float, float]
"""Low and high of a 95 % bootstrap interval."""


class ExtractorScores(Document):
    """Scores in the features of one extractor; None where a metric does not apply.

    Fields as in `Scores`; `clip_score` is 100 times the cosine of image and prompt, at least 0.
    """

    distance_to_real: float | None = None
    distance_to_real_interval: Range | None = None
    relative_distance: float | None = None
    relative_distance_interval: Range | None = None
    kid_to_real: float | None = None
    kid_to_real_interval: Range | None = None
    precision: float | None = None
    precision_interval: Range | None = None
    recall: float | None = None
    recall_interval: Range | None = None
    density: float | None = None
    density_interval: Range | None = None
    coverage: float | None = None
    coverage_interval: Range | None = None
    distance_to_teacher: float | None = None
    distance_to_teacher_interval: Range | None = None
    clip_score: float | None = None
    clip_score_interval: Range | None = None


class Scores(Document):
    """Scores of one sample set; None where a metric does not apply.

    A field ending in `_interval` is the 95 % bootstrap interval of the field before it. Older
    reports lack some of them. The report's `metrics` hold the protocol of each.

    Attributes:
        distance_to_real: Frechet distance to the held-out real images, in classifier features.
        distance_to_teacher: Frechet distance to the teacher's samples from other noise.
        relative_distance: 1 + the difference of distance_to_real and the teacher's, over the
            teacher's without the bias of the number of samples; 1 for the teacher. The interval is
            that of paired samples.
        effective_w: guidance weight at which the teacher's samples match these samples best; None
            with a single w.
        nearest_teacher_w: of earlier reports; guidance weight whose teacher samples are nearest.
        kid_to_real: kernel distance to the held-out real images, in classifier features; can be
            negative by chance.
        class_accuracy: share of samples classified as their conditioning class.
        accuracy_by_class: class accuracy within each class, by class name.
        inception_score: inception-type score, from 1 to the number of classes.
        precision: share of samples that lie among the held-out real images.
        recall: share of held-out real images that lie among the samples.
        density: number of real images' neighbourhoods around a sample, over the expected number.
        coverage: share of held-out real images with a sample in their neighbourhood.
        rms_to_teacher: root mean square difference to the teacher's sample from the same noise.
        psnr_to_teacher: peak signal-to-noise ratio to that sample in dB, mean over images.
        ssim_to_teacher: structural similarity to that sample, mean over images; None for images too
            small for it.
        prompt_accuracy: share of samples that match a part of the prompt, by part, and "all" parts;
            None for captions that cannot be parsed.
        nearest_training: mean RMS distance to the nearest training image; smaller than that of the
            real row indicates copying.
    """

    distance_to_real: float
    distance_to_real_interval: Range
    distance_to_teacher: float | None = None
    distance_to_teacher_interval: Range | None = None
    relative_distance: float | None = None
    relative_distance_interval: Range | None = None
    effective_w: float | None = None
    effective_w_interval: Range | None = None
    nearest_teacher_w: float | None = None
    kid_to_real: float | None = None
    kid_to_real_interval: Range | None = None
    class_accuracy: float
    class_accuracy_interval: Range | None = None
    accuracy_by_class: dict[str, float] | None = None
    accuracy_by_class_interval: dict[str, Range] | None = None
    inception_score: float
    inception_score_interval: Range | None = None
    precision: float
    precision_interval: Range | None = None
    recall: float
    recall_interval: Range | None = None
    density: float | None = None
    density_interval: Range | None = None
    coverage: float | None = None
    coverage_interval: Range | None = None
    rms_to_teacher: float | None = None
    rms_to_teacher_interval: Range | None = None
    psnr_to_teacher: float | None = None
    psnr_to_teacher_interval: Range | None = None
    ssim_to_teacher: float | None = None
    ssim_to_teacher_interval: Range | None = None
    prompt_accuracy: dict[str, float] | None = None
    prompt_accuracy_interval: dict[str, Range] | None = None
    nearest_training: float
    nearest_training_interval: Range | None = None
