"""The scripts of a recovery. The first half waits on members in shells with a database session already open, because
clients wait; the second half brings an old primary back, where nobody does. Nothing here decides."""

from __future__ import annotations

from ismgr_automation.engines.postgresql.layout import FILE, FIRST, NOT_CLEAN, NOT_STOPPED

NOT_ASKED, NOT_REPLAYED, NOT_WRITABLE, PROMOTED, NO_SESSION = 50, 51, 52, 53, 54
NOT_COPIED, NOT_REWOUND, BUSY, RUNS = 60, 61, 62, 63
"""How scripts end when it did not work."""

SESSION = f"""{FIRST}
# a session that is open before it is needed; without one the scripts below ask the slow way
folder=$(mktemp -d) && mkfifo "$folder/in" "$folder/out" || exit 1
as "$programs/psql" -XAtqw -h "$sockets" -p "$port" -d postgres < "$folder/in" > "$folder/out" &
exec 8> "$folder/in" 9< "$folder/out"
rm -rf "$folder"
tell() {{
  printf '%s;\\n\\\\echo %s\\n' "$1" "$mark" 2>/dev/null >&8 || return 1
  while IFS= read -r row <&9; do
    [ "$row" != "$mark" ] || return 0
    printf '%s\\n' "$row"
  done
  return 1
}}
answer() {{ tell "$1" || sql "$1"; }}
# without a process of its own: it is asked every millisecond
lives() {{
  postmaster= stat=
  {{ IFS= read -r postmaster < "$data/postmaster.pid"; }} 2>/dev/null
  [ -n "$postmaster" ] || return 1
  {{ IFS= read -r stat < "/proc/$postmaster/stat"; }} 2>/dev/null
  case $stat in *"(postgres) "[!ZX]*) ;; *) return 1 ;; esac
}}
frozen() {{ case $stat in *") T"* | *") t"*) return 0 ;; esac; return 1; }}
tell "SELECT set_config(name, '0', false) FROM pg_settings
  WHERE name IN ('statement_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout')" > /dev/null
"""  # noqa: S608 - nothing of a host's is in it
"""What is set up in a shell that waits: a ``psql`` beside it, and functions. ``tell`` fails when that is gone."""

STATE = """SELECT json_build_object(
  'recovery', pg_is_in_recovery(),
  'readonly', current_setting('default_transaction_read_only') = 'on',
  'timeline', CASE WHEN pg_is_in_recovery()
    THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint()))
    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
  'position', pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery()
    THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, '0/0'),
  'received', CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0') END,
  'age', CASE WHEN pg_is_in_recovery()
    THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END,
  'receiving', coalesce((SELECT status FROM pg_stat_wal_receiver), ''),
  'source', coalesce((SELECT sender_host FROM pg_stat_wal_receiver), ''),
  'system', (SELECT system_identifier::text FROM pg_control_system()),
  'senders', (SELECT coalesce(json_agg(json_build_object('name', application_name,
      'address', coalesce(host(client_addr), ''), 'state', coalesce(state, ''), 'slot', coalesce(slot_name, ''),
      'lag', coalesce(pg_wal_lsn_diff(sent_lsn, replay_lsn), -1))), '[]')
    FROM pg_stat_replication LEFT JOIN pg_replication_slots ON active_pid = pid))"""

LOOK = """
[ -d "$data" ] || { echo "there is no cluster in $data" >&2; exit 1; }
if lives; then
  if frozen; then echo "its postmaster $postmaster is stopped by a signal" >&2; exit 1; fi
  said=$(tell "$1") || { echo gone; said=$(sql "$1"); }
  if [ -n "$said" ]; then printf 'sql %s\\n' "$said"; exit; fi
  ended || exit 1
fi
[ ! -e "$data/standby.signal" ] || echo follows
control | sed 's/^/control /'
"""
"""``STATE``: prints what the server says, or, where none runs or one is ending, what its data directory does."""

