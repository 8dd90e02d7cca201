"""Rules that can be seen in one file: each names the guilty lines, and has a bad sample that it must catch."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.house.sources import Source, called, python

SHORTEST_SENTENCE = 4
"""Words in a test's name, ``test`` itself among them."""
Rule = Callable[[Source], Iterator[int]]
EVERYWHERE = ("ismgr_automation", "tests", "stacks", "playbooks", "examples", "bench", "scripts")


def shell_strings(source: Source) -> Iterator[int]:
    """Commands are argument lists: a shell would split and expand what a document says."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            if any(word.arg == "shell" and not _is(word.value, value=False) for word in node.keywords):
                yield node.lineno
            if called(node) in {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}:
                yield node.lineno


def unsafe_yaml(source: Source) -> Iterator[int]:
    """Only a safe loader: others build any object that a document names."""
    safe = {"SafeLoader", "CSafeLoader"}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and called(node) in {"yaml.load", "yaml.load_all", "yaml.unsafe_load"}:
            given = {ast.unparse(argument).rsplit(".", 1)[-1] for argument in [*node.args, *map(_value, node.keywords)]}
            if not given & safe:
                yield node.lineno


def unchecked_host_keys(source: Source) -> Iterator[int]:
    """Host keys are pinned; nobody is trusted because he answered."""
    text = re.compile(
        r"StrictHostKeyChecking\W+(no|off|accept-new)\b|known_hosts\s*=\s*None|AutoAddPolicy|host_key_checking\W+(false|no)\b",
        re.IGNORECASE,
    )
    yield from _lines(source, text)


def unchecked_certificates(source: Source) -> Iterator[int]:
    """TLS is verified; a private authority is given as a file."""
    yield from _lines(
        source, re.compile(r"\bverify\s*=\s*False|CERT_NONE|check_hostname\s*=\s*False|_create_unverified_context")
    )


def sleeps(source: Source) -> Iterator[int]:
    """A test waits for a condition with a deadline; a pause that is no part of such a loop is too short or too long."""
    if not Path(source.path).name.startswith(("test_", "conftest", "fixtures")):
        return  # a double may be slow on purpose
    in_loops = {
        inner
        for loop in ast.walk(source.tree)
        if isinstance(loop, ast.While | ast.For | ast.AsyncFor)
        for inner in ast.walk(loop)
    }
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and called(node) in {"time.sleep", "sleep"} and node not in in_loops:
            yield node.lineno


def silenced_checks(source: Source) -> Iterator[int]:
    """An exception from a rule names the rule."""
    yield from _lines(source, re.compile(r"#\s*type:\s*ignore(?!\[)|#\s*noqa(?!:\s*[A-Z])"))


def swallowed_errors(source: Source) -> Iterator[int]:
    """Whoever catches everything does something with it."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and all(isinstance(line, ast.Pass) for line in node.body):
            caught = ast.unparse(node.type) if node.type else "everything"
            if caught in {"everything", "Exception", "BaseException"}:
                yield node.lineno


def plain_dictionaries(source: Source) -> Iterator[int]:
    """Past a parser things have types; ``dict[str, Any]`` is a parser's and an engine's."""
    if not source.path.startswith(PARSERS):
        yield from _lines(source, re.compile(r"\b([dD]ict|Mapping)\[str, Any\]"))


def prints_and_exits(source: Source) -> Iterator[int]:
    """A library neither prints, configures logging nor ends the process: that is for faces. A worker is a process."""
    if source.path.endswith("/worker.py"):
        return
    forbidden = {"print", "exit", "quit", "sys.exit", "os._exit", "logging.basicConfig"}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and called(node) in forbidden:
            yield node.lineno


def revealed_secrets(source: Source) -> Iterator[int]:
    """A secret is opened where it is used: in an engine or the provider, by nobody who decides, writes or shows."""
    # the box itself is in core, beside what takes secrets out of texts
    if source.path.startswith(OPENING):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr == "reveal":
            yield node.lineno


