"""The scripts that hosts run for backups of files. What each is given stands below it."""

from __future__ import annotations

FIRST = """
cd /
settings=$1; shift
[ -r "$settings" ] || { echo "there is no $settings: the role backup writes it" >&2; exit 1; }
set -a; . "$settings"; set +a
"""

READ = f"""{FIRST}
said=$(mktemp) || exit 1
trap 'rm -f "$said"' EXIT
if ! found=$(restic snapshots --json --no-lock --tag ismgr --host "$1" 2>"$said"); then
  # the first run of its service makes it
  grep -q 'Is there a repository at the following location' "$said" || {{ cat "$said" >&2; exit 1; }}
  found=null
fi
date +%s.%N
printf '%s\\n' "$found"
"""
"""A host's name: prints its time, and the snapshots of that host."""

TAKE = """
systemctl start ismgr-backup-files.service || {
  journalctl --no-pager --lines=3 --output=cat --unit=ismgr-backup-files.service | tr '\\n' ' ' >&2; exit 1; }
"""
"""Makes one, as its timer does."""

_RUN = f"""{FIRST}
root=$1 run=$2; shift 2
folder=$root/$run-files unit=ismgr-restore-$run-files
worker() {{ systemd-run --quiet --collect --wait --pipe --working-directory=/ -p EnvironmentFile="$settings" "$@"; }}
"""

CHECK = f"""{_RUN}
said=/run/$unit
worker --unit="$unit-check" restic check --quiet --read-data > "$said" 2>&1 && {{ rm -f "$said"; exit 0; }}
{{ grep -v '^using temporary cache' "$said" | grep -E 'error|failed|not match' || cat "$said"; }} | head -n 1 >&2
rm -f "$said"
exit 1
"""
"""Reads all that the repository has; fails with its first complaint."""

RESTORE = f"""{_RUN}
id=$1 seconds=$2
[ ! -e "$folder" ] || {{ echo "$folder is there already" >&2; exit 1; }}
mkdir -p "$root" && chmod 711 "$root" || exit 1
# whoever ordered this may die: then the host itself takes it away
systemd-run --quiet --collect --unit="$unit-over" --on-active="$seconds" --timer-property=AccuracySec=1s \\
  /bin/sh -c "systemctl stop $unit-work.service $unit-check.service; rm -rf -- '$folder'" || exit 1
mkdir -m 700 "$folder" || exit 1
worker --unit="$unit-work" restic restore --no-lock --quiet "$id" --target "$folder/data" --verify 1>&2
"""
"""A snapshot, seconds: restores it into the folder, and reads it back."""

COMPARE = f"""{_RUN}
at=$1
cd "$folder/data" || exit 1
touch -d "$at" "$folder/at"
find . -type f -printf '%P\\0' | sort -z > "$folder/names"
xargs -0 -r sha256sum -- < "$folder/names" > "$folder/restored" || exit 1
tr -cd '\\0' < "$folder/names" | wc -c
du -sb . | cut -f 1
cd /
# what nobody has written to since must be what was restored
xargs -0 -r sh -c 'reference=$1; shift; find "$@" -maxdepth 0 -type f ! -newer "$reference" -print0 2>/dev/null' \\
  sh "$folder/at" < "$folder/names" | xargs -0 -r sha256sum -- > "$folder/live"
awk 'NR == FNR {{ sum[substr($0, 67)] = substr($0, 1, 64); next }}
  sum[substr($0, 67)] == substr($0, 1, 64) {{ same++; next }} {{ print "differs " substr($0, 67) }}
  END {{ print "same " same + 0 }}' "$folder/restored" "$folder/live"
"""
"""The snapshot's time: prints how many files and bytes there are, ``differs PATH`` for each that should be as the one
in use and is not, and ``same COUNT``."""

REMOVE = f"""{_RUN}
systemctl stop "$unit-work.service" "$unit-check.service" 2>/dev/null
rm -rf -- "$folder" "/run/$unit"
systemctl stop "$unit-over.timer" "$unit-over.service" 2>/dev/null
left=$(systemctl list-units --all --plain --no-legend "$unit-*" | cut -d ' ' -f 1 | tr '\\n' ' ')
[ ! -e "$folder" ] || left="$left$folder"
[ -z "$left" ] || {{ echo "$left" >&2; exit 1; }}
"""
"""Takes everything away; fails with what is still there."""
