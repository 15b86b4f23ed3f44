"""Renders the report page as one self-contained HTML file."""

from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.filesize import decimal

from pipeline.page.comparison import Comparison
from pipeline.page.view_model import Page
from pipeline.wording import format_duration, format_integer

_HERE = "pipeline.page"


def render(page: Page) -> str:
    """Render the page of one run, with scripts, styles and images inline."""
    return render_template("page", page=page, plotly=plotly_bundle())


def render_comparison(comparison: Comparison) -> str:
    """Render the page of two runs, with scripts, styles and images inline."""
    return render_template("compare", script_name="page", both=comparison, plotly=plotly_bundle())


def render_template(name: str, script_name: str = "", **content: Any) -> str:
    """Render the template `<name>.html` with inline styles and script.

    Args:
        name: name of the template.
        script_name: name of the script; default: the template's name.
        content: variables of the template; text is escaped unless it is `Markup`.
    """
    folder = files(_HERE)
    environment = Environment(
        loader=FileSystemLoader(str(folder)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # missing and zero values render as empty cells
    environment.filters |= {
        "duration": lambda seconds: "" if seconds is None else format_duration(seconds),
        "grouped": lambda count: format_integer(count) if count else "",
        "size": lambda count: decimal(count) if count else "",
        "money": lambda amount: f"{amount:,.2f}".replace(",", " ") if amount else "",
        # short digest of a long value such as a data URI
        "mark": lambda text: sha256(text.encode()).hexdigest()[:12],
        # chart JSON is safe in a script element, because `as_json` escapes "<"
        "script": Markup,
    }
    # static files of this package, without user text
    ours = {
        kind: Markup(folder.joinpath(file).read_text(encoding="utf-8"))  # noqa: S704
        for kind, file in (("style", "page.css"), ("script", f"{script_name or name}.js"))
    }
    return environment.get_template(f"{name}.html").render(**ours, **content)


def plotly_bundle() -> Markup:
    """Return Plotly's JavaScript bundle."""
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())  # noqa: S704
