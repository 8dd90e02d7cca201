"""`python -m scripts.reference` writes every page; the list of pages is here, and the tests use it too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scripts.reference import cli, errors, events, formats, kinds, provider, python, roles

FOLDER = Path(__file__).parents[2] / "docs/reference"
PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli.page,
    "errors.md": errors.page,
    "events.md": events.page,
    "formats.md": formats.page,
    "kinds.md": kinds.page,
    "provider.md": provider.page,
    "python.md": python.page,
    "roles.md": roles.page,
    **formats.files(),
}
"""Builder of each page below ``docs/reference``."""


def main() -> None:
    """Write the pages that changed, and say which."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, build in PAGES.items():
        path = FOLDER / name
        text = build()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"==> docs/reference/{name}")


if __name__ == "__main__":
    main()
