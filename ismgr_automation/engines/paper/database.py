"""PostgreSQL's part of a recovery by hand: on the paths of a layout, with the verbs' own statements. Texts only."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from ismgr_automation.engines.paper.desk import FOLDER, on
from ismgr_automation.engines.postgresql.layout import FILE, Layout, slot_of
from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.paper import Order, Return, When
from ismgr_automation.ports.recovery import FenceRequest
from ismgr_automation.ports.upkeep import Cluster

WAY = f"{FOLDER}/way"
"""How the old primary will connect to the new one; no password stands in it."""
LAST = f"{FOLDER}/last-record"
"""What a clean stop printed: where the last record begins."""

READS = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)
"""What ``pg_rewind`` calls on the new primary."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member's paths and commands, as words for a shell."""

    data: str
    settings: str
    programs: str
    sockets: str
    user: str
    start: str
    stop: str
    port: str

    @property
    def file(self) -> str:
        """The settings file that makes it follow."""
        return f"{self.settings}/{FILE}"

    @property
    def begin(self) -> str:
        """The beginning of each script: where it may stand, and how the server is asked."""
        return (
            "cd /\n"
            f'as() {{ runuser -u {self.user} -- "$@"; }}\n'
            f"sql() {{ as {self.programs}/psql -XAtqw -v ON_ERROR_STOP=1 -h {self.sockets} -p {self.port} -d postgres "
            '-c "$1"; }\n'
        )

    @property
    def standby_signal(self) -> str:
        """From then on whoever starts the server starts a standby."""
        signal = f"{self.data}/standby.signal"
        return f": > {signal} && chown {self.user}: {signal} && sync {signal}"


def _member(layout: Layout, cluster: Cluster, host: str) -> Member:
    return Member(*layout.arguments(cluster, host))


def promote(layout: Layout, cluster: Cluster, to: str) -> tuple[Order, ...]:
    """One block; run again it does no more."""
    new = _member(layout, cluster, to)
    seconds = max(1, int(cluster.deadline.total_seconds()))
    script = f"""{new.begin}\
[ "$(sql 'SELECT pg_is_in_recovery()')" = f ] || sql 'SELECT pg_promote(true, {seconds})'
rm -f {new.file}
sql "SELECT CASE WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'
  THEN 'NO PRIMARY' ELSE 'PRIMARY' END\""""
    return (
        Order(
            title=f"Promote {to}",
            script=on(to, script, cluster.fleet),
            sees="PRIMARY",
            fails=f"Look at the server's log on {to}, and run the block again. As long as it is no primary the old "
            "side may be given its role back.",
        ),
    )


def demote(layout: Layout, cluster: Cluster, host: str, to: str) -> tuple[Order, ...]:
    """Everything got ready, the stop, and the last record on the other side."""
    old, new = _member(layout, cluster, host), _member(layout, cluster, to)
    ready = f"""{old.begin}sql CHECKPOINT
sql "SELECT CASE WHEN count(*) = 1 THEN 'STREAMS' ELSE 'DOES NOT STREAM' END FROM pg_stat_replication
  WHERE application_name = '{to}' AND state = 'streaming'\""""  # noqa: S608  names that were checked
    stop = f"""{old.begin}{old.stop}
as {old.programs}/pg_controldata {old.data} | grep -Eq '^Database cluster state: +shut down( in recovery)?$'
{old.standby_signal}
echo "ENDED $(as {old.programs}/pg_controldata {old.data} | sed -n 's/^Latest checkpoint location: *//p')"
echo STOPPED"""
    wait = f"""{new.begin}for try in $(seq 60); do
  found=$(sql "SELECT pg_last_wal_replay_lsn() > '$1'")
  [ "$found" = t ] && break
  sleep 0.5
done
[ "$found" = t ] && echo ALL ARRIVED"""
    return (
        Order(
            title=f"See that {to} streams from {host}",
            script=on(host, ready, cluster.fleet),
            sees="STREAMS",
            fails="A planned move needs a standby that streams. Mend that first.",
        ),
        _slot(new, cluster.fleet, host, to),
        Order(
            title=f"Stop {host} cleanly; from then on it can start as a standby only",
            script=on(host, stop, cluster.fleet).replace("<<'END'", f"<<'END' | tee {LAST}", 1),
            sees="STOPPED",
            fails=f"Before that it must say where its last record begins, for example `ENDED 0/5000028`. Else nobody "
            f"may be promoted: remove `{old.data}/standby.signal` on {host} and start it again with `{old.start}`.",
        ),
        Order(
            title=f"Wait until {to} has all of it",
            script=on(to, wait, cluster.fleet, f"\"$(sed -n 's/^ENDED //p' {LAST})\""),
            sees="ALL ARRIVED",
            fails=f"Not all that was written is on {to}. Nobody may be promoted: remove `{old.data}/standby.signal` on "
            f"{host} and start it again with `{old.start}`.",
        ),
    )


