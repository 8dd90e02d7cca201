"""Every file says what it is for, every public name what it promises, and the front door holds what it lists."""

from __future__ import annotations

import ast
import doctest
import importlib
import warnings
from collections.abc import Iterator

import pytest

import ismgr_automation
from tests.house.sources import ROOT, Source, python

LONGEST_FILE = 400
TOO_LONG_FILE = 600
LONGEST_FUNCTION = 40
TOO_LONG_FUNCTION = 80
CODE = ("ismgr_automation", "stacks", "scripts", "bench")


def _silent(source: Source) -> Iterator[str]:
    """Public names without a docstring: modules, classes, functions, methods. Overloads and setters repeat one."""
    if not ast.get_docstring(source.tree):
        yield f"{source.path}:1 the file"
    yield from _silent_names(source, source.tree.body, "")


def _silent_names(source: Source, body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        repeated = any(ast.unparse(one).endswith(("overload", ".setter", "override")) for one in node.decorator_list)
        if not ast.get_docstring(node) and not repeated:
            yield f"{source.path}:{node.lineno} {prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _silent_names(source, node.body, f"{node.name}.")


def _long(source: Source, file: int, function: int) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > file:
        yield f"{source.path} has {lines} lines"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > function:
                yield f"{source.path}:{node.lineno} {node.name} has {length} lines"


def test_every_file_and_public_name_of_the_library_has_a_docstring() -> None:
    silent = [line for source in python(*CODE) for line in _silent(source)]
    assert not silent, "\n".join(silent)


def test_a_missing_docstring_is_noticed() -> None:
    sample = Source("x.py", '"""A file."""\nclass Host:\n    """A host."""\n    def reboot(self): ...\n')
    assert list(_silent(sample)) == ["x.py:4 Host.reboot"]


def test_no_file_or_function_has_grown_out_of_bounds() -> None:
    grown = [line for source in python(*CODE) for line in _long(source, LONGEST_FILE, LONGEST_FUNCTION)]
    for line in grown:
        warnings.warn(f"worth a look: {line}", stacklevel=1)
    outside = [line for source in python(*CODE) for line in _long(source, TOO_LONG_FILE, TOO_LONG_FUNCTION)]
    assert not outside, "\n".join(outside)


def test_length_is_measured_in_lines() -> None:
    sample = Source("x.py", "def f():\n" + "    x = 1\n" * 50)
    assert list(_long(sample, 10, 40)) == ["x.py has 51 lines", "x.py:1 f has 51 lines"]


def test_the_front_door_lists_what_it_has_in_order() -> None:
    names = ismgr_automation.__all__
    assert list(names) == sorted(names)
    assert set(names) <= set(dir(ismgr_automation))


@pytest.mark.parametrize("name", getattr(ismgr_automation, "__all__", ()))
def test_a_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    value = getattr(importlib.import_module("ismgr_automation"), name)
    assert isinstance(value, str) or value.__doc__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ismgr_automation.no_such_name


def test_every_decision_says_context_decision_and_consequences() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert decisions
    for page in decisions:
        text = page.read_text()
        missing = [part for part in ("## Context", "## Decision", "## Consequences") if part not in text]
        assert not missing, f"{page.name}: {missing}"
    numbers = [page.name[:4] for page in decisions]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("module", [one.module for one in python("ismgr_automation") if ">>> " in one.text])
def test_the_examples_in_docstrings_run(module: str) -> None:
    assert not doctest.testmod(importlib.import_module(module)).failed
