"""Where a PostgreSQL cluster lies on its hosts, and the scripts that look at it and move it. Nothing here decides."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from ismgr_automation.core.errors import InputError
from ismgr_automation.ports.upkeep import Cluster

FILE = "00-ismgr-standby.conf"
"""What we write to make a member follow. A file of the role comes after it and wins: what Git says stays true."""

NOT_STOPPED, NOT_CLEAN = 10, 11
NOT_CAUGHT_UP, NOT_PROMOTED, NOT_ALL = 20, 21, 22
NOT_STARTED, NOT_STREAMING, NO_WAY = 30, 31, 40
"""How scripts end when it did not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Paths and commands on a member; ``{version}``, ``{name}`` and ``{host}`` stand for the cluster's. The default is
    Debian's. ``settings`` is a folder whose ``*.conf`` the server includes."""

    data: str = "/var/lib/postgresql/{version}/{name}"
    settings: str = "/etc/postgresql/{version}/{name}/conf.d"
    programs: str = "/usr/lib/postgresql/{version}/bin"
    sockets: str = "/var/run/postgresql"
    user: str = "postgres"
    start: str = "systemctl start postgresql@{version}-{name}.service"
    stop: str = "systemctl stop postgresql@{version}-{name}.service"

    def arguments(self, cluster: Cluster, host: str) -> tuple[str, ...]:
        """What every script is given first.

        Raises ``InputError`` for a version or name that could be taken for more than a name.
        """
        for what, word in (("version", cluster.version), ("name", cluster.name), ("host", host)):
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", word):
                raise InputError(f"{word!r} cannot be the {what} of a PostgreSQL cluster.")
        values = {"version": cluster.version, "name": cluster.name, "host": host}
        words = {one.name: str(getattr(self, one.name)).format(**values) for one in fields(self)}
        first = ("data", "settings", "programs", "sockets", "user", "start", "stop")
        return (*(words[name] for name in first), str(cluster.port))


def slot_of(host: str) -> str:
    """The name of a member's replication slot, as the role postgresql makes it.

    >>> slot_of("db1.dc2")
    'db1_dc2'
    """
    return re.sub(r"[^a-z0-9_]", "_", host)


FIRST = f"""
data=$1 settings=$2 programs=$3 sockets=$4 user=$5 start=$6 stop=$7 port=$8; shift 8
cd / || exit 1
umask 077
export LC_ALL=C PGCONNECT_TIMEOUT=5
as() {{ if [ "$(id -un)" = "$user" ]; then "$@"; else runuser -u "$user" -- "$@"; fi; }}
sql() {{ as "$programs/psql" -XAtqw -v ON_ERROR_STOP=1 -h "$sockets" -p "$port" -d postgres -c "$1"; }}
# a postmaster that was killed and not waited for is no server any more
alive() {{
  pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = postgres ] || return 1
  case $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) in '' | Z* | X*) return 1 ;; esac
}}
control() {{ as "$programs/pg_controldata" "$data"; }}
# whether the last record of a clean stop is written (a primary's, a standby's): from then on nothing is, though its
# processes may be there for a while. From the file itself, because it may be asked every millisecond
ended() {{
  case $(od -An -tu4 -j16 -N4 "$data/global/pg_control" 2>/dev/null) in *" 1" | *" 2") ;; *) return 1 ;; esac
}}
owned() {{ if [ "$(id -un)" != "$user" ]; then chown "$user:" "$1"; fi; }}
says() {{ printf '%s' "$1" > "$settings/.{FILE}" && owned "$settings/.{FILE}" &&
  mv "$settings/.{FILE}" "$settings/{FILE}"; }}
late() {{ [ "$(date +%s)" -ge "$end" ]; }}
"""

STATE = """SELECT json_build_object(
  'recovery', pg_is_in_recovery(),
  'timeline', CASE WHEN pg_is_in_recovery()
    THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint()))
    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
  'position', pg_wal_lsn_diff(now.lsn, '0/0'),
  'receiving', coalesce((SELECT status FROM pg_stat_wal_receiver), ''),
  'paused', CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END,
  'system', (SELECT system_identifier::text FROM pg_control_system()),
  'listens', current_setting('listen_addresses'),
  'conninfo', current_setting('primary_conninfo'),
  'logical', (SELECT coalesce(json_agg(slot_name), '[]') FROM pg_replication_slots
    WHERE slot_type = 'logical' AND NOT temporary),
  'senders', (SELECT coalesce(json_agg(json_build_object('name', application_name,
      'address', coalesce(host(client_addr), ''), 'state', coalesce(state, ''), 'slot', coalesce(slot_name, ''),
      'lag', coalesce(pg_wal_lsn_diff(now.lsn, replay_lsn), -1))), '[]')
    FROM pg_stat_replication LEFT JOIN pg_replication_slots ON active_pid = pid))
FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn) AS now"""

LOOK = f"""{FIRST}
[ -d "$data" ] || {{ echo "there is no cluster in $data" >&2; exit 1; }}
[ ! -e "$data/standby.signal" ] || echo follows
control | sed 's/^/control /'
if alive; then
  echo alive
  said=$(sql "$1") && printf 'sql %s\\n' "$(printf '%s' "$said" | tr '\\n' ' ')"
fi
exit 0
"""
"""``STATE``: prints what the data directory says and, when it answers, the server."""

