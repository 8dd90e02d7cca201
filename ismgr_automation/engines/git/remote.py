"""A remote of a repository and one ref of ours there: fetched beside what is here, and pushed on top of what is there.
Nothing is ever forced, and no ref of this repository is changed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import (
    CredentialRejected,
    EngineError,
    EngineFailed,
    EngineTimedOut,
    SettingsError,
    Unreachable,
)
from ismgr_automation.engines.git.repository import ENGINE, Repository
from ismgr_automation.ports.hosts import Reach

INCOMING = "refs/ismgr-incoming"
"""Where what was fetched lies while it is looked at."""

_QUIET = ("--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--quiet")

_REFUSED = (
    "denied",
    "insufficient permission",
    "authentication failed",
    "could not read username",
    "could not read password",
    "host key verification failed",
    "error: 401",
    "error: 403",
    "not allowed",
    "hook declined",
    "protected",
    "prohibited",
)
"""What git, SSH, servers and forges say to somebody who may not, in whatever case."""

_HELD = ("cannot lock ref", "failed to update ref")
"""What git says where somebody else is just moving the same ref."""

_REACHES: tuple[tuple[str, Reach], ...] = (
    ("resolve host", Reach.DNS),
    ("Name or service not known", Reach.DNS),
    ("timed out", Reach.TIMEOUT),
    ("No route to host", Reach.TIMEOUT),
)
"""Why nobody answered, by git's words; any others mean that the remote is not there."""


class Remote:
    """One remote by its name. Raises ``SettingsError`` when the repository has none of that name."""

    def __init__(self, repository: Repository, name: str) -> None:
        self._repository = repository
        self.name = name
        known = repository.run(["remote"]).decode("utf-8", "replace").split("\n")[:-1]
        if name not in known:
            raise _no_remote(repository, name, known)

    def tip(self, ref: str) -> str:
        """The commit that a ref of the remote points at now; empty when it has none. Raises ``Unreachable`` and
        ``CredentialRejected``."""
        listed = self._asked("looked at", ["ls-remote", "--refs", "--", self.name, ref]).split("\n")
        return next((line.split("\t")[0] for line in listed if line.endswith(f"\t{ref}")), "")

    @contextmanager
    def fetched(self, ref: str) -> Iterator[str]:
        """The commit of a ref as the remote has it, with all that belongs to it; empty when it has none. It is kept
        here while the block runs. Raises as ``tip``."""
        if not self.tip(ref):
            yield ""
            return
        kept = f"{INCOMING}/{secrets.token_hex(8)}"
        try:
            self._asked("fetched from", ["fetch", *_QUIET, "--", self.name, f"+{ref}:{kept}"])
            yield self._repository.commit(kept)
        finally:
            self._repository.run(["update-ref", "-d", kept])

    def push(self, commit: str, ref: str, expected: str) -> bool:
        """Point a ref of the remote at a commit whose history has the expected one (empty: no such ref) in it. False
        when it was moved meanwhile: fetch it and try again. Raises as ``tip``, for a remote that does not take it."""
        try:
            self._asked("pushed to", ["push", "--quiet", "--no-verify", "--", self.name, f"{commit}:{ref}"])
        except EngineError as problem:
            if self.tip(ref) == expected and not _is_held(problem.__cause__):
                raise
            return False
        return True

    def _asked(self, verb: str, arguments: list[str]) -> str:
        try:
            return self._repository.run(arguments).decode("utf-8", "replace")
        except EngineTimedOut as problem:
            raise _away(self.name, verb, Reach.TIMEOUT, "no answer in time") from problem
        except EngineFailed as problem:
            raise explained(self.name, verb, problem.detail) from problem


def explained(name: str, verb: str, words: str) -> EngineError:
    """The error for what git said when a remote could not be ``verb`` ("looked at", "pushed to")."""
    if any(one in words.lower() for one in _REFUSED):
        return CredentialRejected(
            f"The remote {name} cannot be {verb}: it does not let us.",
            engine=ENGINE,
            subject=name,
            untouched="The remote is as it was.",
            next_step="Use a key or token that may do that; a forge may protect refs/ismgr/* as it does branches.",
            detail=words,
        )
    cause = next((reach for said, reach in _REACHES if said in words), Reach.REFUSED)
    return _away(name, verb, cause, words)


def _is_held(said: BaseException | None) -> bool:
    return isinstance(said, EngineFailed) and any(one in said.detail for one in _HELD)


def _away(name: str, verb: str, cause: Reach, words: str) -> Unreachable:
    last = [line.strip() for line in words.splitlines() if line.strip()]
    why = f": {last[0].removeprefix('fatal: ').rstrip('.')}" if last else ""
    return Unreachable(
        f"The remote {name} cannot be {verb}{why}.",
        engine=ENGINE,
        subject=name,
        cause=cause.value,
        next_step=f"Look at `git remote get-url {name}` and the way to it, and try again.",
    )


def _no_remote(repository: Repository, name: str, known: list[str]) -> SettingsError:
    if not known:
        return SettingsError(
            f"The repository at {repository.top} has no remote.",
            next_step="`git remote add origin URL` names the repository that others share with you.",
        )
    near = did_you_mean(name, known)
    expected = "" if near else f"one of {', '.join(known)}"
    wrong = Diagnostic(summary=f"there is no remote {name!r}", expected=expected, suggestion=near)
    return SettingsError(
        f"The repository at {repository.top} has no remote {name!r}.",
        diagnostics=[wrong],
        next_step="Name another with --remote.",
    )
