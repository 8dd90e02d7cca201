"""The page of the shipped Ansible roles, from their argument specifications."""

from __future__ import annotations

import json
import re
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
    role = path.parents[1]
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
    defaults = _defaults(role / "defaults/main.yml")
    parts = [f"## {role.name}"]
    for entry in spec.values():
        parts += [_text(entry.get("short_description")), _text(entry.get("description"))]
        rows = [_row(name, option, defaults) for name, option in (entry.get("options") or {}).items()]
        parts.append(markdown.table(("variable", "type", "default", "says"), rows))
    return "\n\n".join(dict.fromkeys(part for part in parts if part))


def _defaults(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


def _row(name: str, option: dict[str, Any], defaults: dict[str, Any]) -> tuple[str, ...]:
    kind = option.get("type", "str")
    kind = f"{kind} of {option['elements']}" if "elements" in option else kind
    says = _text(option.get("description"))
    choices = ", ".join(f"`{one}`" for one in option.get("choices", ()))
    says = f"{says} One of {choices}." if choices else says
    return (f"`{name}`", kind, _default(name, option, defaults), says)


def _default(name: str, option: dict[str, Any], defaults: dict[str, Any]) -> str:
    """The default as YAML; one that Ansible computes is told in words by the description."""
    if option.get("required"):
        return "**required**"
    value = option.get("default", defaults.get(name))
    if value is None or "{{" in str(value):
        return ""
    return f"`{json.dumps(value)}`"


def _text(words: object) -> str:
    text = " ".join(map(str, words)) if isinstance(words, list) else str(words or "")
    return re.sub(r"\b[CVO]\(([^)]*)\)", r"`\1`", text)
