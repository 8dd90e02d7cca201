"""From what the engine said and how it ended to an error of ours: one table, which a test walks through row by row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import (
    Cancelled,
    CredentialRejected,
    EngineFailed,
    EngineMissing,
    InputError,
    IsmgrError,
    Throttled,
    Unreachable,
)
from ismgr_automation.engines.pulumi.errors import ENGINE, Problem, Said, StackLocked

Make = Callable[[Said, re.Match[str]], IsmgrError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Words of the engine, an example as it prints them, and the error that they become."""

    words: re.Pattern[str]
    example: str
    kind: type[IsmgrError]
    make: Make


def explain(said: Said) -> IsmgrError:
    """The error for a failed run: the program's own first, then the table, then the resources that failed."""
    guilty = _guilty(said)
    if guilty is not None:
        return guilty
    for row in ROWS:
        match = row.words.search(said.text)
        if match is not None:
            return row.make(said, match)
    if said.problem is not None:
        return _program_failed(said, None)
    return EXIT_CODES.get(said.code, _other)(said)


def _guilty(said: Said) -> InputError | None:
    """The program's error, when a line of the program is to blame."""
    if said.problem is None or said.program is None:
        return None
    frames = _frames(said.problem)
    for folder in (said.program, said.root):
        inside = [] if folder is None else [(path, line) for path, line in frames if Path(path).is_relative_to(folder)]
        if inside:
            return _program_failed(said, inside[-1])
    return None


_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+)', re.MULTILINE)


def _frames(problem: Problem) -> tuple[tuple[str, int], ...]:
    """Errors inside ``apply`` reach us as text only, with their frames in it."""
    return problem.frames or tuple((path, int(line)) for path, line in _FRAME.findall(problem.text))


def _program_failed(said: Said, place: tuple[str, int] | None) -> InputError:
    text = said.problem.text if said.problem is not None else ""
    missing = re.search(r"Missing required configuration variable '(?:[^:']+:)?([^']+)'", text)
    position = None
    if place is not None:
        path = Path(place[0])
        shown = path.relative_to(said.root) if said.root is not None and path.is_relative_to(said.root) else path
        position = Position(shown.as_posix(), place[1], 1)
    if missing is not None:
        diagnostic = Diagnostic(
            summary=f"the program needs the config value {missing[1]!r}",
            position=position,
            expected=f"`{missing[1]}: ...` under config of the Stack document",
        )
    else:
        diagnostic = Diagnostic(summary=_last_words(text), position=position)
    return InputError(
        f"{said.subject}: the program failed.",
        diagnostics=[diagnostic],
        untouched=said.untouched or "Some resources had landed before.",
    )


def _last_words(text: str) -> str:
    """The sentence of an error: its own words, or the last line of a traceback."""
    body = re.sub(r"^(python inline source runtime error|an unhandled error occurred): ", "", text.strip())
    if "Traceback (most recent call last)" not in body:
        return " ".join(body.split()) or "it ended with an error"
    lines = [line for line in body.splitlines() if line and not line.startswith((" ", "\t"))]
    return lines[-1] if lines else "it ended with an error"


def _locked(said: Said, _match: re.Match[str]) -> IsmgrError:
    return StackLocked(subject=said.subject, locks=said.locks)


def _passphrase(said: Said, _match: re.Match[str]) -> IsmgrError:
    return CredentialRejected(
        f"{said.subject}: the passphrase does not open the secrets of this stack's state.",
        engine=ENGINE,
        subject=said.subject,
        untouched="Nothing was touched.",
        next_step="Look at `passphrase` of the environment in the Estate document, and at the secret that it names.",
    )


def _login(said: Said, match: re.Match[str]) -> IsmgrError:
    return CredentialRejected(
        f"{said.subject}: the state backend does not accept our credentials: {match[0]}.",
        engine=ENGINE,
        subject=said.subject,
        untouched=said.untouched,
        next_step="Set the backend's credentials in the environment of this process.",
        detail=said.text,
    )


