"""The page of exit codes and of the error family, from `core/errors.py`."""

from __future__ import annotations

import inspect

from ismgr_automation.core import errors
from ismgr_automation.core.errors import ExitCode, IsmgrError
from scripts.reference import markdown

MEANINGS = {
    ExitCode.DONE: "Done, or nothing to do.",
    ExitCode.INPUT: "What was given is wrong: documents, settings, a plan file, the arguments. Nothing was touched.",
    ExitCode.CHANGES: "`plan` or `drift` found something. An answer, not an error.",
    ExitCode.REFUSED: "Refused before any effect: stale plan, policy, approval, signature, window, lease.",
    ExitCode.ENGINE: "An engine failed before any effect, or something could not be looked at.",
    ExitCode.PARTLY_APPLIED: "Stopped with part of it applied: what landed, what did not, what is unknown is listed.",
    ExitCode.OBJECTIVE_MISSED: "It ran, and an objective was missed: a verification check failed.",
    ExitCode.INTERNAL: "A bug in ismgr; please report it.",
    ExitCode.CANCELLED: "Somebody stopped it. The report of an apply that had begun says what landed and what did not.",
}


def page() -> str:
    """Exit codes, then every error with its reason, code and fields."""
    return markdown.page(
        "Exit codes and errors",
        "Every command ends in one of these codes. They are stable: a pipeline may rely on them.",
        markdown.table(("code", "name", "meaning"), [(str(int(one)), one.name, MEANINGS[one]) for one in ExitCode]),
        "With `--json` an error is one object of format `ismgr.result/1` with `type: error`, the `reason` of the table "
        "below, `exit_code`, `summary`, `untouched` (what was left alone), `next_step` and `diagnostics` (for mistakes "
        "in files: severity, summary, path, line, column, expected, suggestion).",
        "## The family",
        "A failed *target* - a host, a resource, a check - is a result and is reported as one. These are for the cases "
        "where ismgr itself could not go on. In Python they are raised from `ismgr_automation.core.errors`.",
        markdown.table(("error", "is a", "reason", "code", "when"), map(_row, _family())),
        "## Fields",
        *map(_fields, _family()),
    )


def _family() -> list[type[IsmgrError]]:
    found = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, IsmgrError)]
    return sorted(found, key=lambda kind: [one.__name__ for one in reversed(kind.__mro__)])


def _row(kind: type[IsmgrError]) -> tuple[str, ...]:
    reason = kind.__new__(kind).reason  # the class alone decides it
    parent = kind.__mro__[1].__name__
    when = markdown.first_sentence(kind.__doc__)
    return (f"`{kind.__name__}`", f"`{parent}`", f"`{reason}`", str(int(kind.exit_code)), when)


def _fields(kind: type[IsmgrError]) -> str:
    names = [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
    return f"`{kind.__name__}`: {', '.join(f'`{name}`' for name in names)}" if "__init__" in vars(kind) else ""