def retire(layout: Layout, cluster: Cluster, request: FenceRequest) -> Order:
    """Stop what a fence held back; what it wrote last is not waited for."""
    host = request.host
    old = _member(layout, cluster, host)
    script = f"""{old.begin}{old.standby_signal}
{old.stop}
as {old.programs}/pg_controldata {old.data} | grep '^Database cluster state' || true
if as {old.programs}/pg_ctl status -D {old.data} > /dev/null; then echo IT RUNS; else echo CAN ONLY BE A STANDBY; fi"""
    again = ""
    if request.bmc is not None:
        again = "Until this is done it may be a second primary: be quick, and cut its power again where you cannot. "
    return Order(
        title=f"Stop the server of {host}; from then on it can start as a standby only",
        script=on(host, script, cluster.fleet) if request.bmc is None else _when_up(host, script, cluster.fleet),
        sees="CAN ONLY BE A STANDBY",
        fails=f"{again}Leave the fence up as long as this line is not there.",
    )


def rejoin(layout: Layout, request: Return) -> tuple[Order, ...]:
    """Who knows the way, the log kept, then from what costs least to a copy of everything, and the proof."""
    old, new = (_member(layout, request.cluster, name) for name in (request.host, request.to))
    follow = _follow(old, request)
    rewind, rebuild = _rewind(old, request), _rebuild(old, request)
    match request.way:
        case "rebuild":
            ways = [rebuild]
        case "rewind":
            ways = [follow, rewind] if request.planned else [rewind]
        case _:
            ways = [follow, rewind, rebuild] if request.planned else [rewind, rebuild]
    first, *others = ways
    return (
        _way(old, new, request),
        _grants(new, request),
        first,
        *(_otherwise(one) for one in others),
        _proof(new, request),
    )


def _otherwise(order: Order) -> Order:
    return Order(
        title=order.title, script=order.script, sees=order.sees, who=order.who, when=When.OTHERWISE, fails=order.fails
    )


def _when_up(host: str, script: str, fleet: Fleet) -> str:
    """A script on a machine that boots: tried until it answers."""
    wait = f"until ssh -n -F {FOLDER}/ssh_config {host} true 2> /dev/null; do sleep 1; done"
    return f"{wait}\n{on(host, script, fleet)}"


def _slot(new: Member, fleet: Fleet, host: str, to: str) -> Order:
    slot = slot_of(host)
    script = f"""{new.begin}\
sql "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
  WHERE slot_name = '{slot}' AND slot_type = 'physical' AND NOT active"
sql "SELECT pg_create_physical_replication_slot('{slot}', true)
  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{slot}')"
echo SLOT READY"""  # noqa: S608  names that were checked
    return Order(
        title=f"Have {to} keep its log for {host}",
        script=on(to, script, fleet),
        sees="SLOT READY",
        fails="Without the slot the old side may have to be copied anew. That is no reason not to go on.",
    )


def _way(old: Member, new: Member, request: Return) -> Order:
    """What the files of either say of how members connect, led to the new primary."""

    def ask(name: str, member: Member) -> str:
        main = f"{member.settings.rpartition('/')[0]}/postgresql.conf"
        script = (
            f'{member.begin}main={main}; [ -f "$main" ] || main={member.data}/postgresql.conf\n'
            f'as {member.programs}/postgres -C primary_conninfo -D {member.data} -c "config_file=$main" || true'
        )
        return on(name, script, request.cluster.fleet)

    changes = " ".join(
        f"-e {shlex.quote(f's/{chr(92)}b{word}=[^ ]*/{word}={value}/')}"
        for word, value in (("host", request.address), ("application_name", request.host))
    )
    script = f"""\
{{
{ask(request.host, old)}
{ask(request.to, new)}
}} | grep 'host=' | tail -n 1 | sed -e 's/hostaddr=[^ ]*//' {changes} > {WAY}
grep -v 'password=' {WAY} | grep -q 'host={request.address} ' && echo WAY KNOWN"""
    return Order(
        title=f"Find out how members connect to each other, and lead that to {request.to}",
        script=script,
        sees="WAY KNOWN",
        fails=f"Write the connection string into `{WAY}` by hand: host={request.address}, port, the user for "
        "replication and its passfile on the host. A password does not belong there.",
    )


