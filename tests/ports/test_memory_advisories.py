"""The double of a reader of advisories."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.ports.advisories import Advisories, AdvisoryReader, Fix, SourceRead, Vulnerability, Wanted
from ismgr_automation.ports.memory import MemoryAdvisories

WANTED = (Wanted(format="osv", source="records"),)


def read_of(name: str) -> SourceRead:
    at = datetime(2026, 11, 26, tzinfo=UTC)
    return SourceRead(source=name, format="osv", digest="sha256:0", dated=at, fetched_at=at, entries=1)


def fix(cve: str, release: str) -> Fix:
    return Fix(cve=cve, source="nginx", release=release, fixed="1.0")


KNOWN = Advisories(
    fixes={"nginx": (fix("CVE-2026-0001", "bookworm"), fix("CVE-2026-0002", "trixie"))},
    vulnerabilities={cve: Vulnerability(cve=cve) for cve in ("CVE-2026-0001", "CVE-2026-0002")},
    sources=(read_of("records"), read_of("others")),
)


def test_only_the_releases_and_sources_that_were_asked_for_are_told() -> None:
    reader: AdvisoryReader = MemoryAdvisories(known=KNOWN)
    found = reader.read(WANTED, ["bookworm"])
    assert found.fixes == {"nginx": (fix("CVE-2026-0001", "bookworm"),)}
    assert set(found.vulnerabilities) == {"CVE-2026-0001"}
    assert [one.source for one in found.sources] == ["records"]


def test_it_fails_where_it_was_told_to_and_notes_what_was_asked() -> None:
    reader = MemoryAdvisories(known=KNOWN, failing={"records": InputError("no records")})
    with pytest.raises(InputError, match="no records"):
        reader.read(WANTED, ["bookworm"], fresh=True)
    assert reader.asked == [(("records",), True)]