def _plugin(said: Said, match: re.Match[str]) -> IsmgrError:
    name = next((part for part in match.groups() if part), "")
    return EngineMissing(
        engine=f"Pulumi provider {name!r}",
        needed=f"by {said.subject}",
        found=(f"pulumi-resource-{name} on PATH: not there", "the engine's plug-in folder: not there"),
        ways=(
            f"pulumi plugin install resource {name} (`ismgr engine` says where the engine lies)",
            f"any executable pulumi-resource-{name} on PATH",
        ),
    )


def _disk(said: Said, match: re.Match[str]) -> IsmgrError:
    return EngineFailed(
        f"{said.subject}: the disk is full ({match[0]}).",
        engine=ENGINE,
        subject=said.subject,
        untouched=said.untouched,
        next_step="Free some space where the state and TMPDIR are, then run `ismgr plan` to see where things stand.",
        detail=said.text,
    )


def _backend(said: Said, _match: re.Match[str]) -> IsmgrError:
    return Unreachable(
        f"{said.subject}: the state backend cannot be reached: {_tidy(said.text)}",
        engine=ENGINE,
        subject=said.subject,
        cause="refused",
        next_step="Look at `state` of the environment in the Estate document.",
    )


def _throttled(said: Said, match: re.Match[str]) -> IsmgrError:
    return Throttled(
        f"{said.subject}: asked to come back later ({match[0]}).",
        engine=ENGINE,
        subject=said.subject,
        untouched=said.untouched,
        next_step="Wait, and run it again.",
        detail=said.text,
    )


def _input(said: Said, match: re.Match[str]) -> IsmgrError:
    return InputError(
        f"{said.subject}: the program asks for what cannot be.",
        diagnostics=[Diagnostic(summary=" ".join(match[0].split()))],
        untouched=said.untouched or "Some resources had landed before.",
    )


def _protected(said: Said, match: re.Match[str]) -> IsmgrError:
    return EngineFailed(
        f"{said.subject}: {next(part for part in match.groups() if part)} is protected and stays.",
        engine=ENGINE,
        subject=said.subject,
        untouched=said.untouched,
        next_step="Take `protect` off it in the program, apply that, and try again.",
        detail=said.text,
    )


def _damaged(said: Said, _match: re.Match[str]) -> IsmgrError:
    return EngineFailed(
        f"{said.subject}: the stack's state does not hold together.",
        engine=ENGINE,
        subject=said.subject,
        untouched=said.untouched,
        next_step="Look at the state file and at the backup that the engine keeps beside it.",
        detail=said.text,
    )


def _row(words: str, example: str, kind: type[IsmgrError], make: Make) -> Row:
    return Row(words=re.compile(words, re.IGNORECASE | re.MULTILINE), example=example, kind=kind, make=make)