SQL = f"""{FIRST}
sql "$1"
"""
"""One statement; prints its rows."""

WAY = f"""{FIRST}
standby=$1; shift
for target; do
  said=$(as "$programs/psql" -XAtqw -d "$target replication=true" -c IDENTIFY_SYSTEM -c 'SHOW in_hot_standby') &&
    [ "${{said##*[!a-z]}}" = "$standby" ] && {{ echo "$said" | head -n 1; echo "$target"; exit 0; }}
done
exit {NO_WAY}
"""
"""``on`` or ``off``, connection strings: the first over which this member can replicate from a standby (from a
primary), after who answers there."""

SAYS = f"""{FIRST}
says "$1" || exit 1
if alive; then
  sql "SELECT coalesce(json_agg(json_build_object('name', name, 'setting', setting, 'file', sourcefile)
    ORDER BY seqno), '[]') FROM pg_file_settings WHERE name IN ('primary_conninfo', 'primary_slot_name')"
fi
"""  # noqa: S608 - the shell fills in names that were checked
"""The text of our file: puts it there, and prints what the server would take from all its files."""

STOP = f"""{FIRST}
said=$(sh -c "$stop" 2>&1)
if alive; then echo "it still runs: $said" >&2; exit {NOT_STOPPED}; fi
control
control | grep -Eq '^Database cluster state: +shut down$' || exit {NOT_CLEAN}
# from here on it cannot become a primary by being started, whoever starts it
: > "$data/standby.signal" && owned "$data/standby.signal" && sync -f "$data/standby.signal"
"""
"""Stops a primary cleanly and makes a standby of it; prints its control data. Run again, it does no more."""

PROMOTE = f"""{FIRST}
end=$(($(date +%s) + $2))
while :; do
  now=$(sql "SELECT CASE WHEN NOT pg_is_in_recovery() THEN 'primary' WHEN pg_last_wal_replay_lsn() > '$1' THEN 'all'
    ELSE pg_last_wal_replay_lsn()::text END")
  case $now in
    primary) break ;;
    all) sql "SELECT pg_promote(false)" >/dev/null; break ;;
  esac
  if late; then echo "it has replayed up to ${{now:-nobody knows where}}" >&2; exit {NOT_CAUGHT_UP}; fi
  sleep 0.05
done
until [ "$(sql "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'")" = t ]; do
  if late; then exit {NOT_PROMOTED}; fi
  sleep 0.02
done
# somebody else may have promoted it before it had all
timeline=$(sql "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
branch=$(tail -n 1 "$data/pg_wal/$timeline.history" | cut -f 2)
[ "$(sql "SELECT '$branch'::pg_lsn > '$1'")" = t ] || {{ echo "it branched off at $branch" >&2; exit {NOT_ALL}; }}
rm -f "$settings/{FILE}"
"""
"""Position, seconds: waits until everything up to the record there is replayed, promotes, waits until it takes writes.
Run again, it does no more."""

FOLLOW = f"""{FIRST}
end=$(($(date +%s) + $1))
if ! alive; then
  : > "$data/standby.signal" && owned "$data/standby.signal" || exit {NOT_STARTED}
  sh -c "$start" >&2 || exit {NOT_STARTED}
fi
until [ "$(sql "SELECT status FROM pg_stat_wal_receiver")" = streaming ]; do
  if late; then exit {NOT_STREAMING}; fi
  sleep 0.1
done
# kept, it would hold back the log of a standby for ever
sql "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
  WHERE slot_name = '$2' AND slot_type = 'physical' AND NOT active"
"""  # noqa: S608 - the shell fills in names that were checked
"""Seconds, a slot: starts it as a standby, waits until it streams, drops the slot that it kept for the new primary."""

BACK = f"""{FIRST}
end=$(($(date +%s) + $1))
rm -f "$data/standby.signal" "$settings/{FILE}"
while alive && ended; do
  if late; then exit {NOT_STARTED}; fi
  sleep 0.05
done
alive || sh -c "$start" >&2 || exit {NOT_STARTED}
until [ "$(sql "SELECT NOT pg_is_in_recovery()")" = t ]; do
  if late; then exit {NOT_STARTED}; fi
  sleep 0.1
done
"""
"""Seconds: makes a stopped primary the primary again. Only while nobody can have been promoted."""

FORGET = f"""{FIRST}
rm -f "$settings/{FILE}"
"""
"""Takes our file away from a primary that stays one."""

KEEP = f"""{FIRST}
if [ "$2" = anew ]; then
  sql "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
    WHERE slot_name = '$1' AND slot_type = 'physical' AND NOT active" || exit 1
fi
sql "SELECT pg_create_physical_replication_slot('$1', true)
  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$1')"
"""  # noqa: S608 - the shell fills in names that were checked
"""A slot, ``anew`` or ``as-it-is``: keeps the log from now on (or from when it was made) for a member."""

LET_GO = f"""{FIRST}
sql "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
  WHERE slot_name = '$1' AND slot_type = 'physical' AND NOT active"
"""  # noqa: S608 - the shell fills in names that were checked
"""A slot: keeps the log no longer, unless somebody receives it."""

HISTORY = f"""{FIRST}
cat "$data/pg_wal/$1.history"
"""
"""The name of a timeline: prints where it and those before it branched off."""
