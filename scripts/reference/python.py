"""The page of the library, from what `ismgr_automation` lists in `__all__`."""

from __future__ import annotations

import inspect
from typing import Any

import ismgr_automation
from scripts.reference import markdown


def page() -> str:
    """One section a public name: its signature and its docstring, and those of its methods."""
    return markdown.page(
        "The library",
        markdown.prose(ismgr_automation.__doc__),
        *[_section(name, getattr(ismgr_automation, name)) for name in ismgr_automation.__all__ if name[0] != "_"],
    )


def _section(name: str, value: Any) -> str:
    parts = [f"## {name}"]
    if inspect.isclass(value) or inspect.isfunction(value):
        parts += [f"```python\n{_signature(name, value)}\n```", markdown.prose(value.__doc__)]
        parts += (
            [_member(member, value) for member in vars(value) if member[0] != "_"] if inspect.isclass(value) else []
        )
    else:
        parts.append(markdown.prose(value.__doc__))
    return "\n\n".join(part for part in parts if part)


def _member(name: str, owner: type) -> str:
    value = inspect.getattr_static(owner, name)
    if isinstance(value, property):
        return f"- `{name}` - {markdown.first_sentence(value.__doc__)}"
    function = getattr(value, "__func__", value)
    if not inspect.isfunction(function):
        return ""
    heading = f"### {owner.__name__}.{name}"
    return f"{heading}\n\n```python\n{_signature(name, function)}\n```\n\n{markdown.prose(function.__doc__)}"


def _signature(name: str, value: Any) -> str:
    try:
        given = str(inspect.signature(value))
    except ValueError:  # built in
        return name
    return f"{name}{given.replace('(self, ', '(').replace('(self)', '()')}".replace("'", "")
