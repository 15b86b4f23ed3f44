"""What is measured on a set of samples."""

from pipeline.documents import Document


class Scores(Document):
    """What is measured on a set of samples; None where a comparison has no meaning.

    Attributes:
        distance_to_real: Frechet distance to the held-out real images, in classifier features.
        distance_to_real_interval: its 95 % bootstrap interval.
        distance_to_teacher: Frechet distance to the teacher's own samples from other noise.
        distance_to_teacher_interval: its 95 % bootstrap interval.
        nearest_teacher_w: of the guidance weights that are compared, the one whose teacher these
            samples are nearest to; another than their own says that w was not followed.
        class_accuracy: share that the classifier takes for the class asked for.
        inception_score: inception-type score, from 1 to the number of classes.
        inception_score_interval: its 95 % bootstrap interval.
        precision: share of samples that lie among the held-out real images.
        recall: share of held-out real images that lie among the samples.
        rms_to_teacher: root mean square difference to the teacher's sample from the same noise.
        rms_to_teacher_interval: its 95 % bootstrap interval.
        prompt_accuracy: share of samples in which one part of the prompt is seen as it was said, by
            part, and "all" of them; None for data whose captions nobody can read back.
        nearest_training: mean distance to the nearest training image, RMS over its values; smaller
            than the real row's means copying.
    """

    distance_to_real: float
    distance_to_real_interval: tuple[float, float]
    distance_to_teacher: float | None
    distance_to_teacher_interval: tuple[float, float] | None
    nearest_teacher_w: float | None = None
    class_accuracy: float
    inception_score: float
    inception_score_interval: tuple[float, float] | None = None
    precision: float
    recall: float
    rms_to_teacher: float | None
    rms_to_teacher_interval: tuple[float, float] | None = None
    prompt_accuracy: dict[str, float] | None = None
    nearest_training: float
