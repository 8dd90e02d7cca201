"""The page of the shipped Ansible roles, from their argument specifications."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ismgr_automation import shipped
from scripts.reference import markdown


def page() -> str:
    """One section a role: what it does and its variables."""
    folder = shipped.root() / "playbooks/roles"
    return markdown.page(
        "Shipped roles",
        "Ordinary Ansible roles below `playbooks/roles`; a document names shipped content with the prefix `ismgr:`. "
        "Every variable is checked by Ansible before the first task.",
        *[_section(spec) for spec in sorted(folder.glob("*/meta/argument_specs.yml"))],
    )


def _section(path: Path) -> str:
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
    parts = [f"## {path.parents[1].name}"]
    for entry in spec.values():
        parts += [_text(entry.get("short_description")), _text(entry.get("description"))]
        rows = [_row(name, option) for name, option in (entry.get("options") or {}).items()]
        parts.append(markdown.table(("variable", "type", "default", "says"), rows))
    return "\n\n".join(dict.fromkeys(part for part in parts if part))


def _row(name: str, option: dict[str, Any]) -> tuple[str, ...]:
    kind = option.get("type", "str")
    kind = f"{kind} of {option['elements']}" if "elements" in option else kind
    default = "**required**" if option.get("required") else f"`{option['default']}`" if "default" in option else ""
    says = _text(option.get("description"))
    choices = ", ".join(f"`{one}`" for one in option.get("choices", ()))
    return (f"`{name}`", kind, default, f"{says} One of {choices}." if choices else says)


def _text(words: object) -> str:
    return " ".join(map(str, words)) if isinstance(words, list) else str(words or "")