_STOP = f"""
if lives; then
  # before it stops, because then nobody waits: whoever starts it from now on starts a standby
  : > "$data/standby.signal" && owned "$data/standby.signal" && sync "$data/standby.signal" "$data" || exit 1
  sh -c "$stop" > /dev/null 2>&1 8>&- 9<&- &
  if ended; then soon=; fi
  # the service manager knows that it is wanted, and takes its time: so does pg_ctl
  kill -INT "$postmaster" 2>/dev/null
  turns=0 end=$(($(date +%s) + $1))
  while lives; do
    if [ -n "$soon" ] && ended; then break; fi
    turns=$((turns + 1))
    if [ $((turns % 200)) = 0 ] && late; then
      rm -f "$data/standby.signal"
      echo "it still runs" >&2; exit {NOT_STOPPED}
    fi
    sleep 0.001
  done
fi
said=$(control)
printf '%s\n' "$said"
printf '%s\n' "$said" | grep -Eq '^Database cluster state: +shut down( in recovery)?$' || exit {NOT_CLEAN}
[ -e "$data/standby.signal" ] || {{ : > "$data/standby.signal" && owned "$data/standby.signal" &&
  sync "$data/standby.signal" "$data"; }} || exit 1
"""

DEMOTE = f"""
# clients wait for the last record, and nobody for the end of processes that send it to a standby which does not hear
soon=yes
{_STOP}"""
"""Seconds: stops a primary cleanly, fast, after it was made a standby; prints its control data. It takes no writes any
more, and may still be ending. Run again, it does no more."""

RETIRE = f"""
soon=
# behind a fence nobody acknowledges what is sent, and a stop waits for that until a connection times out
if lives; then tell "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication" > /dev/null; fi
{_STOP}"""  # noqa: S608 - nothing of a host's is in it
"""``DEMOTE`` without waiting for those who stream from it, until nothing of it runs."""

REPLAYED = f"""
at=${{line% *}} seconds=${{line#* }}
answer "DO \\$\\$ BEGIN
  WHILE pg_is_in_recovery() AND pg_last_wal_replay_lsn() <= '$at' AND clock_timestamp() < now() + interval '$seconds s'
  LOOP PERFORM pg_sleep(0.001); END LOOP; END \\$\\$" > /dev/null
now=$(answer "SELECT pg_last_wal_replay_lsn(), NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() > '$at'")
case $now in *"|t") ;; *) echo "it has replayed up to ${{now%%|*}}" >&2; exit {NOT_REPLAYED} ;; esac
"""
"""A line with a position and seconds: waits until everything up to the record there is replayed."""

MAY_PROMOTE = """
rm -f "$settings/.ismgr-held"
"""
"""What is set up beside a session over which somebody will be promoted: a bar of former times is gone."""

PROMOTE = f"""
recovers=$(tell "SELECT pg_is_in_recovery()")
[ ! -e "$settings/.ismgr-held" ] || {{ echo "it was made to stay a standby meanwhile" >&2; exit {NOT_ASKED}; }}
[ -n "$recovers" ] || {{ echo "its session was lost" >&2; exit {NO_SESSION}; }}
if [ "$recovers" = t ]; then
  # never over a session of now: this one is older than the look at the bar, and does not outlive who puts one up
  [ "$(tell "SELECT pg_promote(false)")" = t ] || exit {NOT_ASKED}
fi
answer "DO \\$\\$ BEGIN
  WHILE pg_is_in_recovery() AND clock_timestamp() < now() + interval '$line s' LOOP PERFORM pg_sleep(0.001); END LOOP;
  END \\$\\$" > /dev/null
# a number for a transaction is given to nobody who may not write; nothing is kept of it
said=$(answer "BEGIN; SELECT current_setting('transaction_read_only'); SELECT pg_current_xact_id(); ROLLBACK")
case $said in off*[0-9]) ;; *) echo "it says: $said" >&2; exit {NOT_WRITABLE} ;; esac
answer "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"
rm -f "$settings/{FILE}"
"""
"""A line with seconds: promotes, over the session that is open or not at all, and waits until it takes writes; prints
its timeline. Run again, it does no more."""

