"""The reference is what the code says now; every command and kind is in it; links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ismgr_automation.core.errors import ExitCode
from ismgr_automation.estate.documents import KINDS
from scripts.reference import cli, errors
from scripts.reference.__main__ import FOLDER, PAGES
from tests.house.sources import ROOT, texts

LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
EXAMPLES_MAY_BE_MISSING = {"ismgr engine", "ismgr lab"}
"""Groups of commands: their members have the examples."""
GENERATED = "docs/reference/"
PAGES_OF_PEOPLE = [(name, text) for name, text in texts() if name.endswith(".md") and "tests/cases" not in name]


def _heading_ids(text: str) -> set[str]:
    """What a link's ``#part`` may be: headings as forges write them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _broken_links(name: str, text: str) -> Iterator[str]:
    for match in LINK.finditer(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        path, _hash, part = match["target"].partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists():
            yield f"{name}: {match['target']} is not there"
        elif part and target.suffix == ".md" and part not in _heading_ids(target.read_text()):
            yield f"{name}: {match['target']} has no such heading"


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    path = FOLDER / name
    assert path.exists(), f"docs/reference/{name} is missing; run `make docs`"
    assert path.read_text() == PAGES[name](), f"docs/reference/{name} is not what the code says; run `make docs`"


def test_every_command_is_documented_with_an_example() -> None:
    silent = [
        name
        for name, command in cli.commands()
        if not command.help or ("xample" not in (command.epilog or "") and name not in EXAMPLES_MAY_BE_MISSING)
    ]
    assert not silent


def test_every_option_of_every_command_says_what_it_does() -> None:
    silent = [
        f"{name}: {parameter.name}"
        for name, command in cli.commands()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert not silent


def test_every_kind_of_document_says_what_it_is() -> None:
    assert not [name for name, model in KINDS.items() if not model.__doc__]
    page = (FOLDER / "kinds.md").read_text()
    assert not [name for name in KINDS if f"\n## {name}\n" not in page]


def test_every_exit_code_has_a_meaning() -> None:
    assert set(errors.MEANINGS) == set(ExitCode)


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = [line for name, text in PAGES_OF_PEOPLE for line in _broken_links(name, text)]
    assert not broken, "\n".join(broken)


def test_a_broken_link_is_noticed() -> None:
    assert list(_broken_links("README.md", "see [it](docs/no-such-page.md)"))
    assert list(_broken_links("CONTRIBUTING.md", "see [it](#no-such-heading)"))


def test_every_page_of_docs_is_on_the_map() -> None:
    listed = {match["target"].partition("#")[0] for match in LINK.finditer((ROOT / "docs/README.md").read_text())}
    pages = {name.removeprefix("docs/") for name, _text in PAGES_OF_PEOPLE if name.startswith("docs/")}
    assert not pages - listed - {"README.md"}