def _grants(new: Member, request: Return) -> Order:
    slot = slot_of(request.host)
    grants = "\n".join(f'sql "GRANT EXECUTE ON FUNCTION pg_catalog.{one} TO \\"$1\\""' for one in READS)
    made = (
        f"\"SELECT pg_create_physical_replication_slot('{slot}', true)\n"  # noqa: S608  a name that was checked
        f"  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{slot}')\""
    )
    script = f"{new.begin}{grants}\nsql {made}\nsql CHECKPOINT\necho READY TO BE FOLLOWED"
    user = f"\"$(sed 's/.*{chr(92)}buser=\\([^ ]*\\).*/\\1/' {WAY})\""
    return Order(
        title=f"Make {request.to} ready to be followed: rights for a rewind, a slot, a checkpoint",
        script=on(request.to, script, request.cluster.fleet, user),
        sees="READY TO BE FOLLOWED",
        fails=f"{request.to} must be the primary: look with `SELECT pg_is_in_recovery()` there.",
    )


def _point(old: Member, request: Return) -> str:
    """The settings file, from the connection string that is the script's first argument."""
    return f"""\
cat > {old.file} <<SETTINGS
primary_conninfo = '$(printf %s "$1" | sed "s/'/''/g")'
primary_slot_name = '{slot_of(request.host)}'
SETTINGS
chown {old.user}: {old.file}"""


def _start(old: Member, request: Return) -> str:
    """Start it as a standby, wait until it streams; the slot that it kept for the new primary is not needed then."""
    slot = slot_of(request.to)
    return f"""\
{old.standby_signal}
{old.start}
for try in $(seq 60); do
  found=$(sql 'SELECT status FROM pg_stat_wal_receiver' || true)
  [ "$found" = streaming ] && break
  sleep 0.5
done
sql "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
  WHERE slot_name = '{slot}' AND slot_type = 'physical' AND NOT active" || true
if [ "$found" = streaming ]; then echo STREAMING; else echo DOES NOT STREAM; fi"""  # noqa: S608  checked names


def _follow(old: Member, request: Return) -> Order:
    script = f"{old.begin}{_point(old, request)}\n{_start(old, request)}"
    return Order(
        title=f"Start {request.host} as a standby of {request.to}",
        script=_with_way(request, script),
        sees="STREAMING",
        fails=f"The server's log on {request.host} says why. Go on with the next block.",
    )


def _rewind(old: Member, request: Return) -> Order:
    script = f"""{old.begin}{_point(old, request)}
{old.stop} || true
main={old.settings.rpartition("/")[0]}/postgresql.conf; [ -f "$main" ] || main={old.data}/postgresql.conf
# one that was not stopped cleanly is first recovered to its end, which a standby cannot be
as {old.programs}/pg_controldata {old.data} | grep -Eq '^Database cluster state: +shut down( in recovery)?$' ||
  rm -f {old.data}/standby.signal
as {old.programs}/pg_rewind -D {old.data} --source-server "$1 dbname=postgres" --config-file "$main" >&2
{_start(old, request)}"""
    return Order(
        title=f"Rewind {request.host} to where it and {request.to} parted, and start it as a standby",
        script=_with_way(request, script),
        sees="STREAMING",
        fails="What pg_rewind says is printed. Go on with the next block, where there is one.",
    )


def _rebuild(old: Member, request: Return) -> Order:
    kept = f"{old.data}.before-$(date +%s)"
    script = f"""{old.begin}{_point(old, request)}
{old.stop} || true
if as {old.programs}/pg_ctl status -D {old.data} > /dev/null 2>&1; then echo IT RUNS; exit 1; fi
rm -rf {old.data}.ismgr-copy
as {old.programs}/pg_basebackup -w -D {old.data}.ismgr-copy -d "$1" -X stream -S {slot_of(request.host)} -c fast
[ ! -e {old.data} ] || mv {old.data} {kept}
mv {old.data}.ismgr-copy {old.data}
{_start(old, request)}"""
    return Order(
        title=f"Copy everything from {request.to} to {request.host} anew, and start it as a standby",
        script=_with_way(request, script),
        sees="STREAMING",
        fails=f"What was there before lies beside `{old.data}`: remove it only when the copy streams. There must be "
        "room for both.",
    )


def _with_way(request: Return, script: str) -> str:
    return on(request.host, script, request.cluster.fleet, f'"$(printf %q "$(cat {WAY})")"')


def _proof(new: Member, request: Return) -> Order:
    script = f"""{new.begin}\
sql "SELECT CASE WHEN NOT pg_is_in_recovery() AND count(*) = 1 THEN 'ONE STANDBY STREAMS' ELSE 'ALONE' END
  FROM pg_stat_replication WHERE application_name = '{request.host}' AND state = 'streaming'\""""  # noqa: S608  names that were checked
    return Order(
        title=f"Ask {request.to} who follows it",
        script=on(request.to, script, request.cluster.fleet),
        sees="ONE STANDBY STREAMS",
        fails=f"There is no redundancy: {request.to} is the only copy. Look at the logs of both servers.",
    )
