"""The page of the library, from what `ismgr_automation` lists in `__all__`."""

from __future__ import annotations

import enum
import inspect
import re
from typing import Any

import ismgr_automation
from scripts.reference import markdown

LINE = 100
ANNOTATION = re.compile(r"((?:: |-> ))'([^']*)'")


def page() -> str:
    """One section a public name: its signature and its docstring, and those of its methods."""
    return markdown.page(
        "The library",
        markdown.prose(ismgr_automation.__doc__),
        *[_section(name, getattr(ismgr_automation, name)) for name in ismgr_automation.__all__ if name[0] != "_"],
    )


def _section(name: str, value: Any) -> str:
    parts = [f"## {name}"]
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        docs = markdown.attribute_docs(value)
        rows = [(f"`{one.name}`", f"`{one.value}`", markdown.first_sentence(docs.get(one.name))) for one in value]
        parts += [markdown.prose(value.__doc__), markdown.table(("name", "value", "says"), rows)]
    elif inspect.isclass(value):
        parts += [f"```python\n{_signature(name, value)}\n```", markdown.prose(value.__doc__)]
        parts += [_member(member, value) for member in _members(value) if member[0] != "_"]
    else:
        parts.append(markdown.prose(value.__doc__))
    return "\n\n".join(part for part in parts if part)


def _members(owner: type) -> list[str]:
    """Its own members, then those of parts of it that have a file of their own."""
    ours = [one for one in owner.__mro__ if one.__module__.partition(".")[0] == ismgr_automation.__name__]
    return list(dict.fromkeys(name for one in ours for name in vars(one)))


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
    """On one line where it fits; an argument a line otherwise. Annotations stand in it as they are written."""
    try:
        signature = inspect.signature(value)
    except ValueError:  # built in
        return name
    kept = [one for one in signature.parameters.values() if one.name not in {"self", "cls"}]
    text = _plain(f"{name}{signature.replace(parameters=kept)}").replace(" -> None", "")
    if len(text) <= LINE:
        return text
    inner = _plain(str(signature.replace(parameters=kept, return_annotation=signature.empty)))[1:-1]
    returned = text.rpartition(") -> ")[2] if ") -> " in text else ""
    lines = "".join(f"    {part},\n" for part in re.split(r", (?=\w+: |\w+=|\*)", inner))
    return f"{name}(\n{lines})" + (f" -> {returned}" if returned else "")


def _plain(signature: str) -> str:
    """Annotations without their quotes, functions by their name."""
    return re.sub(r"<function (\w+) at \w+>", r"\1", ANNOTATION.sub(r"\1\2", signature))
