"""Feature extraction of the evaluation stage, in this process."""

from pathlib import Path

from pipeline.evaluation.candidates import ClassifierResults, SampleSet
from pipeline.evaluation.dataset_images import class_means, real_images, rows_with_class_counts
from pipeline.evaluation.features.classifier import Classifier
from pipeline.sampling.conditions import choose_conditions


def read_all(
    data: Path, classifier: Path, sets: tuple[SampleSet, ...], num_samples: int
) -> ClassifierResults:
    seer = Classifier(classifier)
    labels = choose_conditions(data, num_samples).labels
    training, training_labels = real_images(data, "train")
    found = {each.cell: seer.read(each.load()) for each in sets}
    return ClassifierResults(
        classifier=classifier,
        of=found.__getitem__,
        heldout=seer.read(real_images(data, "heldout")[0]),
        training=seer.read(training[rows_with_class_counts(labels, training_labels)]),
        means=seer.read(class_means(training, training_labels)[labels]),
    )
