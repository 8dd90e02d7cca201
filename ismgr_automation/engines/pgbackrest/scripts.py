"""The scripts that hosts run for backups of PostgreSQL. What each is given stands below it."""

from __future__ import annotations

FIRST = """
cd /
as() { if [ "$(id -un)" = postgres ]; then "$@"; else runuser -u postgres -- "$@"; fi; }
backrest() {
  as pgbackrest --stanza="$stanza" --no-log-timestamp --log-level-console=off --log-level-stderr=error "$@"
}
stanza=$1; shift
"""

INFO = f"""{FIRST}
found=$(backrest --output=json info) || exit 1
date +%s.%N
printf '%s\\n' "$found"
"""
"""Prints the host's time, and what pgBackRest says of its repository."""

LIST = f"""{FIRST}
backrest --output=json repo-ls "$1"
"""
"""A folder of the repository: prints what is in it."""

TAKE = f"""{FIRST}
backrest --type="$1" backup
"""
"""A kind of backup: makes one."""

VERIFY = f"""{FIRST}
backrest --output=text --verbose verify
"""
"""Reads everything there is and prints what it thinks of it."""

_RUN = """
cd /
root=$1 run=$2; shift 2
folder=$root/$run unit=ismgr-restore-$run
as() { if [ "$(id -un)" = postgres ]; then "$@"; else runuser -u postgres -- "$@"; fi; }
worker() { systemd-run --quiet --collect --uid=postgres --working-directory=/ "$@"; }
query() { as psql -h "$folder" -p 5432 -v ON_ERROR_STOP=1 -XAtq "$@"; }
"""

NO_ROOM, THERE = 10, 11

PREPARE = f"""{_RUN}
need=$1 seconds=$2
[ ! -e "$folder" ] || {{ echo "$folder is there already" >&2; exit {THERE}; }}
mkdir -p "$root" && chmod 711 "$root" || exit 1
room=$(df -B1 --output=avail "$root" | tail -n 1)
[ "$room" -ge "$need" ] || {{ echo "$root has room for $room bytes, and $need are needed" >&2; exit {NO_ROOM}; }}
# whoever ordered this may die: then the host itself takes it away
systemd-run --quiet --collect --unit="$unit-over" --on-active="$seconds" --timer-property=AccuracySec=1s \\
  /bin/sh -c "systemctl stop $unit-work.service $unit-server.service; rm -rf -- '$folder'" || exit 1
mkdir -m 711 "$folder" && chown postgres: "$folder"
"""
"""Bytes that are needed, seconds: makes the folder, after its end was ordered."""

RESTORE = f"""{_RUN}
stanza=$1 label=$2
worker --wait --pipe --unit="$unit-work" pgbackrest --stanza="$stanza" --no-log-timestamp --log-level-console=off \\
  --log-level-stderr=error --pg1-path="$folder/data" --reset-pg1-host --tablespace-map-all="$folder/spaces" \\
  --archive-mode=off --lock-path="$folder/lock" --job-retry=0 --set="$label" --type=default restore \\
  2>"$folder/said" || {{
    tr '\\n' ' ' < "$folder/said" | cut -c 1-280 >&2
    exit 1
  }}
du -sb "$folder/data" | cut -f 1
"""
"""A stanza, the label of a backup: restores it into the folder; prints its size."""

RECOVER = f"""{_RUN}
programs=$1 seconds=$2; shift 2
end=$(($(date +%s) + seconds))
echo 'local all postgres peer' > "$folder/hba"; : > "$folder/ident"; : > "$folder/server.conf"
chown postgres: "$folder/hba" "$folder/ident" "$folder/server.conf"
complaint() {{ grep -E ' (PANIC|FATAL|ERROR):|^P[0-9]+ +ERROR:' "$folder/log" |
  grep -v 'not accepting connections\\|is starting up' | tail -n "$1"; }}
# on the command line, for the settings that were restored would win over a file
worker --unit="$unit-server" -p KillSignal=SIGINT -p StandardOutput="append:$folder/log" \\
  -p StandardError="append:$folder/log" "$programs/postgres" -D "$folder/data" -c config_file="$folder/server.conf" \\
  "$@" -c hba_file="$folder/hba" -c ident_file="$folder/ident" -c port=5432 -c listen_addresses= \\
  -c unix_socket_directories="$folder" -c archive_mode=off -c hot_standby=off -c primary_conninfo= \\
  -c max_logical_replication_workers=0 -c autovacuum=off -c logging_collector=off -c log_destination=stderr \\
  -c ssl=off -c synchronous_standby_names= || exit 1
while :; do
  said=$(query -d postgres -c "SELECT json_build_object(
    'position', pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'),
    'segment_bytes', (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),
    'timeline', ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int,
    'newest', coalesce(to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC',
      'YYYY-MM-DD\\"T\\"HH24:MI:SS.US+00:00'), '')) WHERE NOT pg_is_in_recovery()" 2>/dev/null)
  [ -z "$said" ] || break
  if ! systemctl --quiet is-active "$unit-server.service"; then
    complaint 3 | sed 's/^.* \\(PANIC\\|FATAL\\|ERROR\\):/\\1:/' | tr '\\n' ' ' >&2
    exit 1
  fi
  if [ "$(date +%s)" -ge "$end" ]; then echo "it did not come to an end within $seconds s" >&2; exit 1; fi
  sleep 0.05
done
printf '%s\\n' "$said"
complaint 1
exit 0
"""  # noqa: S608 - nothing is filled in
"""The folder of programs, seconds, more settings: starts the server, waits until it is a primary; prints how far it
got, and its last complaint."""

ISOLATED = f"""{_RUN}
group=$(systemctl show -P ControlGroup "$unit-server.service")
[ -n "$group" ] || {{ echo "the server does not run" >&2; exit 1; }}
for file in /sys/fs/cgroup/systemd"$group"/cgroup.procs /sys/fs/cgroup"$group"/cgroup.procs; do
  [ ! -r "$file" ] || pids=$(cat "$file")
done
[ -n "$pids" ] || pids=$(pgrep -f -- "$folder/data")
[ -n "$pids" ] || {{ echo "its processes cannot be seen" >&2; exit 1; }}
sockets=$(ss -Htuanp) || exit 1
for pid in $pids; do
  printf '%s\\n' "$sockets" | grep -F "pid=$pid," >&2 && exit 1
done
echo "$pids" | wc -w
"""
"""Prints how many processes the server has; fails with a line for a network socket of one."""

ASK = f"""{_RUN}
query -d "$1" -c "$2"
"""
"""A database, a query: prints its rows."""

SOUND = f"""{_RUN}
as "$1/pg_amcheck" -h "$folder" -p 5432 --all --install-missing --no-password 2>&1 | head -n 5 > "$folder/amcheck"
[ ! -s "$folder/amcheck" ] || {{ head -n 1 "$folder/amcheck" >&2; exit 1; }}
"""
"""The folder of programs: fails with the first complaint about a table or index."""

REMOVE = f"""{_RUN}
systemctl stop "$unit-work.service" "$unit-server.service" 2>/dev/null
rm -rf -- "$folder"
systemctl stop "$unit-over.timer" "$unit-over.service" 2>/dev/null
left=$(systemctl list-units --all --plain --no-legend "$unit-*" | cut -d ' ' -f 1 | tr '\\n' ' ')
[ ! -e "$folder" ] || left="$left$folder"
[ -z "$left" ] || {{ echo "$left" >&2; exit 1; }}
"""
"""Takes everything away; fails with what is still there."""
