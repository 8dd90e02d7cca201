"""Installs exact versions of packages on many hosts at once. Decides nothing: what differs from the request is refused.

The work is not done inside our connection. dpkg that is killed between unpacking and configuring leaves a broken host,
and a connection may be lost at any time: so the host gets the work as a script, which runs as a unit of systemd's own
(outside of any session, whatever ``KillUserProcesses`` says), or in a session of its own where there is no systemd. We
only wait for its end. A call that lost its host is made again: it waits for what still runs there, reads the journal
``/var/lib/ismgr/patch/RUN/journal``, and finds the moves made, or heals what was left and goes on. One piece of work
at a time runs on a host, whoever asked for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.apt.answers import Verb, result_of
from ismgr_automation.engines.apt.facts import script
from ismgr_automation.engines.ssh import fencing
from ismgr_automation.engines.ssh.remote import Job, Rights, Targets, run_on
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.packages import Fleet, Move, PackageRequest, PackageResult
from ismgr_automation.ports.secrets import SecretStore

GRACE = timedelta(seconds=30)
"""More than the deadline of a request, for a host that says that it is still at work."""

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~-]*")
_DIGEST = re.compile(r"(sha256:[0-9a-f]{64})?")
_NOTHING = "-"
"""The word of the script for what is not installed before, and for no digest."""
_ODD = re.compile(r"[^A-Za-z0-9._-]")


class AptManager:
    """Implements ``ports.packages.PackageManager``. Half of a deadline is for waiting until somebody else gives dpkg's
    lock back: who got it later could not finish."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def refresh(self, fleet: Fleet, deadline: timedelta, context: Context) -> tuple[PackageResult, ...]:
        """Let hosts read their repositories' indexes; one that cannot read a source fails, with apt's words on it."""
        request = PackageRequest(fleet=fleet, moves={}, run=context.run or "refresh", deadline=deadline)
        return self._ask(Verb.REFRESH, request, context)

    def check(self, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        """What ``apply`` would answer. Asks apt to simulate, and dpkg's lock whether it is free."""
        return self._ask(Verb.CHECK, request, context)

    def apply(self, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        """Make the moves, and pin these versions in ``/etc/apt/preferences.d/ismgr-patch``.

        Raises ``Cancelled``; what hosts had begun then goes on to its end there.
        """
        return self._ask(Verb.APPLY, request, context)

    def rollback(self, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        """Make moves back: ``after`` is the former version. Configures first what was left half-installed; then the
        exact former version replaces what is broken. apt may mend what is left, as long as it takes no other package
        (WIDER)."""
        return self._ask(Verb.ROLLBACK, request, context)

    def _ask(self, verb: Verb, request: PackageRequest, context: Context) -> tuple[PackageResult, ...]:
        fleet = request.fleet
        job = Job(
            script=script("attend.sh"),
            arguments=_arguments(verb, request, context),
            input={name: _input(request.moves.get(name, ())) for name in fleet.names},
            rights=Rights.ROOT,
            become_password=fleet.become_password,
            deadline=request.deadline + GRACE,
        )
        targets = Targets(hosts=fleet.hosts, names=fleet.names, ssh=fleet.ssh)
        answers = run_on(targets, job, self._store, context.cancelled)
        return tuple(result_of(one, verb, request.moves.get(one.host, ())) for one in answers)


def _arguments(verb: Verb, request: PackageRequest, context: Context) -> tuple[str, ...]:
    run = _ODD.sub("-", request.run).lstrip(".-")
    if not run:
        raise InputError("A run without an id cannot patch: hosts keep former versions by it.")
    lease, token = "", "0"
    if request.fence and context.token and verb in {Verb.APPLY, Verb.ROLLBACK}:
        lease, token, _ = fencing.arguments(request.fence, context.token, run)
    seconds = max(1, round(request.deadline.total_seconds()))
    keep = "0" if not request.keep_former else "2" if request.former_required else "1"
    return (verb.value, run, str(seconds), keep, lease, token)


def _input(moves: tuple[Move, ...]) -> str:
    rows = "".join("\t".join(_fields(move)) + "\n" for move in moves)
    return f"{rows}@@ work\nfence() (\n{fencing.SCRIPT}\n)\n{script('offers.sh', 'work.sh')}"


def _fields(move: Move) -> tuple[str, ...]:
    """What hosts are told of a move. Raises ``InputError`` for words that no package of Debian's has."""
    words: Mapping[str, str] = {
        "name": move.name,
        "architecture": move.architecture,
        "version before": move.before or _NOTHING,
        "version after": move.after,
    }
    for what, word in words.items():
        if not _WORD.fullmatch(word) and (what, word) != ("version before", _NOTHING):
            raise InputError(f"{word!r} is no {what} of a Debian package.")
    if not _DIGEST.fullmatch(move.digest):
        raise InputError(f"{move.digest!r} is no digest of {move.name}: sha256: and 64 digits are needed.")
    return (*words.values(), move.digest or _NOTHING)