HOLD = f"""{FIRST}
end=$(($(date +%s) + $1))
# a shell that was stopped in front of its promotion must not go on with it
: > "$settings/.ismgr-held" && owned "$settings/.ismgr-held" || exit 1
[ -e "$data/standby.signal" ] || {{ echo "it is no standby" >&2; exit {PROMOTED}; }}
said=$(sh -c "$stop" 2>&1)
if alive; then echo "it still runs: $said" >&2; exit {NOT_STOPPED}; fi
rm -f "$data/promote"
[ -e "$data/standby.signal" ] || {{ echo "it has been promoted" >&2; sh -c "$start" >&2; exit {PROMOTED}; }}
sh -c "$start" >&2 || exit 1
until [ "$(sql "SELECT pg_is_in_recovery()")" = t ]; do
  if late; then exit 1; fi
  sleep 0.1
done
"""
"""Seconds: stops a standby and starts it again: a server that starts forgets a promotion that it was asked for. Where
the promotion was faster the server runs on as what it is by then."""

_LOCKED = f"""{FIRST}
# what a lost connection left behind may still be at work
exec 7< "$settings" && flock -w 2 7 || {{ echo "another rejoin is at work there" >&2; exit {BUSY}; }}
main=$(dirname "$settings")/postgresql.conf
[ -f "$main" ] || main=$data/postgresql.conf
copy=$data.ismgr-copy old=$data.ismgr-old
# a server that was killed and not waited for yet keeps its lock, as PostgreSQL sees it
gone=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) turns=0
while [ -n "$gone" ] && [ "$turns" -lt 100 ] && grep -q ') Z' "/proc/$gone/stat" 2>/dev/null; do
  turns=$((turns + 1))
  sleep 0.1
done
setting() {{
  # without a folder it asks for files that it does not read for this
  if [ -d "$data" ]; then set -- "$1" -D "$data"; else set -- "$1" -c hba_file=none -c ident_file=none; fi
  as "$programs/postgres" -C "$@" -c "config_file=$main" 2>/dev/null
}}
"""

GROUND = f"""{_LOCKED}
# a rebuild that broke off between its two renames
if [ ! -e "$data" ] && [ -d "$old" ]; then
  if [ -e "$copy/standby.signal" ]; then mv "$copy" "$data"; else mv "$old" "$data"; fi
fi
[ ! -d "$old" ] || echo old
[ -e "$data" ] || echo empty
printf 'primary_conninfo %s\\n' "$(setting primary_conninfo)"
printf 'free %s\\n' "$(df -Pk "$(dirname "$data")" | awk 'NR == 2 {{ print $4 }}')"
printf 'rewinds %s\\n' "$([ -x "$programs/pg_rewind" ] && echo on)"
[ ! -e "$data" ] || control | sed 's/^/control /'
"""
"""Puts right what a rebuild left half-way; prints what must be known before a member is brought back."""

POINT = f"""{_LOCKED}
says "$1" || exit 1
for name in primary_conninfo restore_command full_page_writes; do printf '%s %s\\n' "$name" "$(setting "$name")"; done
"""
"""The text of our file: puts it on a member that does not run, and prints what its server will take from all files."""

SIZE = """SELECT (SELECT sum(pg_database_size(oid)) FROM pg_database) + (SELECT sum(size) FROM pg_ls_waldir()),
  (SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global'))"""
"""Bytes of a whole cluster, and how many tablespaces lie elsewhere."""

HALT = f"""{_LOCKED}
sh -c "$stop" > /dev/null 2>&1 7<&-
if alive; then echo "it still runs" >&2; exit {NOT_STOPPED}; fi
"""
"""Stops a standby that does not stream."""

AGAIN = f"""{FIRST}
sql "SELECT pg_reload_conf()" > /dev/null
end=$(($(date +%s) + $1))
until [ "$(sql "SELECT status FROM pg_stat_wal_receiver")" = streaming ]; do
  if late; then exit 1; fi
  sleep 0.1
done
"""  # noqa: S608 - nothing of a host's is in it
"""Seconds: a standby that runs reads whom to follow; fails when it does not stream then."""

