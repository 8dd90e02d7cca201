"""Since when we know versions, and since when a vulnerability could have been mended by one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime

from ismgr_automation.patching.knowledge import Hole
from ismgr_automation.patching.versions import at_least
from ismgr_automation.ports.packages import Offered
from ismgr_automation.ports.patching import VersionKey

_REBUILT = "+b"
"""What Debian puts behind the version of a package that was built anew from the same source."""


def version_key(offered: Offered) -> VersionKey:
    """What has an age: one file of one version of one package from one origin."""
    return VersionKey(source=_source(offered), version=offered.version, digest=offered.digest)


class Seen:
    """The ledger of what was ever seen of the packages that are offered, on days of UTC."""

    def __init__(self, first_seen: Mapping[VersionKey, datetime]) -> None:
        self._days = {key: at.astimezone(UTC).date() for key, at in first_seen.items()}
        self._versions: defaultdict[str, list[tuple[str, date]]] = defaultdict(list)
        for key, day in self._days.items():
            self._versions[key.source].append((key.version, day))

    def day(self, offered: Offered) -> date | None:
        """When we saw this very file first."""
        return self._days.get(version_key(offered))

    def mended_since(self, hole: Hole, mending: Iterable[Offered]) -> date | None:
        """When we first saw a version without it that led up to one of these: whoever uploads a newer version, and
        takes the first one away, begins no time anew."""
        return min((day for one in mending for day in self._ways(hole, one)), default=None)

    def _ways(self, hole: Hole, offered: Offered) -> Iterable[date]:
        day = self.day(offered)
        if day is not None:
            yield day
        if not _numbered_as_its_source(offered):
            return
        for version, earlier in self._versions.get(_source(offered), ()):
            # what is newer than the offered one is of another release
            if hole.mended_by(version) and at_least(offered.version, version):
                yield earlier


def _source(offered: Offered) -> str:
    return f"{offered.origin}/{offered.name}"


def _numbered_as_its_source(offered: Offered) -> bool:
    """Whether versions of the package can be compared with the source version that mends: some have their own."""
    return offered.source_version in {offered.version, offered.version.rpartition(_REBUILT)[0]}