ROWS: tuple[Row, ...] = (
    _row(
        r"the stack is currently locked by",
        "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete "
        "the lock file with `pulumi cancel`.",
        StackLocked,
        _locked,
    ),
    _row(
        r"incorrect passphrase|passphrase must be set",
        "error: getting stack configuration: get stack secrets manager: incorrect passphrase",
        CredentialRejected,
        _passphrase,
    ),
    _row(
        r"no space left on device|disk quota exceeded|file too large",
        "error: could not save state: write /state/.pulumi/stacks/p/s.json: no space left on device",
        EngineFailed,
        _disk,
    ),
    _row(
        r"PULUMI_ACCESS_TOKEN must be set[^\n]*|\[403\][^\n]*|\[401\][^\n]*|NoCredentialProviders[^\n]*"
        r"|password authentication failed[^\n]*",
        "error: PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions",
        CredentialRejected,
        _login,
    ),
    _row(
        r"unable to open bucket|failed to ping PostgreSQL|could not list bucket|check if bucket is accessible",
        "error: unable to open bucket postgres://127.0.0.1:1/x: failed to ping PostgreSQL: dial tcp 127.0.0.1:1: "
        "connect: connection refused",
        Unreachable,
        _backend,
    ),
    _row(
        r"no resource plugin 'pulumi-resource-([^']+)' found|could not find latest version for provider (\S+):"
        r"|could not load plugin for (\S+) provider|unknown provider package (\S+)"
        r"|resource plugin (\S+) is required|failed to (?:find|load|download) plugin:? (\S+)",
        "could not find latest version for provider nope: automatic plugin acquisition is disabled",
        EngineMissing,
        _plugin,
    ),
    _row(
        r"TooManyRequests|Too Many Requests|ThrottlingException|RequestLimitExceeded",
        "error: 429 Too Many Requests",
        Throttled,
        _throttled,
    ),
    _row(
        r"^.*has a problem: [^\n]+",
        "a: probe:index:Thing resource 'a': property size value {-1} has a problem: size must not be negative",
        InputError,
        _input,
    ),
    _row(
        r"Duplicate resource URN '[^']+'",
        "a: Duplicate resource URN 'urn:pulumi:dev::p::probe:index:Thing::a'; try giving it a unique name",
        InputError,
        _input,
    ),
    _row(
        r"""(?:resource )?"?urn:\S+::([^":\s]+)"? cannot be (?:deleted|replaced)\s*because it is protected"""
        r"""|unable to (?:delete|replace) resource "urn:\S+::([^":\s]+)"\s*as it is currently marked for protection""",
        'unable to delete resource "urn:pulumi:dev::p::probe:index:Thing::a"\n'
        "as it is currently marked for protection. To unprotect the resource, remove the `protect` flag",
        EngineFailed,
        _protected,
    ),
    _row(
        r"snapshot integrity failure|refusing to use it|failed to deserialize|could not deserialize deployment",
        "error: the current deployment has snapshot integrity failure; refusing to use it",
        EngineFailed,
        _damaged,
    ),
)
"""Read from top to bottom, the first row that matches counts. Examples are what engine 3.230.0 prints."""


def _other(said: Said) -> IsmgrError:
    what = "; ".join(said.failures) or _tidy("\n".join(said.errors) or said.stderr)
    return EngineFailed(
        f"{said.subject}: {what or f'the engine ended with code {said.code}'}",
        engine=ENGINE,
        subject=said.subject,
        untouched=said.untouched,
        next_step="Mend what it says, and plan again.",
    )


def _cancelled(said: Said) -> IsmgrError:
    return Cancelled(f"{said.subject}: the engine was told to stop.", untouched=said.untouched)


def _no_stack(said: Said) -> IsmgrError:
    return EngineFailed(
        f"{said.subject}: the stack went away while we worked on it.",
        engine=ENGINE,
        subject=said.subject,
        untouched=said.untouched,
        next_step="Look who else uses this state backend, then plan again.",
        detail=said.text,
    )


def _unauthenticated(said: Said) -> IsmgrError:
    return CredentialRejected(
        f"{said.subject}: the state backend does not know who we are.",
        engine=ENGINE,
        subject=said.subject,
        untouched=said.untouched,
        next_step="Set the backend's credentials in the environment of this process.",
        detail=said.text,
    )


def _internal(said: Said) -> IsmgrError:
    return EngineFailed(
        f"{said.subject}: the engine broke down (code {said.code}).",
        engine=ENGINE,
        subject=said.subject,
        untouched=said.untouched,
        next_step="Run it again; if it breaks down each time, report it to the makers of the engine.",
        detail=said.text,
    )


EXIT_CODES: Mapping[int, Callable[[Said], IsmgrError]] = {
    1: _other,
    2: _other,
    3: _unauthenticated,
    4: _other,
    5: _other,
    6: _no_stack,
    7: _other,
    8: _cancelled,
    9: _other,
    255: _internal,
}
"""The engine's exit codes (its taxonomy, ``exit.go``) where no row knew better. 4, 5 and 9 are reserved there."""


def _tidy(text: str) -> str:
    lines = [line.removeprefix("error: ").strip() for line in text.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines))
