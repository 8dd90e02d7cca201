"""The error family: fields first, a sentence second, a stable reason, an exit code."""

from __future__ import annotations

import inspect
import pickle
from datetime import UTC, datetime

import pytest

from ismgr_automation.core import errors
from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import ExitCode, IsmgrError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENGINE = {"engine": "pulumi", "subject": "stack/names", "next_step": "Try again."}

MADE: dict[str, IsmgrError] = {
    "internal-error": errors.InternalError("A bug.", next_step="Report it."),
    "input-error": errors.InputError("Wrong.", next_step="Mend it."),
    "estate-error": errors.EstateError("Two mistakes.", diagnostics=[Diagnostic(summary="no name")]),
    "settings-error": errors.SettingsError("No option --x.", next_step="See --help."),
    "plan-file-error": errors.PlanFileError("Altered.", next_step="Plan again."),
    "refused": errors.Refused("No.", next_step="Ask."),
    "policy-denied": errors.PolicyDenied("No.", next_step="Ask."),
    "stale-plan": errors.StalePlan(moved=["state of stack/names changed"]),
    "outside-window": errors.OutsideWindow("Not now.", next_step="Wait."),
    "lease-held": errors.LeaseHeld(name="two-sites/lab", holder="bob@ops1 (pid 7)", since=NOON, until=NOON),
    "lease-lost": errors.LeaseLost("Broken by eve.", next_step="Look with `ismgr lease`."),
    "not-approved": errors.NotApproved("One of two.", missing=["one approver"], next_step="Ask another."),
    "not-signed": errors.NotSigned("One commit.", commits=["3f9a: no signature"], next_step="Sign it."),
    "engine-error": errors.EngineError("It failed.", **ENGINE),
    "unreachable": errors.Unreachable("No answer.", cause="timeout", **ENGINE),
    "credential-rejected": errors.CredentialRejected("Wrong password.", **ENGINE),
    "throttled": errors.Throttled("Come back later.", **ENGINE),
    "engine-failed": errors.EngineFailed("It failed.", detail="boom", **ENGINE),
    "engine-timed-out": errors.EngineTimedOut("Too long.", **ENGINE),
    "engine-missing": errors.EngineMissing(engine="pulumi", needed="3.230", found=["PATH"], ways=["ismgr engine"]),
    "partly-applied": errors.PartlyApplied("Stopped.", landed=["a"], not_landed=["b"], unknown=[], next_step="Plan."),
    "cancelled": errors.Cancelled("Stopped.", next_step="Plan again."),
}

CODES = {
    errors.InternalError: ExitCode.INTERNAL,
    errors.InputError: ExitCode.INPUT,
    errors.Refused: ExitCode.REFUSED,
    errors.EngineError: ExitCode.ENGINE,
    errors.PartlyApplied: ExitCode.PARTLY_APPLIED,
    errors.Cancelled: ExitCode.CANCELLED,
}


def test_every_member_of_the_family_is_made_here() -> None:
    family = {kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, IsmgrError)}
    assert {type(one) for one in MADE.values()} == family - {IsmgrError}


@pytest.mark.parametrize("reason", MADE)
def test_the_reason_is_the_class_in_kebab_case(reason: str) -> None:
    assert MADE[reason].reason == reason


@pytest.mark.parametrize("error", MADE.values(), ids=MADE)
def test_the_branch_of_the_family_decides_the_exit_code(error: IsmgrError) -> None:
    assert [code for kind, code in CODES.items() if isinstance(error, kind)] == [error.exit_code]


@pytest.mark.parametrize("error", MADE.values(), ids=MADE)
def test_an_error_says_its_sentence_and_what_to_do_next(error: IsmgrError) -> None:
    text = str(error)
    assert error.summary in text
    assert error.next_step in text
    assert error.next_step or "get it by" in text or "no name" in text


@pytest.mark.parametrize("error", [one for one in MADE.values() if isinstance(one, errors.InputError | errors.Refused)])
def test_wrong_input_and_refusals_say_that_nothing_was_touched(error: IsmgrError) -> None:
    assert error.untouched == "Nothing was touched."


def test_every_diagnostic_is_in_the_text_of_an_input_error() -> None:
    two = [Diagnostic(summary=f"mistake {n}", position=Position("a.yaml", n, 1)) for n in (1, 2)]
    text = str(errors.EstateError("Two.", diagnostics=two, next_step="Mend them."))
    assert text.splitlines()[1:] == ["a.yaml:1:1: error: mistake 1", "a.yaml:2:1: error: mistake 2"]


def test_a_stale_plan_names_each_thing_that_moved() -> None:
    error = errors.StalePlan(moved=["document a.yaml changed", "the inventory changed"])
    assert "document a.yaml changed; the inventory changed" in str(error)


def test_a_missing_engine_lists_where_it_was_looked_for_and_each_way_to_get_it() -> None:
    text = str(errors.EngineMissing(engine="pulumi", needed="3.230", found=["PATH", "cache"], ways=["a", "b"]))
    assert text.count("looked at: ") == text.count("get it by: ") == 2


def test_exit_codes_are_those_that_pipelines_rely_on() -> None:
    assert {one.name: int(one) for one in ExitCode} == {
        "DONE": 0,
        "INPUT": 1,
        "CHANGES": 2,
        "REFUSED": 3,
        "ENGINE": 4,
        "PARTLY_APPLIED": 5,
        "OBJECTIVE_MISSED": 6,
        "INTERNAL": 70,
        "CANCELLED": 130,
    }


def test_an_error_without_required_words_survives_a_process_boundary() -> None:
    copy = pickle.loads(pickle.dumps(errors.Cancelled("Stopped.", next_step="Plan again.")))  # noqa: S301
    assert (copy.summary, copy.next_step) == ("Stopped.", "Plan again.")
