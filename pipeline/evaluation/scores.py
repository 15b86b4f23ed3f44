"""What is measured on a set of samples."""

from pipeline.documents import Document

Range = tuple[float, float]
"""Low and high of a 95 % bootstrap interval."""


class PanelScores(Document):
    """What is measured in the features of an extractor; None where a comparison has no meaning.

    As in `Scores`; `clip_score` is 100 times the cosine of image and prompt, at least 0.
    """

    distance_to_real: float | None = None
    distance_to_real_interval: Range | None = None
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
    """What is measured on a set of samples; None where a comparison has no meaning.

    Whatever ends in `_interval` is the 95 % bootstrap interval of the number before it. How each is
    measured is told by the report's `metrics`.

    Attributes:
        distance_to_real: Frechet distance to the held-out real images, in classifier features.
        distance_to_teacher: Frechet distance to the teacher's own samples from other noise.
        nearest_teacher_w: of the guidance weights that are compared, the one whose teacher these
            samples are nearest to; another than their own says that w was not followed.
        kid_to_real: kernel distance to the held-out real images, in classifier features; below 0 by
            chance where there is none.
        class_accuracy: share that the classifier takes for the class asked for.
        accuracy_by_class: the same share among the samples of each class, by its name.
        inception_score: inception-type score, from 1 to the number of classes.
        precision: share of samples that lie among the held-out real images.
        recall: share of held-out real images that lie among the samples.
        density: neighbourhoods of real images that a sample lies in, over the number expected.
        coverage: share of held-out real images with a sample in their neighbourhood.
        rms_to_teacher: root mean square difference to the teacher's sample from the same noise.
        psnr_to_teacher: peak signal-to-noise ratio to that sample in dB, mean over images.
        ssim_to_teacher: structural similarity to that sample, mean over images; None for images too
            small for it.
        prompt_accuracy: share of samples in which one part of the prompt is seen as it was said, by
            part, and "all" of them; None for data whose captions nobody can read back.
        nearest_training: mean distance to the nearest training image, RMS over its values; smaller
            than the real row's means copying.
    """

    distance_to_real: float
    distance_to_real_interval: Range
    distance_to_teacher: float | None = None
    distance_to_teacher_interval: Range | None = None
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
