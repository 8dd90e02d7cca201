"""Keeps a PostgreSQL server from writing, without touching its disk: a real one is shared with others, and a file
system on which a server holds files open can be made read-only by nobody but the kernel itself."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote

from ismgr_automation.engines.faults.deadman import Scripts
from ismgr_automation.engines.faults.means import Craft, Means
from ismgr_automation.engines.faults.servers import OURS, layout_arguments
from ismgr_automation.engines.faults.undo import Hurt, Values, Way, key_of
from ismgr_automation.engines.postgresql.layout import FIRST
from ismgr_automation.ports.faults import FaultRequest, Harm

MARK = "ismgr-fault-"
"""How files of settings begin that belong to faults, after two letters that put them behind all others."""

_PROBE = f"""{FIRST}
alive || {{ echo 'no server runs there' >&2; exit 3; }}
sql "SELECT pg_logical_emit_message(true, 'ismgr', '')" >/dev/null ||
  {{ echo 'its server takes no writes as it is' >&2; exit 3; }}
echo "data $(readlink -f "$data")"
echo "settings $settings"
echo "user $user"
echo "programs $programs"
echo "sockets $sockets"
echo "port $port"
echo "soft $(sed -n 's/^Max file size *\\([^ ]*\\) .*/\\1/p' "/proc/$pid/limits")"
"""

_AS = """
as() { if [ "$(id -un)" = "$user" ]; then "$@"; else runuser -u "$user" -- "$@"; fi; }
"""

_LIMITS = f"""{OURS}{_AS}
limits() {{
  for one in $(ours); do sed -n 's/^Max file size *\\([^ ]*\\) .*/\\1/p' "/proc/$one/limits" 2>/dev/null; done
}}
limit() {{
  tries=50
  while :; do
    for one in $(ours); do as prlimit --pid "$one" --fsize="$1:" 2>/dev/null; done
    limits | grep -qvx "$1" || return 0
    tries=$((tries - 1)); [ "$tries" -gt 0 ] || {{ echo 'some of its processes keep their limit' >&2; return 1; }}
  done
}}
"""

_WRITE = """
if PGCONNECT_TIMEOUT=5 as {programs}/psql -XAtqw -v ON_ERROR_STOP=1 -h {sockets} -p {port} -d postgres \\
  -c "SET statement_timeout = '5s'" -c "{statement}" >/dev/null 2>&1
then echo 'its server still writes' >&2; return 1; fi
"""


def limited(values: Values) -> Scripts:
    """By a limit on the size of files. Only the soft one: whoever set it can take it back."""
    first = f"data={quote(values['data'])} user={quote(values['user'])}\n{_LIMITS}"
    # a server that ended of it is still hurt by it, as long as nobody has lifted it or started another
    look = f"""{first}
# one look: between two the server may have ended of it
all=0 none=0
for one in $(limits); do
  all=$((all + 1))
  if [ "$one" = 0 ]; then none=$((none + 1)); fi
done
if [ "$none" -gt 0 ] || {{ [ "$all" = 0 ] && [ -e "$room" ]; }}; then echo standing; else echo gone; fi
echo "processes $all"; echo "limited $none\""""
    return Scripts(mend=f"{first}\nlimit {quote(values['soft'])}", look=look)


def told(values: Values) -> Scripts:
    """By a file of settings; a server that does not run needs no word of it."""
    first = f"data={quote(values['data'])} file={quote(values['file'])}\n"
    # told again where it is gone already: nobody knows whether the server has heard
    hear = (
        'pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = postgres ]'
    )
    return Scripts(
        mend=f'{first}rm -f "$file" || return 1\nif {hear}; then kill -HUP "$pid"; fi\n:',
        look=f'{first}if [ -e "$file" ]; then echo standing; else echo gone; fi',
    )


def _written(found: Mapping[str, str], statement: str) -> str:
    words = {name: quote(found[name]) for name in ("programs", "sockets", "port")}
    return f"user={quote(found['user'])}\n{_AS}" + _WRITE.format(**words, statement=statement)


def _limit(found: Mapping[str, str]) -> Means:
    hurt = Hurt(way=Way.LIMIT, values={name: found[name] for name in ("data", "user", "soft")})
    mended = limited(hurt.values)
    first = f"data={quote(found['data'])} user={quote(found['user'])}\n{_LIMITS}"
    scripts = Scripts(
        act=f"{first}\nlimit 0",
        prove=_written(found, "SELECT pg_logical_emit_message(true, 'ismgr', '')"),
        mend=mended.mend,
        look=mended.look,
    )
    words = (
        "its server's processes may write to no file (RLIMIT_FSIZE), the disk itself is not filled; as where the disk "
        "of its log is full, it ends at the first commit, and nothing but a start brings it back"
    )
    return Means(hurt=hurt, scripts=scripts, words=words)


def _settings(request: FaultRequest, found: Mapping[str, str]) -> Means:
    file = f"{found['settings']}/zz-{MARK}{key_of(request.run, request.name)}.conf"
    hurt = Hurt(way=Way.SETTINGS, values={"data": found["data"], "file": file})
    mended = told(hurt.values)
    act = f"""data={quote(found["data"])} file={quote(file)} user={quote(found["user"])}
echo 'default_transaction_read_only = on' > "$file" || return 1
if [ "$(id -un)" != "$user" ]; then chown "$user:" "$file" || return 1; fi
kill -HUP "$(head -n 1 "$data/postmaster.pid")\""""
    prove = _written(found, "BEGIN; CREATE TABLE ismgr_fault (); ROLLBACK")
    words = "its server is told to refuse writes, because no file system can be made read-only under a server that runs"
    return Means(hurt=hurt, scripts=Scripts(act=act, prove=prove, mend=mended.mend, look=mended.look), words=words)


def _probe(request: FaultRequest, host: str) -> tuple[str, tuple[str, ...]]:
    return _PROBE, layout_arguments(request, host)


def _means(request: FaultRequest, found: Mapping[str, str]) -> Means:
    return _limit(found) if request.harm is Harm.DISK_FULL else _settings(request, found)


FILL = Craft(probe=_probe, means=_means)
