"""Synthetic page content: user text, charts, and distinguishable images."""

from typing import Literal

import numpy as np

from pipeline.evaluation.reports.report_summary import StudentVerdict, VerdictTable
from pipeline.evaluation.tables import Table
from pipeline.page.charts import training_chart
from pipeline.page.sample_images import _png
from pipeline.page.view_model import (
    Chart,
    Decision,
    Encoders,
    Page,
    Picture,
    RoundCost,
    SampleGrids,
    Usage,
)

WEIGHTS = (1.0, 2.5)

WHY = "distance 23.7 times the noise floor at w = 0 (at most 2); and 5 more"
DECIDED: tuple[tuple[str, Literal["pass", "person", "fail"], str, str], ...] = (
    ("round 0: guidance, any w in one evaluation", "pass", "passed", ""),
    ("round 1: 2 -> 1 steps", "fail", "failed", WHY),
    ("round 1: 2 -> 1 steps, extended 1", "person", "approved by a person", WHY),
)


def picture(title: str, evaluations: int, *, is_student: bool, shade: float) -> Picture:
    """Return three rows of four samples of one shade in [-1, 1], plus noise."""
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (12, 8, 8, 3))
    images = (noise + shade).clip(-1, 1).astype(np.float32)
    source = _png(images, [list(range(at, at + 4)) for at in (0, 4, 8)])
    return Picture(title, evaluations, is_student=is_student, source=source)


def look(w: float, run: str) -> SampleGrids:
    teacher = picture("teacher, DDIM, 8 steps", 16, is_student=False, shade=0.8)
    four = picture(f"{run}, 4 steps", 4, is_student=True, shade=0.0)
    one = picture(f"{run}, 1 step", 1, is_student=True, shade=-0.8)
    cheap = picture("teacher, DDIM, 1 step", 2, is_student=False, shade=0.3)
    return SampleGrids(w, (run, "b", "c"), teacher, (four, one, cheap))


def numbers(w: float, run: str) -> Table:
    """Return a table with more columns than fit on a phone."""
    heads = (
        "network",
        "evaluations",
        "to real",
        "KID",
        "precision",
        "recall",
        "density",
        "coverage",
        "PSNR",
        "SSIM",
    )
    cells = tuple(f"{0.1 * at:.3f} (0.000 to 1.000)" for at, _ in enumerate(heads[2:]))
    rows = tuple((f"{run}, {steps} steps", str(steps), *cells) for steps in (4, 2))
    return Table(w, "", ("network", "evaluations", *heads), rows)


def encoders(run: str) -> Encoders:
    chart = training_chart({run: [{"update": 1.0, "train/loss": 1.0}]})
    assert chart is not None
    drawn = Chart("round-trip", None, run, chart.figure, "encoders")
    shown = look(1.0, run).teacher.source
    return Encoders(run, (drawn,), (numbers(1.0, run),), ((1.0, shown),), run)


def page(run: str) -> Page:
    lines = [{"update": float(at), "train/loss": 1 / at} for at in range(1, 30)]
    chart = training_chart({run: lines})
    assert chart is not None
    curves = tuple(
        Chart(f"curve-{w:g}", w, f"At w = {w:g}", chart.figure, "curve") for w in WEIGHTS
    )
    missed = StudentVerdict("no", (f"recall 0.5, required at least 0.9 ({run})",))
    return Page(
        run=run,
        what=run,
        facts=(("1", run), ("128 x", "fewer network evaluations than the teacher")),
        accepted=(f"A person approved the student of {run}.",),
        data_notes=("2 of 40 images have transparent pixels.",),
        judgement=VerdictTable(
            (run, run), WEIGHTS, ((run, (missed, StudentVerdict("yes", ("all",)))),), run
        ),
        weights=WEIGHTS,
        charts=(*curves, chart),
        looks=tuple(look(w, run) for w in WEIGHTS),
        pictures=(),
        tables=tuple(numbers(w, run) for w in WEIGHTS),
        by_class=tuple(numbers(w, run) for w in WEIGHTS),
        made=(Table(None, "", ("column", "meaning"), (("KID", run),)),),
        encoders=encoders(run),
        costs=(
            RoundCost(run, 1200, 4_000_000, 137_000_000, 61.0, None, money=0.61),
            *(
                RoundCost(
                    *(f"{run}, {at}", 600, 96_000, 0, None, 33.0),
                    *(Decision(mark, words, why), 0.33),
                )
                for at, mark, words, why in DECIDED
            ),
        ),
        total_s=3700.0,
        money=37.0,
        price=run,
        lineage=((run, "ab" * 32, run),),
        environment=((run, run),),
        usage=(Usage(run, (run + " --a-long-option of-a-command" * 4,)),),
        protocol=(run,),
    )
