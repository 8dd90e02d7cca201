"""Every error says what to do next, ends in a documented exit code, and keeps its name."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

import pytest

from ismgr_automation.core import errors
from tests.house.sources import Source, called, python

FAMILY = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, errors.IsmgrError)
}
NEED_A_WAY_ON = {
    name
    for name, kind in FAMILY.items()
    if issubclass(kind, errors.EngineError | errors.Refused | errors.PartlyApplied | errors.SettingsError)
    # these carry it in fields of their own, which their sentence shows
    and name not in {"EngineMissing", "LeaseHeld", "StalePlan"}
}
"""A mistake in a document says what was expected instead, and that is the way on."""


TRIED = ("ismgr_automation/engines/pulumi/build.py", "ismgr_automation/engines/pulumi/download.py")
"""Ways to get an engine: what each says when it fails becomes a line of ``EngineMissing``, which lists the others."""


def _without_a_way_on(source: Source) -> Iterator[int]:
    """Places that make such an error and do not say what to do next. Diagnostics say it for each mistake."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and called(node).rsplit(".", 1)[-1] in NEED_A_WAY_ON:
            words = {word.arg for word in node.keywords}
            if not words & {"next_step", "diagnostics", None}:
                yield node.lineno
            if any(word.arg == "next_step" and ast.unparse(word.value) in {"''", "None"} for word in node.keywords):
                yield node.lineno


def test_every_error_that_the_library_makes_says_what_to_do_next() -> None:
    guilty = [f"{source.path}:{line}" for source in python("ismgr_automation") for line in _without_a_way_on(source)]
    guilty = [line for line in guilty if not line.startswith(TRIED)]
    assert not guilty, "\n".join(guilty)


def test_an_error_without_a_way_on_is_noticed() -> None:
    assert list(_without_a_way_on(Source("x.py", "raise EngineFailed('No.', engine='git')")))
    assert list(_without_a_way_on(Source("x.py", "raise errors.Refused('No.', next_step='')")))
    assert not list(_without_a_way_on(Source("x.py", "raise Refused('No.', next_step='Ask again tomorrow.')")))


@pytest.mark.parametrize("name", FAMILY)
def test_an_error_has_an_exit_code_that_is_no_success(name: str) -> None:
    assert FAMILY[name].exit_code not in {errors.ExitCode.DONE, errors.ExitCode.CHANGES}


def test_the_drawing_of_the_family_shows_every_member() -> None:
    drawn = errors.__doc__ or ""
    assert not [name for name in FAMILY if name not in drawn.split()]
