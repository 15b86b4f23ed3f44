"""Numbers of different protocols never share a column."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.evaluation.metric_protocol import MetricProtocol, check_comparable
from pipeline.evaluation.metric_specs import (
    ProtocolContext,
    classifier_metrics,
    paired_metrics,
)
from pipeline.evaluation.tables import (
    TableLine,
    class_columns,
    filled_table,
    metric_columns,
    protocol_table,
)

SETTING = ProtocolContext(
    num_samples=500,
    seed=1,
    noise_floor_seed=2,
    reference_steps=64,
    resamples=100,
    data_sha256="d" * 64,
    shape=(8, 8, 1),
    teacher_sha256="c" * 64,
)
LINE = TableLine("student", "1", {"distance_to_real": 1.5, "distance_to_real_interval": (1.0, 2.0)})


def metric_table(metrics: Sequence[MetricProtocol], lines: Sequence[TableLine]) -> str:
    return filled_table(metric_columns(metrics, lines), lines, None).markdown


def class_table(lines: Sequence[TableLine]) -> str:
    return filled_table(class_columns(lines), lines, None).markdown


def protocol(
    metric: str, sha256: str = "a" * 64, heldout: int = 599, **changes: object
) -> MetricProtocol:
    """Return a protocol of a report with changed settings."""
    counts = {"heldout": heldout, "train": 1198}
    setting = replace(SETTING, **changes)
    found = classifier_metrics(setting, ("it", sha256), counts, reads_prompts=True)
    return next(each for each in found if each.metric == metric)


DISTANCE = protocol("distance_to_real")


def test_a_column_is_of_one_protocol() -> None:
    words = {"title": "FD", "meaning": "the same", "source": "elsewhere"}
    worded = DISTANCE.model_copy(update=words)  # no part of a protocol
    text = metric_table([DISTANCE, worded], [LINE])
    assert text.splitlines()[0] == "| network | evaluations | to real |"
    assert text.splitlines()[2] == "| student | 1 | 1.500 (1.000 to 2.000) |"
    with pytest.raises(DataError, match="settings"):
        metric_table([DISTANCE, DISTANCE.model_copy(update={"settings": {"k": 4.0}})], [LINE])


TO_TEACHER = ("rms_to_teacher", "psnr_to_teacher", "ssim_to_teacher", "distance_to_teacher")


@pytest.mark.parametrize(
    ("metrics", "changes", "named"),
    [
        (("distance_to_real",), {"sha256": "b" * 64}, "extractor_sha256.* a+.* b+"),
        (("distance_to_real",), {"heldout": 600}, r"reference\.count.* 599.* 600"),
        (("distance_to_real",), {"num_samples": 5000}, "num_samples.* 500.* 5000"),
        (("distance_to_real",), {"seed": 7}, "seed.* 1.* 7"),
        (("distance_to_real",), {"resamples": 9}, "resamples.* 100.* 9"),
        (TO_TEACHER, {"reference_steps": 32}, r"\(reference\.steps[^;]* 64[^;]* 32\)"),
        (
            TO_TEACHER,
            {"teacher_sha256": "b" * 64},
            r"\(reference\.teacher_sha256[^;]* c+[^;]* b+\)",
        ),
        (TO_TEACHER, {"data_sha256": "b" * 64}, r"\(reference\.data_sha256[^;]* d+[^;]* b+\)"),
        (TO_TEACHER, {"shape": (8, 8, 3)}, r"\(shape[^;]* \[8, 8, 1\][^;]* \[8, 8, 3\]\)"),
    ],
)
def test_two_protocols_do_not_share_a_column(
    metrics: tuple[str, ...], changes: dict[str, Any], named: str
) -> None:
    for metric in metrics:
        this, other = protocol(metric), protocol(metric, **changes)
        with pytest.raises(DataError, match=named):
            metric_table([this, other], [LINE])
        assert this.identity != other.identity
        check_comparable([this, protocol(metric)])


@pytest.mark.parametrize("metric", ["distance_to_real", "recall", "class_accuracy"])
def test_numbers_against_real_images_do_not_depend_on_the_teacher(metric: str) -> None:
    other = protocol(metric, reference_steps=32, teacher_sha256="b" * 64)
    check_comparable([protocol(metric), other])
    with pytest.raises(DataError, match=r"reference\.data_sha256.* d+.* b+"):
        check_comparable([protocol(metric), protocol(metric, data_sha256="b" * 64)])


def test_every_metric_has_a_protocol() -> None:
    counts = {"heldout": 599, "train": 1198}
    found = classifier_metrics(SETTING, ("the classifier", "a" * 64), counts, reads_prompts=True)
    assert len({metric.identity for metric in found}) == len(found)
    by_name = {metric.metric: metric for metric in found}
    assert by_name["kid_to_real"].reference.split == "heldout"
    assert by_name["kid_to_real"].reference.data_sha256 == "d" * 64
    assert by_name["distance_to_teacher"].reference.seed == 2
    assert by_name["ssim_to_teacher"].reference.seed == 1
    assert by_name["ssim_to_teacher"].settings == {"window": 5.0}
    assert by_name["rms_to_teacher"].extractor_sha256 is None
    assert by_name["density"].settings == {"k": 5.0}
    text = protocol_table(found).markdown
    assert all(f"| {metric.identity} |" in text for metric in found)
    assert "| 599 held-out real images |" in text
    # images too small for SSIM have no column of it
    small = paired_metrics(replace(SETTING, shape=(1, 1, 2)))
    assert [metric.title for metric in small] == ["RMS", "PSNR"]


def test_parts_of_a_prompt_have_separate_columns() -> None:
    prompts = [protocol("prompt_accuracy")]
    scores = {
        "prompt_accuracy": {"ink": 0.5, "all": 0.25},
        "prompt_accuracy_interval": {"ink": (0.4, 0.6), "all": (0.2, 0.3)},
    }
    lines = metric_table(prompts, [TableLine("student", "1", scores), LINE]).splitlines()
    assert lines[0] == "| network | evaluations | ink | all |"
    assert lines[2:] == [
        "| student | 1 | 50.0% (40.0% to 60.0%) | 25.0% (20.0% to 30.0%) |",
        "| student | 1 | - | - |",
    ]


def by_class(shares: dict[str, float]) -> TableLine:
    intervals = {name: (share - 0.1, share) for name, share in shares.items()}
    found = {"accuracy_by_class": shares, "accuracy_by_class_interval": intervals}
    return TableLine("student", "1", found)


def test_the_class_column_names_the_worst_class() -> None:
    lines = [by_class({"cat": 0.9, "a|b": 0.5, "dog": 0.5}), LINE]
    assert metric_table([protocol("accuracy_by_class")], lines).splitlines() == [
        "| network | evaluations | worst class |",
        "|---|--:|:-:|",
        r"| student | 1 | a\|b: 50.0% (40.0% to 50.0%) |",
        "| student | 1 | - |",
    ]
    assert class_table(lines).splitlines()[0] == r"| network | evaluations | cat | a\|b | dog |"
    assert class_table(lines).splitlines()[2] == (
        "| student | 1 | 90.0% (80.0% to 90.0%) | 50.0% (40.0% to 50.0%) | 50.0% (40.0% to 50.0%) |"
    )


def test_too_many_classes_have_no_table() -> None:
    few = by_class({str(label): 0.5 for label in range(20)})
    many = by_class({str(label): 0.5 for label in range(21)})
    assert class_table([few]).count("50.0% (") == 20
    assert class_columns([many]) == class_columns([LINE]) == []
