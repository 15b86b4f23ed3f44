"""The text summary agrees with the numbers of the report."""

from pathlib import Path

import pytest

from pipeline.evaluation.documents import (
    Agreement,
    AgreementProtocol,
    AgreementReport,
    AgreementRow,
    ExtractorMetrics,
    ExtractorRow,
    Protocol,
    Report,
    Row,
    SampleSpec,
    read_report,
)
from pipeline.evaluation.reports.report_summary import (
    StudentVerdict,
    join_numbers,
    passing_students,
    summarise_verdicts,
    write_report,
)
from pipeline.evaluation.scores import ExtractorScores, Scores
from pipeline.evaluation.verdicts.checks import Check, Verdict

PROTOCOL = Protocol(
    features="features",
    classifier_sha256="ab" * 32,
    classifier_parameters=10,
    classifier_heldout_accuracy=0.99,
    num_samples=50,
    num_heldout=60,
    num_training=70,
    seed=1,
    noise_floor_seed=2,
    reference_steps=8,
)


def cell(role: str, steps: int, w: float) -> SampleSpec:
    number = 1 if role == "student" else None
    return SampleSpec(
        role=role, bundle="b", digest="d", round=number, sampler="ddim", steps=steps, w=w, seed=1
    )


def row(role: str, steps: int, w: float, distance: float) -> Row:
    scores = Scores(
        distance_to_real=distance,
        distance_to_real_interval=(distance, distance),
        relative_distance=distance / 2 + 0.05,
        relative_distance_interval=(distance / 2 - 0.05, distance / 2 + 0.15),
        distance_to_teacher=None,
        distance_to_teacher_interval=None,
        class_accuracy=1.0,
        inception_score=9.0,
        precision=1.0,
        recall=1.0,
        rms_to_teacher=0.1,
        nearest_training=0.2,
    )
    evaluations = steps if role == "student" else 2 * steps
    return Row(cell=cell(role, steps, w), evaluations=evaluations, scores=scores)


def verdict(
    steps: int,
    w: float,
    recall: float,
    judged: str = "student",
    interval: tuple[float, float] | None = None,
) -> Verdict:
    title = cell("student", steps, w).title
    checks = (
        Check(name="recall", value=recall, least=0.9, interval=interval),
        Check(name="RMS", value=0.1, most=0.15),
    )
    return Verdict(judged=judged, title=title, w=w, floor_factor=None, checks=checks)


def report(*verdicts: Verdict) -> Report:
    rows = [
        made
        for w in (1.0, 3.0)
        for made in (
            row("teacher", 8, w, 2.0),
            row("student", 4, w, 2.2),
            row("student", 1, w, 3.0),
        )
    ]
    return Report(
        run="r",
        protocol=PROTOCOL,
        class_names=("0",),
        real=rows[0].scores,
        rows=tuple(rows),
        verdicts=verdicts,
        skipped=(),
        pictures=(),
    )


def test_students_that_pass_come_first() -> None:
    found = summarise_verdicts(
        report(
            *(verdict(4, 1.0, 0.95), verdict(4, 3.0, 0.93), verdict(1, 1.0, 0.5)),
            *(verdict(1, 3.0, 0.92), verdict(4, 1.0, 0.0, "class means")),
        )
    )
    assert found.sentences == (
        "Every check passes for: student, 4 steps (every w); student, 1 step (w = 3).",
        "The 1-step student needs 1 network evaluation per sample, the teacher 16. Its distance to "
        "real images is 1.55 (1.45 to 1.65) and 1.55 (1.45 to 1.65) times the teacher's at w = 1 "
        "and 3.",
        "The checks reject 1 of 1 negative control (samples known to be bad).",
    )
    assert [title for title, _ in found.rows] == ["student, 4 steps", "student, 1 step"]
    (_, four), (_, one) = found.rows
    assert [each.answer for each in (*four, *one)] == ["yes", "yes", "no", "yes"]
    assert one[0].details == ("recall 0.5, required at least 0.9",)
    assert "recall at least 0.9, RMS at most 0.15" in found.bounds


