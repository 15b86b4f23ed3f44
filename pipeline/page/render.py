"""From content to one HTML file, which asks nothing of any network."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich.filesize import decimal

from pipeline.page.content import Page
from pipeline.wording import duration, grouped

_HERE = "pipeline.page"


def render(page: Page) -> str:
    """The whole page; scripts, styles and pictures are inside."""
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # nothing is said of what there is none of
    environment.filters |= {
        "duration": lambda seconds: "" if seconds is None else duration(seconds),
        "grouped": lambda count: grouped(count) if count else "",
        "size": lambda count: decimal(count) if count else "",
    }
    template = environment.from_string(_text("page.html"))
    # what we write ourselves, and Plotly's own bundle: no text of a user's is in them
    parts = {"style": _text("page.css"), "script": _text("page.js"), "plotly": get_plotlyjs()}
    return template.render(
        page=page,
        **{name: Markup(text) for name, text in parts.items()},  # noqa: S704
        charts=[(chart, Markup(chart.figure)) for chart in page.charts],  # noqa: S704
    )


def _text(name: str) -> str:
    return files(_HERE).joinpath(name).read_text(encoding="utf-8")
