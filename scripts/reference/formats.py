"""The page of formats that are written for machines, and a file with the JSON Schema of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ismgr_automation.estate.schema import text
from ismgr_automation.reports.formats import FORMATS
from scripts.reference import markdown

PROMISE = """\
Each of these names its format and version in `format` (approvals and sign-offs in the namespace of their signature).
Within a version fields are only added, so readers must let pass what they do not know; where a digest or a signature
covers the whole, nothing is added and a new version begins. Versions that were ever written stay readable: examples of
each are kept and read by the tests. The schemas are JSON Schema 2020-12; `ismgr schema --format NAME` prints them."""


def page() -> str:
    """Every format with its version and schema."""
    return markdown.page(
        "Formats",
        PROMISE,
        markdown.table(("name", "format", "is", "schema"), [_row(name, build) for name, build in FORMATS.items()]),
    )


def files() -> Mapping[str, Callable[[], str]]:
    """What builds the file of each schema."""
    return {f"schemas/{name}.schema.json": _file(build) for name, build in FORMATS.items()}


def _file(build: Callable[[], Mapping[str, object]]) -> Callable[[], str]:
    return lambda: text(build())  # type: ignore[arg-type]


def _row(name: str, build: Callable[[], Mapping[str, object]]) -> tuple[str, ...]:
    body = build()
    link = f"[{name}.schema.json](schemas/{name}.schema.json)"
    return (f"`{name}`", f"`{body['title']}`", markdown.first_sentence(str(body["description"])), link)
