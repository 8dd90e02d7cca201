"""The scripts of a clone: how a standby is copied, and what is done with the copy on its own host. Nothing
here decides."""

from __future__ import annotations

from ismgr_automation.engines.postgresql.layout import FIRST

UNIT = "ismgr-clone"
TIMER = "ismgr-clone-end"
FOLDER = "/var/lib/postgresql/ismgr-clone"
"""All that a clone has on its host: data, settings, socket. One name, so that whoever comes after finds what was
left."""

NOT_STARTED, NOT_PROMOTED, NOT_GONE = 70, 71, 72
"""How scripts end when it did not work."""

LOOK_AT_SOURCE = f"""{FIRST}
[ -x "$programs/pg_basebackup" ] || {{ echo "there is no $programs/pg_basebackup" >&2; exit 1; }}
sql "SELECT json_build_object('standby', pg_is_in_recovery(),
  'position', pg_wal_lsn_diff(coalesce(pg_last_wal_replay_lsn(), pg_current_wal_lsn()), '0/0'),
  'system', (SELECT system_identifier::text FROM pg_control_system()),
  'bytes', (SELECT sum(pg_database_size(oid)) FROM pg_database),
  'elsewhere', (SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')))"
"""  # noqa: S608 - nothing of a host's is in it
"""What must be known of a member before it is copied."""

COPY = f"""{FIRST}
as "$programs/pg_basebackup" -w -D - -F tar -X fetch -c fast --no-manifest -h "$sockets" -p "$port" -l ismgr-drill
"""
"""Writes a copy of the server, with the log that makes it consistent, as one tar archive. Over the Unix socket: nothing
of the copied host is opened for it."""

_CLONE = f"""
folder={FOLDER} programs=$1 user=$2 port=$3; shift 3
data=$folder/data
cd / || exit 1
umask 077
export LC_ALL=C PGCONNECT_TIMEOUT=5
as() {{ if [ "$(id -un)" = "$user" ]; then "$@"; else runuser -u "$user" -- "$@"; fi; }}
ask() {{ as "$programs/psql" -XAtqw -v ON_ERROR_STOP=1 -h "$folder" -p "$port" "$@"; }}
runs() {{ systemctl is-active --quiet {UNIT}.service; }}
clear() {{
  systemctl stop {UNIT}.service 2>/dev/null
  systemctl reset-failed {UNIT}.service 2>/dev/null
  rm -rf "$folder"
}}
arm() {{
  systemctl stop {TIMER}.timer 2>/dev/null
  systemd-run --quiet --collect --unit={TIMER} --on-active="$1" --timer-property=AccuracySec=1s \
    sh -c 'systemctl stop {UNIT}.service; rm -rf {FOLDER}'
}}
state() {{
  if runs; then
    case $(ask -d postgres -c 'SELECT pg_is_in_recovery()' 2>/dev/null) in
      t) echo standby ;; f) echo promoted ;; *) echo partial ;;
    esac
  elif [ -e "$folder" ] || systemctl is-active --quiet {TIMER}.timer; then echo partial
  else echo absent
  fi
}}
"""

LOOK = f"""{_CLONE}
for one in postgres psql pg_controldata; do
  [ -x "$programs/$one" ] || {{ echo "there is no $programs/$one: PostgreSQL of the cluster's version is needed" >&2
    exit 1; }}
done
command -v systemd-run >/dev/null || {{ echo 'systemd-run is not there' >&2; exit 1; }}
state
df -Pk "$(dirname "$folder")" | awk 'NR == 2 {{ print $4 }}'
"""
"""Prints how far a clone is, and how many KiB are free."""

UNPACK = f"""{_CLONE}
IFS= read -r _
seconds=$1
clear
arm "$seconds" || exit 1
mkdir "$folder" && mkdir "$data" && chown -R "$user:" "$folder" && chmod 700 "$data" || exit 1
as tar -xf - -C "$data" || exit 1
# what the copied server was told is not for this one: it archives, follows and sends nothing
: > "$data/postgresql.auto.conf"
rm -f "$data/recovery.signal"
: > "$data/standby.signal"
control=$(as "$programs/pg_controldata" "$data") || exit 1
least() {{ printf '%s\\n' "$control" | sed -n "s/^$1 setting: *//p"; }}
cat > "$folder/hba.conf" <<EOF
local all $user peer
host all all 127.0.0.1/32 scram-sha-256
EOF
cat > "$folder/clone.conf" <<EOF
data_directory = '$data'
hba_file = '$folder/hba.conf'
ident_file = '$folder/ident.conf'
unix_socket_directories = '$folder'
listen_addresses = '127.0.0.1'
port = $port
hot_standby = on
primary_conninfo = ''
restore_command = ''
archive_mode = off
shared_preload_libraries = ''
session_preload_libraries = ''
max_logical_replication_workers = 0
autovacuum = off
fsync = off
shared_buffers = 64MB
max_connections = $(least max_connections)
max_worker_processes = $(least max_worker_processes)
max_wal_senders = $(least max_wal_senders)
max_prepared_transactions = $(least max_prepared_xacts)
max_locks_per_transaction = $(least max_locks_per_xact)
EOF
: > "$folder/ident.conf"
chown "$user:" "$folder"/*.conf "$data/postgresql.auto.conf" "$data/standby.signal"
"""
"""Seconds; a line, then a tar archive: arms the timer that removes it all, unpacks a copy, and makes it a server that
reaches nobody. Background workers, archiving, subscriptions and everything that a library would start are off."""

START = f"""{_CLONE}
systemd-run --quiet --collect --unit={UNIT} --property=User="$user" --property=KillMode=mixed \
  --property=KillSignal=SIGQUIT --property=TimeoutStopSec=5 \
  "$programs/postgres" -D "$data" -c config_file="$folder/clone.conf" >&2 || exit {NOT_STARTED}
turns=0
until ask -d postgres -c 'SELECT 1' >/dev/null 2>&1; do
  turns=$((turns + 1))
  if ! runs || [ "$turns" -gt "$line" ]; then
    journalctl -q -n 3 -o cat -u {UNIT}.service >&2 2>/dev/null
    echo "its server did not start" >&2; exit {NOT_STARTED}
  fi
  sleep 0.01
done
du -sk "$data" | cut -f 1
"""
"""A line with how often to look: starts a copy, and waits until it answers; prints its size in KiB."""

PROMOTE = f"""{_CLONE}
said=$(ask -d postgres -c 'SELECT pg_is_in_recovery() AND pg_promote(false)' -c "DO \\$\\$ BEGIN
  WHILE pg_is_in_recovery() AND clock_timestamp() < statement_timestamp() + interval '$line s'
  LOOP PERFORM pg_sleep(0.001); END LOOP; END \\$\\$" -c 'SELECT pg_current_xact_id()')
case $said in *[0-9]) ;; *) echo "it says: $said" >&2; exit {NOT_PROMOTED} ;; esac
"""
"""A line with seconds: promotes, and waits until a transaction gets a number, which nobody gets who may not write."""

STATE = f"""{_CLONE}
state
"""
"""Prints how far a clone is."""

ASK = f"""{_CLONE}
PGOPTIONS="-c statement_timeout=${{3}}s" ask -d "$1" -c "$2"
"""
"""A database, a query, seconds: prints its rows."""

REMOVE = f"""{_CLONE}
clear
systemctl stop {TIMER}.timer {TIMER}.service 2>/dev/null
[ "$(state)" = absent ] || {{ echo "something of it is left" >&2; exit {NOT_GONE}; }}
"""
"""Ends a clone and its timer, and removes all of it."""