def test_samples_that_cannot_tell_are_named_with_the_number_that_would() -> None:
    undecided = [verdict(4, w, 0.93, interval=(0.83, 1.03)) for w in (1.0, 3.0)]
    found = summarise_verdicts(report(*undecided, verdict(1, 1.0, 0.95), verdict(1, 3.0, 0.5)))
    assert found.sentences[:2] == (
        "Every check passes for: student, 1 step (w = 1).",
        # .03 from the bound, known to .1, with 50 samples
        "50 samples cannot tell for: student, 4 steps (every w); about 560 samples would tell.",
    )
    assert found.failures[0] == (
        "w = 1, student, 4 steps: recall 0.93 (0.83 to 1.03), required at least 0.9: 50 samples "
        "cannot tell, about 560 samples would tell"
    )
    assert [each.answer for each in found.rows[0][1]] == ["cannot tell"] * 2
    assert passing_students(report(*undecided)) == []
    only = summarise_verdicts(report(*undecided))
    assert only.sentences[0] == "No student is shown to pass every check at any guidance weight."


def test_notes_on_the_data_come_before_the_figures(tmp_path: Path) -> None:
    plain = report(verdict(4, 1.0, 0.95))
    write_report(plain, tmp_path)
    assert "data_notes" not in (tmp_path / "report.json").read_text()
    assert "## Data" not in (tmp_path / "report.md").read_text()
    write_report(plain.model_copy(update={"data_notes": ("2 images are odd.",)}), tmp_path)
    assert read_report(tmp_path).data_notes == ("2 images are odd.",)
    text = (tmp_path / "report.md").read_text()
    assert "## Data\n\n- 2 images are odd.\n" in text
    assert text.index("## Data") < text.index("## Verdicts")


def test_no_passing_student_is_stated() -> None:
    found = summarise_verdicts(report(*(verdict(n, w, 0.1) for n in (4, 1) for w in (1.0, 3.0))))
    assert found.sentences[0].startswith("No student passes every check")


