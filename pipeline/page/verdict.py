"""The answer in words: which student is good enough, at which guidance weight, and what is not."""

from collections.abc import Sequence

from pipeline.evaluation.agreement import AgreementReport
from pipeline.evaluation.fidelity import Check, Verdict
from pipeline.evaluation.protocol import Cell, Report, Row
from pipeline.page.content import Finding, Judgement
from pipeline.wording import counted

AnyReport = Report | AgreementReport


def judge(report: AnyReport) -> Judgement:
    """What the report says of its students."""
    if isinstance(report, AgreementReport):
        return _agreement(report)
    students = [verdict for verdict in report.verdicts if verdict.judged == "student"]
    titles = list(dict.fromkeys(verdict.title for verdict in students))
    weights = tuple(report.weights)
    by_place = {(verdict.title, verdict.w): verdict for verdict in students}
    rows = tuple(
        (title, tuple(_cell(by_place[title, w]) for w in weights if (title, w) in by_place))
        for title in titles
    )
    return Judgement(
        sentences=(_headline(students, titles), _cost(report), _controls(report)),
        weights=weights,
        rows=rows,
        bounds=_bounds(students),
    )


def _cell(verdict: Verdict) -> Finding:
    missed = [check for check in verdict.checks if not check.passed]
    said = [f"{check.name} {check.value:.3g}, asked {_asked(check)}" for check in missed]
    return Finding(verdict.passed, tuple(said) or ("every check holds",))


def _asked(check: Check) -> str:
    if check.least is not None and check.most is not None:
        return f"{check.least:g} to {check.most:g}"
    return f"at most {check.most:g}" if check.most is not None else f"at least {check.least:g}"


def _headline(students: Sequence[Verdict], titles: Sequence[str]) -> str:
    good = {title: [v.w for v in students if v.title == title and v.passed] for title in titles}
    said = [f"the {title} (w = {listed(weights)})" for title, weights in good.items() if weights]
    if not said:
        return "No student is as good as its teacher by every check at any guidance weight."
    return f"As good as the teacher by every check: {'; '.join(said)}."


def _cost(report: Report) -> str:
    """The student of the fewest steps against the teacher, in evaluations and in distance."""
    students = [row for row in report.rows if row.cell.role == "student"]
    fewest = min(row.cell.steps for row in students)
    last = [row for row in students if row.cell.steps == fewest]
    ratios = [
        row.scores.distance_to_real / _teacher(report, row).scores.distance_to_real for row in last
    ]
    against = _teacher(report, last[-1]).evaluations
    asked = "once" if last[0].evaluations == 1 else f"{last[0].evaluations} times"
    return (
        f"The {_who(last[0].cell)} asks its network {asked} a "
        f"sample where the teacher asks {against} times; its distance to real images is "
        f"{listed(ratios, '.2f')} times the teacher's at w = {listed([r.cell.w for r in last])}."
    )


def _who(cell: Cell) -> str:
    return f"student of {counted(cell.steps, 'step')}"


def _teacher(report: Report, row: Row) -> Row:
    return next(each for each in report.at(row.cell.w) if each.cell.role == "teacher")


def _controls(report: Report) -> str:
    controls = [verdict for verdict in report.verdicts if verdict.judged != "student"]
    caught = sum(not verdict.passed for verdict in controls)
    return (
        f"The checks were put to {counted(len(controls), 'set')} of samples that are bad on "
        f"purpose as well, and caught {caught} of them."
    )


def _bounds(students: Sequence[Verdict]) -> str:
    checks = {check.name: check for verdict in students for check in verdict.checks}
    said = [f"{name} {_asked(check)}" for name, check in checks.items() if name != "follows w"]
    return (
        f"Asked: {', '.join(said)}, and that samples follow w. All but RMS are ratios to the "
        "teacher's own; at w = 0 the bounds are wider where errors weigh more."
    )


def _agreement(report: AgreementReport) -> Judgement:
    weights = tuple(dict.fromkeys(row.cell.w for row in report.rows))
    students = [row for row in report.rows if row.cell.role == "student"]
    titles = list(dict.fromkeys(row.cell.title for row in students))
    unrelated = [r.scores.rms_to_teacher for r in report.rows if r.cell.role == "yardstick"]
    rows = tuple(
        (
            title,
            tuple(
                Finding(None, (f"RMS {row.scores.rms_to_teacher:.3f}",))
                for row in students
                if row.cell.title == title
            ),
        )
        for title in titles
    )
    last = [row for row in students if row.cell.title == titles[-1]]
    found = listed([row.scores.rms_to_teacher for row in last], ".2f")
    sentence = (
        f"The {_who(last[0].cell)} differs from its teacher's sample of the same noise by RMS "
        f"{found} at w = {listed(weights)}; unrelated samples of the teacher by "
        f"{listed(unrelated, '.2f')}."
    )
    said = "The data have no classes, so nothing is said of real images."
    return Judgement((sentence, said), weights, rows, "Pixels in [-1, 1].")


def listed(values: Sequence[float | int], form: str = "g") -> str:
    """Numbers as a sentence has them: "1, 3 and 7"."""
    words = [format(value, form) for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
