"""A run as one HTML page, and what all pages share: they need nothing else, no script, no request, and every text is
escaped. Pure."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from ismgr_automation.reports.page import compose
from ismgr_automation.reports.story import Story


def render(story: Story) -> str:
    """The page of a run."""
    return fill("run.html.j2", page=compose(story), environment=story.run.environment, run=story.run.id)


def fill(template: str, **values: object) -> str:
    """A page from one of our templates. Its policy lets a browser use its own style sheet, by digest, and nothing else:
    a text that got out of its place could neither run nor load anything."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from markupsafe import Markup

    from ismgr_automation import __version__

    environment = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    style = _file("run.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = environment.from_string(_file(template)).render(
        **values,
        style=Markup(style),  # noqa: S704  our own file
        style_hash=Markup(f"sha256-{digest}"),  # noqa: S704  letters and digits of a digest
        version=__version__,
    )
    # half a character cannot be written
    return page.encode("utf-8", "backslashreplace").decode()


def _file(name: str) -> str:
    return files("ismgr_automation.reports").joinpath(name).read_text(encoding="utf-8")