def test_verdicts_are_void_if_a_control_passes(
    tmp_path: Path,
) -> None:
    students = [verdict(n, w, 0.95) for n in (4, 1) for w in (1.0, 3.0)]
    bad = verdict(1, 3.0, 0.95, "class means").model_copy(update={"title": "class means"})
    void = report(*students, verdict(1, 1.0, 0.1, "class means"), bad)
    said = summarise_verdicts(void)
    assert "void" in said.sentences[0]
    assert "(class means, at w = 3)" in said.sentences[0]
    assert "Every check passes" not in " ".join(said.sentences)
    assert "reject 1 of 2" in said.sentences[-1]
    assert [each.answer for _, cells in said.rows for each in cells] == [None] * 4
    write_report(void, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.splitlines()[2] == f"**{said.sentences[0]}**"
    lines = text.split("## Verdicts")[1].split("Bounds")[0].splitlines()
    ends = [line.split("|")[-2].strip() for line in lines if line.startswith(("| 1 ", "| 3 "))]
    assert ends == ["void"] * 4 + ["fail", "pass"]


def test_without_classes_only_agreement_is_claimed() -> None:
    def at(role: str, steps: int, rms: float) -> AgreementRow:
        scores = Agreement(rms_to_teacher=rms, rms_to_teacher_interval=(rms, rms))
        return AgreementRow(cell=cell(role, steps, 2.0), evaluations=steps, scores=scores)

    found = summarise_verdicts(
        AgreementReport(
            run="r",
            protocol=AgreementProtocol(
                num_samples=4, seed=1, noise_floor_seed=2, reference_steps=8
            ),
            rows=(at("noise_floor", 8, 0.9), at("student", 2, 0.12), at("student", 1, 0.18)),
            pictures=(),
        )
    )
    assert found.sentences[0] == (
        "The 1-step student differs from the teacher's sample from the same noise by RMS 0.18 "
        "(0.18 to 0.18) at w = 2; unrelated samples of the teacher differ by 0.90."
    )
    assert [each.answer for _, cells in found.rows for each in cells] == [None, None]


def test_without_classes_students_have_verdicts() -> None:
    def at(role: str, steps: int, rms: float) -> AgreementRow:
        scores = Agreement(rms_to_teacher=rms, rms_to_teacher_interval=(0.9 * rms, 1.1 * rms))
        return AgreementRow(cell=cell(role, steps, 2.0), evaluations=steps, scores=scores)

    def panel_row(role: str, steps: int, distance: float) -> ExtractorRow:
        scores = ExtractorScores(
            distance_to_real=distance, distance_to_real_interval=(distance - 1, distance + 1)
        )
        return ExtractorRow(cell=cell(role, steps, 2.0), evaluations=steps, scores=scores)

    def judged(steps: int, ratio: float, rms: float, who: str = "student") -> Verdict:
        checks = (
            Check(name="distance", value=ratio, most=1.1, interval=(ratio - 0.04, ratio + 0.04)),
            Check(name="RMS", value=rms, most=0.15),
            Check(name="effective w", value=2.0, least=1.8, most=2.2),
        )
        title = cell("student", steps, 2.0).title
        return Verdict(judged=who, title=title, w=2.0, floor_factor=None, checks=checks)

    rows = (("teacher", 8, 10.0), ("student", 2, 10.5), ("student", 1, 12.0))
    panel = ExtractorMetrics(
        extractor="InceptionV3",
        kind="inception",
        metrics=(),
        rows=tuple(panel_row(*each) for each in rows),
    )
    report = AgreementReport(
        run="r",
        protocol=AgreementProtocol(num_samples=4, seed=1, noise_floor_seed=2, reference_steps=8),
        rows=(at("noise_floor", 8, 0.9), at("student", 2, 0.12), at("student", 1, 0.18)),
        verdicts=(judged(2, 1.05, 0.12), judged(1, 1.2, 0.18), judged(2, 9.0, 0.5, "mean image")),
        pictures=(),
        panels=(panel,),
    )
    found = summarise_verdicts(report)
    assert found.sentences[0] == "Every check passes for: student, 2 steps (w = 2)."
    assert "reject 1 of 1" in found.sentences[2]
    assert found.sentences[3].endswith("in the features of InceptionV3.")
    (_, (two,)), (_, (one,)) = found.rows
    assert two == StudentVerdict("yes", ("all checks pass", "distance 1.05 (1.01 to 1.09)"))
    assert one.answer == "no"
    assert one.details == (
        "distance 1.2 (1.16 to 1.24), required at most 1.1",
        "RMS 0.18, required at most 0.15",
    )
    assert "The effective w" in found.bounds
    assert "within 10% of w" in found.bounds
    assert "relative to the teacher's in the features of InceptionV3" in found.bounds
    assert [each.steps for each in passing_students(report)] == [2]
    # no check applies to a student with unpaired samples, which the bounds explain
    drawn = {"ladder": "stochastic", "sampler": "stochastic"}
    paired = at("student", 2, 0.5)
    noisy = paired.model_copy(update={"cell": paired.cell.model_copy(update=drawn)})
    both = summarise_verdicts(report.model_copy(update={"rows": (*report.rows, noisy)}))
    assert both.rows[-1] == (
        "student, 2 steps, stochastic",
        (StudentVerdict(None, ("no verdict",)),),
    )
    assert "RMS is not checked for stochastic students" in both.bounds


@pytest.mark.parametrize(
    ("values", "said"), [([1], "1"), ([1, 3], "1 and 3"), ([0.5, 3, 7], "0.5, 3 and 7")]
)
def test_numbers_are_listed_as_in_a_sentence(values: list[float | int], said: str) -> None:
    assert join_numbers(values) == said
