"""The page of commands, from the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from ismgr_automation.cli.main import build
from scripts.reference import markdown


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name (``ismgr lab up``), groups included, in the order of ``--help``."""
    yield from _below("ismgr", typer.main.get_command(build()))


def page() -> str:
    """One section a command: usage, what it does, arguments, options, examples."""
    found = list(commands())
    return markdown.page(
        "Commands",
        markdown.table(("command", "does"), [(_link(name), _short(command)) for name, command in found[1:]]),
        *[_section(name, command) for name, command in found],
    )


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for inner, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _below(f"{name} {inner}", child)


def _link(name: str) -> str:
    return f"[`{name}`](#{name.replace(' ', '-')})"


def _short(command: Any) -> str:
    return markdown.first_sentence(command.help)


def _section(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    shown = [(one.param_type_name, one.get_help_record(context)) for one in command.params if one.name != "help"]
    arguments = [_row(record) for kind, record in shown if record and kind == "argument"]
    options = [_row(record) for kind, record in shown if record and kind != "argument"]
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [
        f"## {name}",
        f"```\n{usage}\n```",
        markdown.prose(command.help),
        markdown.table(("argument", "is"), arguments),
        markdown.table(("option", "does"), options),
        _epilogue(command.epilog),
    ]
    return "\n\n".join(part for part in parts if part)


def _row(record: tuple[str, str]) -> tuple[str, str]:
    names, words = record
    return f"`{names}`", words


def _epilogue(text: str | None) -> str:
    """Examples are indented, a line each; other paragraphs are prose."""
    blocks: list[str] = []
    for line in (text or "").splitlines():
        if line.startswith("  ") and blocks and blocks[-1].startswith("```"):
            blocks[-1] += f"\n{line.strip()}"
        elif line.startswith("  "):
            blocks.append(f"```\n{line.strip()}")
        elif line.strip() and blocks and not blocks[-1].startswith("```"):
            blocks[-1] += f" {line.strip()}"
        elif line.strip():
            blocks.append(line.strip())
    return "\n\n".join(f"{block}\n```" if block.startswith("```") else block for block in blocks)
