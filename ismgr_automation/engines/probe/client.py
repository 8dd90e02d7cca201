"""Prepares the probe's table, starts, adopts and ends its process, and reads back what the database holds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ismgr_automation.core.errors import Cancelled, EngineFailed, Refused, Unreachable
from ismgr_automation.engines.probe.log import NAME, LogReader, boot, in_use
from ismgr_automation.engines.probe.running import ENGINE, PostgresqlRunningProbe, adopt, launch
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import Outcome, ProbeRequest, Seen, Sight
from ismgr_automation.ports.secrets import SecretStore

if TYPE_CHECKING:
    from ismgr_automation.core.secret import Secret, SecretRef
    from ismgr_automation.engines.probe.link import Link

COLUMNS = "run number at"
PAGE = 10_000
"""Rows of one answer."""
LEAP = 1_000_000
"""From a multiple of this on count the numbers of a log that begins anew."""
SLOW = timedelta(seconds=30)
"""For statements that are not measured."""


@dataclass(frozen=True, slots=True)
class PostgresqlProbe:
    """``ports.recovery.ProbeClient`` over libpq.

    A probe outlives an owner that is killed for ``ProbeRequest.linger``, so that ``resume`` finds it at work and the
    outage that the client saw has no hole where the drill crashed. After that time it ends by itself.
    """

    store: SecretStore
    _opened: dict[tuple[str, SecretRef], Secret] = field(default_factory=dict, repr=False)
    """Passwords of runs: once something is broken, whoever keeps them may not be reached any more."""

    def start(self, request: ProbeRequest, context: Context) -> PostgresqlRunningProbe:
        """Prepare the table and begin."""
        folder = _folder(request, context)
        if _log(folder).run:
            raise Refused(
                f"The probe of run {request.run} has a log already, in {folder}.",
                next_step="Resume it, or begin a new run.",
            )
        self._prepare(request)
        running = launch(request, self._password(request), folder, context)
        try:
            running.until_acknowledged(context)
        except BaseException:
            running.stop()
            raise
        return running

    def resume(self, request: ProbeRequest, context: Context) -> PostgresqlRunningProbe:
        """Adopt it, or start it anew."""
        folder = _folder(request, context)
        log, at_work = _log(folder), in_use(folder / NAME)
        if not log.run and not at_work:
            return self.start(request, context)  # the drill died before its probe had written a line
        if log.run and log.boot != boot():
            # the clock began anew with the machine: a log for each. The end of the old one may not have got to the disk
            log.path.replace(folder / f"{NAME}.{log.boot}")
            first = log.last - log.last % LEAP + LEAP + 1
            return launch(request, self._password(request), folder, context, first)
        running = adopt(request, folder, context) if at_work else None
        return running or launch(request, self._password(request), folder, context)

    def sees(self, request: ProbeRequest, context: Context) -> Seen:
        """A row of its own is written through all endpoints at once: a server whose disk is full, and one that waits
        for a standby which is away, says that it is a primary, and takes no write."""
        if context.cancelled.is_set():
            raise Cancelled(f"The detector of run {request.run} was stopped.")
        password = self._password(request)
        with ThreadPoolExecutor(max_workers=len(request.endpoints), thread_name_prefix="ismgr-detector") as pool:
            looks = [pool.submit(_seen, request, place, password) for place in range(len(request.endpoints))]
        causes = [one.result() for one in looks]
        if "" in causes:
            return Seen(sight=Sight.DONE, words=f"{request.endpoints[causes.index('')]} takes writes")
        named = zip(request.endpoints, causes, strict=True)
        return Seen(sight=Sight.NOT_DONE, words="; ".join(f"{endpoint}: {cause}" for endpoint, cause in named))

    def held(self, request: ProbeRequest, context: Context) -> frozenset[int]:
        """The numbers of the run, in pages."""
        from ismgr_automation.engines.probe.link import over

        statement = over(
            "SELECT number FROM {} WHERE run = $1 AND number > $2::bigint ORDER BY number LIMIT $3::bigint",
            request.table,
        )
        found: set[int] = set()
        with closing(self._primary(request)) as link, _told(request):
            page = [0]
            while page:
                if context.cancelled.is_set():
                    raise Cancelled(f"Counting the writes of run {request.run} was stopped.")
                page = [int(row[0]) for row in link.ask(statement, (request.run, str(page[-1]), str(PAGE)), SLOW)]
                found.update(page)
        return frozenset(found)

    def _prepare(self, request: ProbeRequest) -> None:
        from ismgr_automation.engines.probe.link import over

        table = request.table
        with closing(self._primary(request)) as link, _told(request):
            # asked first: to make a table that is there already needs a right that the user may not have
            if link.ask("SELECT to_regclass(quote_ident($1))", (table,), SLOW) == [("",)]:
                made = (
                    "CREATE TABLE {} (run text NOT NULL, number bigint NOT NULL,"
                    " at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (run, number))"
                )
                link.ask(over(made, table), (), SLOW)
            ((columns,),) = link.ask(
                "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute"
                " WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped",
                (table,),
                SLOW,
            )
            if columns != COLUMNS:
                raise EngineFailed(
                    f"The table {table} of {request.database} is no probe's: its columns are {columns.split()}.",
                    engine=ENGINE,
                    subject=table,
                    untouched="Nothing was changed in it.",
                    next_step="Name another table in the plan's probe.",
                )
            link.ask(over("DELETE FROM {} WHERE run <> $1", table), (request.run,), SLOW)

    def _password(self, request: ProbeRequest) -> Secret:
        """Opened once for a run."""
        key = request.run, request.password
        if key not in self._opened:
            self._opened[key] = self.store.open(request.password)
        return self._opened[key]

    def _primary(self, request: ProbeRequest) -> Link:
        """Through the first endpoint that leads to where writes are taken, and not to a standby."""
        from ismgr_automation.engines.probe.link import Access, Door, Unusable

        access = Access(
            endpoints=request.endpoints,
            database=request.database,
            user=request.user,
            password=self._password(request),
            patience=request.patience,
            resolvers=request.resolvers,
        )
        causes = []
        for place, endpoint in enumerate(request.endpoints):
            try:
                link = Door(access).open_at(place)
                if link.ask("SHOW transaction_read_only", (), SLOW) == [("off",)]:
                    return link
            except Unusable as problem:
                causes.append(f"{endpoint}: {problem}")
                continue
            link.close()
            causes.append(f"{endpoint}: it takes no writes")
        raise Unreachable(
            f"No endpoint of the probe leads to a primary: {'; '.join(causes)}.",
            engine=ENGINE,
            subject=request.database,
            cause="refused",
            next_step="Correct endpoints, user and password in the plan's probe, or mend the service.",
        )


@contextmanager
def _told(request: ProbeRequest) -> Iterator[None]:
    from ismgr_automation.engines.probe.link import Unusable

    try:
        yield
    except Unusable as problem:
        raise EngineFailed(
            f"The probe's table {request.table} of {request.database}: {problem}.",
            engine=ENGINE,
            subject=request.table,
            next_step="Look at the server's own log; the probe's user needs to make, read and write this table.",
        ) from problem


def _seen(request: ProbeRequest, place: int, password: Secret) -> str:
    """Why no write is taken through one endpoint; empty where it is."""
    from ismgr_automation.engines.probe.link import Access, Door, Unusable, over

    access = Access(
        endpoints=(request.endpoints[place],),
        database=request.database,
        user=request.user,
        password=password,
        patience=request.patience,
        resolvers=request.resolvers,
    )
    statement = over(
        "INSERT INTO {} (run, number) VALUES ($1, $2) ON CONFLICT (run, number) DO UPDATE SET at = now()",
        request.table,
    )
    try:
        with closing(Door(access).open_at(0)) as link:
            answer = link.write(statement.encode(), (f"detector of {request.run}", str(place + 1)), request.patience)
    except Unusable as problem:
        return str(problem)
    return "" if answer.outcome is Outcome.ACKED else answer.cause or str(answer.outcome)


def _log(folder: Path) -> LogReader:
    log = LogReader(folder / NAME)
    log.read()
    return log


def _folder(request: ProbeRequest, context: Context) -> Path:
    folder = (request.folder or context.work).absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
