"""The few shapes that the pages are made of: headings, tables, sentences from docstrings. Knows nothing of ismgr."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise

NOTE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->"


def page(title: str, *parts: str) -> str:
    """A whole page: title, the note that it is generated, parts with a blank line between them."""
    return "\n\n".join([f"# {title}", NOTE, *(part.strip("\n") for part in parts if part)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty when there are no rows."""
    lines = [_row(row) for row in rows]
    return "\n".join([_row(head), _row(["---"] * len(head)), *lines]) if lines else ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def prose(docstring: str | None) -> str:
    """A docstring as Markdown: double backticks become single, examples and literal blocks become code."""
    if not docstring:
        return ""
    blocks = [_block(part) for part in re.split(r"\n\s*\n", inspect.cleandoc(docstring))]
    return "\n\n".join(block for block in blocks if block)


def _block(part: str) -> str:
    if part.lstrip().startswith(">>>"):
        return f"```python\n{textwrap.dedent(part)}\n```"
    if part.startswith("    "):
        return f"```\n{textwrap.dedent(part)}\n```"
    return part.replace("``", "`").removesuffix("::").rstrip()


def first_sentence(docstring: str | None) -> str:
    """Everything up to the first blank line, on one line."""
    return " ".join(prose(docstring).split("\n\n")[0].split())


def attribute_docs(cls: type) -> dict[str, str]:
    """The strings below the attributes of a class, by attribute; inherited ones included."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        except (OSError, TypeError):  # built in: no source, no strings
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        found |= _strings_below(body)
    return found


def _strings_below(body: Sequence[ast.stmt]) -> dict[str, str]:
    found = {}
    for node, after in pairwise(body):
        target = node.target if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [None])[0]
        if (
            isinstance(target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[target.id] = inspect.cleandoc(after.value.value)
    return found
