"""What is kept between runs, wired from the settings of one environment: database, steps, evidence, patches. Part of
``wiring``: nobody else names engines. Nothing is opened before it is first used."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ismgr_automation.core.events import Emit, ignore
from ismgr_automation.estate.documents import PlanCredentials
from ismgr_automation.estate.model import Estate
from ismgr_automation.estate.resolve import Chosen, database_url, duration, evidence_folder, reference, secret_backends
from ismgr_automation.evidence.recorder import ChainRecorder, Recorder
from ismgr_automation.ports.drills import DrillJournal, DrillStore
from ismgr_automation.ports.evidence import Anchor, EvidenceLog
from ismgr_automation.ports.leases import LeaseStore
from ismgr_automation.ports.ledger import Ledger
from ismgr_automation.ports.patching import PatchStore
from ismgr_automation.ports.recovery import Attempt
from ismgr_automation.ports.runs import Executors, RunLedger, StepJournal
from ismgr_automation.ports.sequencer import Sequencer, Work
from ismgr_automation.ports.signing import Signer
from ismgr_automation.runs.desk import MayBegin, Server

if TYPE_CHECKING:
    from ismgr_automation.core.secret import Secret
    from ismgr_automation.engines.database import Database
    from ismgr_automation.engines.git.first_seen import GitFirstSeen
    from ismgr_automation.engines.secrets import Backends


def executor_name() -> str:
    """A name that no executor ever had before."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(frozen=True, kw_only=True)
class Records:
    """The records of one environment. ``directory`` is the estate's own folder, ``tree`` its files at one commit."""

    estate: Estate
    chosen: Chosen
    directory: Path
    tree: Path
    emit: Emit = ignore
    credentials: PlanCredentials | None = None
    """Those of planning, where the environment has some: who plans need not be able to read what who applies can."""

    @cached_property
    def executor(self) -> str:
        """The name under which this process executes units."""
        return executor_name()

    @property
    def ledger(self) -> Ledger:
        """What was applied last."""
        return self.database.ledger(self.chosen.name)

    @property
    def leases(self) -> LeaseStore:
        """Who may apply now."""
        return self.database.leases

    @property
    def runs(self) -> RunLedger:
        """What was begun, and how it ended."""
        return self.database.runs

    @property
    def journal(self) -> StepJournal:
        """The steps of runs."""
        return self.database.journal

    @property
    def executors(self) -> Executors:
        """Who executes units now."""
        return self.database.executors

    @property
    def patches(self) -> PatchStore:
        """What hosts were like, who waits, and what was patched."""
        return self.database.patches(self.chosen.name)

    @property
    def drills(self) -> DrillStore:
        """The results of drills."""
        return self.database.drills(self.chosen.name)

    def drill_journal(self, run: str) -> DrillJournal:
        """The journal of one drill, in a folder of its own beside the database of one machine."""
        from ismgr_automation.engines.drill_files import FileDrillJournal

        return FileDrillJournal(self.directory / ".ismgr" / "drills" / run)

    def drill_attempts(self, run: str) -> Sequence[Attempt]:
        """What is left of the log of one drill's client in that folder."""
        from ismgr_automation.engines.probe.log import NAME, LogReader

        reader = LogReader(self.drill_journal(run).folder / NAME)
        with suppress(OSError, ValueError):
            reader.read()
        return reader.attempts

    @property
    def first_seen(self) -> GitFirstSeen:
        """Since when versions are known (``ports.patching.FirstSeen``): of the estate, all environments together."""
        from ismgr_automation.engines.git.first_seen import GitFirstSeen

        return GitFirstSeen(self.directory, self.estate.document.name)

    def check_steps(self) -> None:
        """Raise ``EngineMissing`` when this Python and SQLite cannot keep the steps of runs."""
        from ismgr_automation.engines.steps import fitness

        fitness.check(self._url)

    @contextmanager
    def sequencing(self, work: Work) -> Iterator[Sequencer]:
        """Units on this process and on every worker."""
        from ismgr_automation.engines.steps.rows import beside
        from ismgr_automation.engines.steps.sequencer import DbosSequencer
        from ismgr_automation.runs.keeper import this_process

        place = beside(self._url, self._password, self.database.schema)
        with DbosSequencer(
            place,
            executor=self.executor,
            holder=this_process("executor"),
            executors=self.executors,
            work=work,
            at_once=max(2, os.cpu_count() or 2),
            ttl=duration(self.chosen.environment.lease_ttl),
            emit=self.emit,
        ) as sequencer:
            yield sequencer

    def serving(self, work: Work, may_begin: MayBegin, at_once: int) -> AbstractContextManager[Server]:
        """Units of runs that other processes coordinate, carried out in this one. Each call is a new executor."""
        from ismgr_automation.engines.steps.rows import beside
        from ismgr_automation.engines.steps.server import DbosServer
        from ismgr_automation.runs.keeper import this_process

        return DbosServer(
            beside(self._url, self._password, self.database.schema),
            executor=executor_name(),
            holder=this_process("worker"),
            executors=self.executors,
            work=work,
            may_begin=may_begin,
            at_once=at_once,
            ttl=duration(self.chosen.environment.lease_ttl),
        )

    @contextmanager
    def inline(self, work: Work) -> Iterator[Sequencer]:
        """Units in this process alone: nobody else can read a working tree."""
        from ismgr_automation.ports.memory import InlineSequencer

        yield InlineSequencer(work, workers=max(2, os.cpu_count() or 2))

    @cached_property
    def log(self) -> EvidenceLog:
        """Where the evidence of this environment lies."""
        from ismgr_automation.engines.evidence_files import FileEvidenceLog

        return FileEvidenceLog(evidence_folder(self.chosen.environment, self.directory), self.chosen.name)

    @cached_property
    def anchor(self) -> Anchor | None:
        """Where heads are remembered; None where the environment wants none."""
        from ismgr_automation.engines.git.anchor import GitAnchor

        if not self.chosen.environment.evidence.anchor:
            return None
        return GitAnchor(self.directory, self.estate.document.name)

    @property
    def signer(self) -> Signer | None:
        """Who signs the end of each run; None where the environment has no runner key. Raises ``InputError`` for a key
        that cannot be had."""
        from ismgr_automation.engines.signing import AgentSigner, SecretSigner

        public = self.chosen.environment.evidence.runner_agent
        if public is not None:
            held = AgentSigner(public)
            held.refuse_if_absent()
            return held
        ref = reference(self.chosen.environment.evidence.runner_key)
        return SecretSigner(self._store.open(ref), ref) if ref is not None else None

    def evidence(self, run: str) -> Recorder:
        """The recorder of one run."""
        return ChainRecorder(
            log=self.log,
            environment=self.chosen.name,
            run=run,
            clock=lambda: datetime.now(UTC),
            signer=self.signer,
            anchor=self.anchor,
        )

    @cached_property
    def database(self) -> Database:
        """The database of the environment; nothing is connected to before it is needed. Raises ``SettingsError``."""
        from ismgr_automation.engines.database import open_database

        return open_database(self._url, self._password, estate=self.estate.document.name)

    @cached_property
    def _url(self) -> str:
        return database_url(self.chosen.environment, self.directory)

    @cached_property
    def _password(self) -> Secret | None:
        named = reference(self.chosen.environment.database_password)
        return self._store.open(named) if named is not None else None

    @cached_property
    def _store(self) -> Backends:
        from ismgr_automation.engines.secrets import Backends

        described = secret_backends(self.estate.document, self.directory, self.credentials, tree=self.tree)
        return Backends.from_json(described)
