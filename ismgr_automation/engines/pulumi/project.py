"""Reads a Pulumi project folder as it is: Pulumi.yaml, the program, and the user's own stack configuration. Never
writes there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import InputError

FILES = ("Pulumi.yaml", "Pulumi.yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project: its name, folder, the Python file to run, and where stack configuration files lie."""

    name: str
    folder: Path
    main: Path
    text: str
    config_folder: Path
    declared: frozenset[str] = frozenset()
    """Full keys of the configuration that the project file declares: the engine checks that they are there."""

    def stack_config(self, stack: str) -> dict[str, Any]:
        """What the user's own ``Pulumi.STACK.yaml`` says; empty when there is none."""
        path = self.config_folder / f"Pulumi.{stack}.yaml"
        return dict(_load(path, path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def key(self, name: str) -> str:
        """A configuration key with its namespace: one without belongs to the project.

        >>> from pathlib import Path
        >>> project = Project(name="p", folder=Path(), main=Path(), text="", config_folder=Path())
        >>> project.key("size"), project.key("aws:region")
        ('p:size', 'aws:region')
        """
        return name if ":" in name else f"{self.name}:{name}"


def read_project(folder: Path) -> Project:
    """Read a project folder. Raises ``InputError`` with the place when it is none, or not a Python one."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(
            f"{folder} is no Pulumi project.",
            diagnostics=[
                Diagnostic(summary=f"there is no {FILES[0]} in {folder}", expected="a file with name, runtime")
            ],
        )
    text = path.read_text(encoding="utf-8")
    body = _load(path, text)
    name = body.get("name")
    if not isinstance(name, str) or not name:
        raise _wrong(path, "the project has no name", "name: a-name")
    runtime = body.get("runtime")
    language = runtime.get("name") if isinstance(runtime, dict) else runtime
    if language != "python":
        raise _wrong(path, f"the runtime is {language!r}", "runtime: python (programs run as inline programs)")
    return Project(
        name=name,
        folder=folder,
        main=_main(folder, path, body),
        text=text,
        config_folder=folder / str(body.get("stackConfigDir") or "."),
        declared=frozenset(key if ":" in key else f"{name}:{key}" for key in map(str, body.get("config") or ())),
    )


def _main(folder: Path, path: Path, body: Mapping[str, Any]) -> Path:
    main = folder / str(body.get("main") or ".")
    main = main / "__main__.py" if main.is_dir() else main
    if not main.is_file():
        raise _wrong(path, f"there is no program at {main}", "a file __main__.py, or `main:` that names it")
    return main


def _load(path: Path, text: str) -> Mapping[str, Any]:
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = getattr(problem, "problem", None) or "it is not YAML"
        raise InputError(
            f"{path.name} cannot be read.",
            diagnostics=[Diagnostic(summary=str(what), position=Position(str(path), line, column))],
        ) from problem
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise _wrong(path, "it is not a mapping", "keys and values")
    return body


def _wrong(path: Path, what: str, expected: str) -> InputError:
    return InputError(
        f"{path} does not describe a project that can be run.",
        diagnostics=[Diagnostic(summary=what, position=Position(str(path), 1, 1), expected=expected)],
    )