READY = f"""{FIRST}
{{ printf '%s;\\n' "$1" "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
    WHERE slot_name = '$2' AND slot_type = 'physical' AND NOT active" \
    "SELECT pg_create_physical_replication_slot('$2', true) WHERE NOT EXISTS
    (SELECT FROM pg_replication_slots WHERE slot_name = '$2')" CHECKPOINT; }} |
  as "$programs/psql" -XAtqw -v ON_ERROR_STOP=1 -h "$sockets" -p "$port" -d postgres
"""  # noqa: S608 - the shell fills in names that were checked
"""A statement, a slot: runs it, keeps the log from now on in the slot, writes a checkpoint. Without that a rewind meets
"requested timeline does not contain minimum recovery point"."""

GRANT = """DO $$
DECLARE
  one text;
BEGIN
  FOR one IN SELECT unnest(ARRAY['pg_ls_dir(text, boolean, boolean)', 'pg_stat_file(text, boolean)',
      'pg_read_binary_file(text)', 'pg_read_binary_file(text, bigint, bigint, boolean)']) LOOP
    IF NOT has_function_privilege('{user}', 'pg_catalog.' || one, 'EXECUTE') THEN
      EXECUTE format('GRANT EXECUTE ON FUNCTION pg_catalog.%s TO %I', one, '{user}');
    END IF;
  END LOOP;
END $$"""
"""What ``pg_rewind`` needs of who streams, who can copy all of these files anyway."""

REWIND = f"""{_LOCKED}
if alive; then echo "it runs" >&2; exit {RUNS}; fi
# processes of a server that was killed may still be on their way out
here=$(readlink -f "$data") turns=0
while ls -l /proc/[0-9]*/cwd 2>/dev/null | grep -qF -- "-> $here"; do
  turns=$((turns + 1)); [ "$turns" -lt 100 ] || exit {RUNS}
  sleep 0.1
done
# a crashed primary is first recovered to its end, as a server of one user: one that waits for a primary cannot be
control | grep -Eq '^Database cluster state: +shut down( in recovery)?$' || rm -f "$data/standby.signal"
as "$programs/pg_rewind" -D "$data" --source-server "$1 dbname=postgres" --config-file "$main" ${{2:+"$2"}} >&2 ||
  exit {NOT_REWOUND}
: > "$data/standby.signal" && owned "$data/standby.signal" && sync "$data/standby.signal" "$data"
"""
"""A connection string, ``--restore-target-wal`` or nothing: makes the data of a stopped member that of the other one up
to where they parted."""

REBUILD = f"""{_LOCKED}
if alive; then echo "it runs" >&2; exit {RUNS}; fi
rm -rf "$copy"
as "$programs/pg_basebackup" -w -D "$copy" -d "$1" -X stream -S "$2" -c fast >&2 ||
  {{ rm -rf "$copy"; exit {NOT_COPIED}; }}
touch "$copy/standby.signal" "$copy/ismgr.copied" && owned "$copy/standby.signal" && owned "$copy/ismgr.copied" &&
  sync -f "$copy" || exit {NOT_COPIED}
if alive; then echo "somebody started it" >&2; exit {RUNS}; fi
# an earlier copy that never streamed is not what must be kept
if [ -d "$old" ] && [ -e "$data/ismgr.copied" ]; then rm -rf "$data"
elif [ -e "$data" ]; then rm -rf "$old" && mv "$data" "$old"; fi
[ ! -e "$data" ] || exit {NOT_COPIED}
mv "$copy" "$data" || exit {NOT_COPIED}
"""
"""A connection string, a slot: copies everything beside the data, then puts the copy in its place. What was there is
kept beside it."""

DROP_OLD = f"""{_LOCKED}
rm -rf "$old" "$copy" "$data/ismgr.copied"
"""
"""The copy streams: what was there before it is not needed any more."""
