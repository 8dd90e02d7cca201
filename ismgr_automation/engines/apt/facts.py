"""Reads packages, versions on offer and due restarts from many hosts, with one script over one connection each. Changes
nothing there."""

from __future__ import annotations

import importlib.resources
from datetime import UTC, datetime, timedelta

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.apt.reading import Reading, facts_of
from ismgr_automation.engines.ssh.remote import Answer, Job, Rights, Targets, run_on
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach, Reachability
from ismgr_automation.ports.packages import Fleet, HostFacts
from ismgr_automation.ports.secrets import SecretStore

DEADLINE = timedelta(seconds=120)
"""For the script on one host: needrestart takes its time on a host with many processes."""


class AptFacts:
    """Implements ``ports.packages.FactsReader``. Works without root; then more is unknown."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def read(self, fleet: Fleet, context: Context) -> tuple[HostFacts | Reachability, ...]:
        """One answer for each name, in that order. A host that answers and cannot be read (no Debian, no dpkg) gives a
        ``Reachability`` that is OK, with why.

        Raises ``InputError`` for hosts that cannot be rendered or a key that cannot be used, ``Cancelled``.
        """
        job = Job(
            script=script("offers.sh", "facts.sh"),
            rights=Rights.ROOT_IF_POSSIBLE,
            become_password=fleet.become_password,
            deadline=DEADLINE,
        )
        targets = Targets(hosts=fleet.hosts, names=fleet.names, ssh=fleet.ssh)
        answers = run_on(targets, job, self._store, context.cancelled)
        now = datetime.now(UTC)
        return tuple(_facts(one, now) for one in answers)


def script(*names: str) -> str:
    """Scripts of this package as one, by the names of their files."""
    folder = importlib.resources.files("ismgr_automation.engines.apt")
    return "".join((folder / name).read_text(encoding="utf-8") for name in names)


def _facts(answer: Answer, now: datetime) -> HostFacts | Reachability:
    if answer.reach is not Reach.OK:
        return Reachability(host=answer.host, reach=answer.reach, detail=answer.detail, seconds=answer.seconds)
    try:
        return facts_of(Reading(host=answer.host, text=answer.output, read_at=now, seconds=answer.seconds))
    except InputError as error:
        detail = f"{error.summary} {answer.detail}".strip()
        return Reachability(host=answer.host, reach=Reach.OK, detail=detail, seconds=answer.seconds)
