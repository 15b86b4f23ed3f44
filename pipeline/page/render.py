"""From content to one HTML file, which asks nothing of any network."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich.filesize import decimal

from pipeline.page.content import Page

_HERE = "pipeline.page"


def render(page: Page) -> str:
    """The whole page; scripts, styles and pictures are inside."""
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "grouped": grouped, "size": size}
    template = environment.from_string(_text("page.html"))
    # what we write ourselves, and Plotly's own bundle: no text of a user's is in them
    parts = {"style": _text("page.css"), "script": _text("page.js"), "plotly": get_plotlyjs()}
    return template.render(
        page=page,
        **{name: Markup(text) for name, text in parts.items()},  # noqa: S704
        charts=[(chart, Markup(chart.figure)) for chart in page.charts],  # noqa: S704
    )


def duration(seconds: float | None) -> str:
    """Seconds as people say them; empty for none."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def grouped(count: int) -> str:
    """A count with thin spaces between thousands; empty for none."""
    return f"{count:,}".replace(",", "\u2009") if count else ""


def size(count: int) -> str:
    """Bytes as people say them; empty for none."""
    return decimal(count) if count else ""


def _text(name: str) -> str:
    return files(_HERE).joinpath(name).read_text(encoding="utf-8")