def open_values(source: Source) -> Iterator[int]:
    """Values are frozen and slotted; only a cached property, which needs a place to be kept, excuses from slots."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            needed = {"frozen"} if "cached_property" in ast.unparse(node) else {"frozen", "slots"}
            for decorator in node.decorator_list:
                if ast.unparse(decorator).split("(")[0] in {"dataclass", "dataclasses.dataclass"}:
                    words = getattr(decorator, "keywords", [])
                    if not needed <= {word.arg for word in words if _is(word.value, value=True)}:
                        yield decorator.lineno


def unexplained_skips(source: Source) -> Iterator[int]:
    """A test that is left out says why, to whoever reads the run."""
    skips = {"pytest.skip", "pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail", "pytest.xfail"}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and called(node) in skips:
            short = called(node) in {"pytest.skip", "pytest.xfail"} and node.args
            if not short and not any(word.arg == "reason" for word in node.keywords):
                yield node.lineno
        if isinstance(node, ast.FunctionDef):
            yield from (one.lineno for one in node.decorator_list if ast.unparse(one) in skips)


def patched_modules(source: Source) -> Iterator[int]:
    """A double stands at a port, not in the middle of a module."""
    yield from _lines(source, re.compile(r"^\s*(import|from) (unittest\.mock|mock)\b|from unittest import mock"))


def toothless(source: Source) -> Iterator[int]:
    """A test asserts, expects an exception, or calls something whose failure is its own."""
    return (test.lineno for test in _tests(source) if not any(map(_can_fail, ast.walk(test))))


def names_without_a_sentence(source: Source) -> Iterator[int]:
    """``test_apply_2`` says nothing when it fails."""
    for test in _tests(source):
        if len(test.name.split("_")) < SHORTEST_SENTENCE:
            yield test.lineno


def _tests(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def _is(node: ast.expr, *, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _value(word: ast.keyword) -> ast.expr:
    return word.value


def _lines(source: Source, text: re.Pattern[str]) -> Iterator[int]:
    return (number for number, line in enumerate(source.text.splitlines(), 1) if text.search(line))


def _can_fail(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert | ast.Raise):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = called(node).rsplit(".", 1)[-1]
    checked = any(word.arg == "check" and _is(word.value, value=True) for word in node.keywords)
    return (
        checked
        or name in {"raises", "fail", "warns"}
        or name.startswith(("assert_", "expect", "check", "wait_", "until"))
    )


OUTSIDE_TESTS = tuple(folder for folder in EVERYWHERE if folder != "tests")
DECIDING = tuple(f"ismgr_automation/{room}" for room in ("core", "ports", "planning", "estate", "converge"))
PARSERS = (
    *("ismgr_automation/estate/", "ismgr_automation/planning/planfile.py"),
    "ismgr_automation/converge/outcomefile.py",
)
VALUES = tuple(f"ismgr_automation/{room}" for room in ("core", "ports", "planning", "estate"))
OPENING = ("ismgr_automation/engines/", "ismgr_automation/provider/", "ismgr_automation/core/secret.py")
SILENT = (*DECIDING, "ismgr_automation/engines")

RULES: dict[Rule, tuple[tuple[str, ...], str]] = {
    shell_strings: (EVERYWHERE, "subprocess.run('ls', shell=True)"),
    unsafe_yaml: (EVERYWHERE, "yaml.load(text)"),
    unchecked_host_keys: (OUTSIDE_TESTS, "options = '-o StrictHostKeyChecking=" + "no'"),
    unchecked_certificates: (EVERYWHERE, "session.verify=" + "False"),
    sleeps: (("tests",), "time.sleep(1)"),
    silenced_checks: (EVERYWHERE, "x = y  # type: " + "ignore"),
    swallowed_errors: (EVERYWHERE, "try:\n    x()\nexcept Exception:\n    pass"),
    plain_dictionaries: (DECIDING, "def order(plan: dict[str, Any]): ..."),
    prints_and_exits: (SILENT, "print('done')"),
    revealed_secrets: (("ismgr_automation",), "password = store.open(ref).reveal()"),
    open_values: (VALUES, "@dataclass\nclass Host: ..."),
    unexplained_skips: (("tests",), "@pytest.mark.skip\ndef test_x(): ..."),
    patched_modules: (("tests",), "from unittest.mock " + "import patch"),
    toothless: (("tests",), "def test_that_all_is_well():\n    run()"),
    names_without_a_sentence: (("tests",), "def test_apply_2():\n    assert run()"),
}

OWN = "tests/house/test_spelled_rules.py"
"""This file holds the bad samples."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_file_breaks_the_rule(rule: Rule) -> None:
    where, _sample = RULES[rule]
    guilty = [f"{source.path}:{line}" for source in python(*where) if source.path != OWN for line in rule(source)]
    assert not guilty, f"{rule.__doc__}\n" + "\n".join(guilty)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_catches_its_bad_sample(rule: Rule) -> None:
    _where, sample = RULES[rule]
    assert list(rule(Source("test_sample.py", sample)))
