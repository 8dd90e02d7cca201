"""A drill as one HTML page that needs nothing else: no script, no request, every text escaped. Pure."""

from __future__ import annotations

from ismgr_automation.reports.drawing import Box, Rule
from ismgr_automation.reports.drill_views import DrillPage
from ismgr_automation.reports.html import fill


def render(page: DrillPage) -> str:
    """The page, with the policy and the look of a run's."""
    return fill("drill.html.j2", page=page, kind=_kind)


def _kind(shape: object) -> str:
    """What a shape is called in the template."""
    return "box" if isinstance(shape, Box) else "rule" if isinstance(shape, Rule) else "words"
