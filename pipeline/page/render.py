"""From content to one HTML file, which asks nothing of any network."""

from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.filesize import decimal

from pipeline.page.comparison import Comparison
from pipeline.page.view_model import Page
from pipeline.wording import duration, grouped

_HERE = "pipeline.page"


def render(page: Page) -> str:
    """The whole page; scripts, styles and pictures are inside."""
    return render_template("page", page=page, plotly=plotly_bundle())


def render_comparison(comparison: Comparison) -> str:
    """The page of two runs; like that of one, all of it is inside."""
    return render_template("compare", script_name="page", both=comparison, plotly=plotly_bundle())


def render_template(name: str, script_name: str = "", **content: Any) -> str:
    """A page of this package: `<name>.html` with our styles and script inside.

    Args:
        name: of the template.
        script_name: of the script; that of the template if empty.
        content: what the template speaks of; text of a user's is escaped unless it is `Markup`.
    """
    folder = files(_HERE)
    environment = Environment(
        loader=FileSystemLoader(str(folder)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # nothing is said of what there is none of
    environment.filters |= {
        "duration": lambda seconds: "" if seconds is None else duration(seconds),
        "grouped": lambda count: grouped(count) if count else "",
        "size": lambda count: decimal(count) if count else "",
        "money": lambda amount: f"{amount:,.2f}".replace(",", " ") if amount else "",
        # a short name for what is long, such as a picture
        "mark": lambda text: sha256(text.encode()).hexdigest()[:12],
        # a chart's JSON, which has no end of a script element in it
        "script": Markup,
    }
    # what we write ourselves: no text of a user's is in it
    ours = {
        kind: Markup(folder.joinpath(file).read_text(encoding="utf-8"))  # noqa: S704
        for kind, file in (("style", "page.css"), ("script", f"{script_name or name}.js"))
    }
    return environment.get_template(f"{name}.html").render(**ours, **content)


def plotly_bundle() -> Markup:
    """Plotly's own script, whole."""
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())  # noqa: S704
