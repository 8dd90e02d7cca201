"""Finds out, on a host, whether its PostgreSQL is a primary or could come up as one. Looks, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

LOOK = r"""
starts() {
  command -v pg_lsclusters >/dev/null 2>&1 || { echo unknown; return; }
  set -- $(pg_lsclusters -h | awk -v port="$1" '$3 == port { print $1, $2, $4; exit }')
  if [ $# = 0 ]; then echo none; return; fi
  case $3 in *recovery*) echo waits; return ;; esac
  case $(sed 's/#.*//' "${PG_CLUSTER_CONF_ROOT:-/etc/postgresql}/$1/$2/start.conf" 2>/dev/null | tr -d '[:space:]') in
    manual|disabled) echo manual ;;
    *) echo automatic ;;
  esac
}
standing() {
  command -v ss >/dev/null 2>&1 || { echo unknown; return; }
  pid=$(ss -Hltnp "sport = :$1" | sed -n 's/.*users:(("[^"]*",pid=\([0-9]*\).*/\1/p' | head -n 1)
  if [ -z "$pid" ]; then starts "$1"; return; fi
  # a postmaster works inside its data folder, wherever that is
  if [ ! -e "/proc/$pid/cwd/PG_VERSION" ]; then echo other; return; fi
  if [ -e "/proc/$pid/cwd/standby.signal" ]; then echo standby; else echo primary; fi
}
"""
"""Defines two shell functions that print one of the words of ``Standing``: ``standing PORT`` says how it is, ``starts
PORT`` how it would be after a boot. They need root."""


class Standing(StrEnum):
    """How the database of a host is, and what it would do by itself."""

    STANDBY = "standby"
    """It runs, and takes no writes."""
    WAITS = "waits"
    """It is down, and would come up as a standby."""
    MANUAL = "manual"
    """It is down, and does not come up by itself."""
    NONE = "none"
    """There is no cluster on this port."""
    PRIMARY = "primary"
    """It runs, and takes writes."""
    AUTOMATIC = "automatic"
    """It is down, and would come up by itself as a primary."""
    OTHER = "other"
    """Something that is no PostgreSQL listens there."""
    UNKNOWN = "unknown"

    @property
    def safe(self) -> bool:
        """Whether it can be let out: it is no primary, and does not become one by itself."""
        return self in {Standing.STANDBY, Standing.WAITS, Standing.MANUAL, Standing.NONE}

    def goes(self, *, giving_back: bool) -> bool:
        """Whether it is let out: what is given back may be a primary, or become one."""
        return self.safe or (giving_back and self in {Standing.PRIMARY, Standing.AUTOMATIC})


WORDS: Mapping[Standing, str] = {
    Standing.STANDBY: "its PostgreSQL is a standby",
    Standing.WAITS: "its PostgreSQL is down and would come up as a standby",
    Standing.MANUAL: "its PostgreSQL is down and starts only when somebody starts it",
    Standing.NONE: "it has no PostgreSQL on this port",
    Standing.PRIMARY: "its PostgreSQL runs as a primary",
    Standing.AUTOMATIC: "its PostgreSQL would come up by itself as a primary",
    Standing.OTHER: "something that is no PostgreSQL listens on this port",
    Standing.UNKNOWN: "nobody can say whether its PostgreSQL would come up as a primary",
}


def standing_of(text: str) -> Standing:
    """What the function printed."""
    word = text.strip()
    return Standing(word) if word in set(Standing) else Standing.UNKNOWN
