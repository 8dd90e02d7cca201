"""What restic 0.14 says of its snapshots, read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.engines.restic.manager import files_catalogue

ONE = """{"time":"2026-11-27T07:17:00.677952123Z","tree":"e1","paths":["/srv/documents"],"hostname":"db1.dc1",
"username":"root","tags":["ismgr"],"id":"b43724c5ff","short_id":"b43724c5"}""".replace("\n", "")
OLDER = ONE.replace("07:17:00.677952123Z", "07:16:00+01:00").replace("b43724c5", "aaaaaaaa")


def test_snapshots_are_in_order_of_time_and_the_newest_one_tells_the_age() -> None:
    found = files_catalogue(f"1795763822.5\n[{ONE},{OLDER}]\n")
    assert [one.id for one in found.snapshots] == ["aaaaaaaa", "b43724c5"]
    assert found.snapshots[0].at == datetime(2026, 11, 27, 6, 16, tzinfo=UTC)
    assert found.snapshots[1].paths == ("/srv/documents",)
    assert found.age == timedelta(seconds=1.822048)


@pytest.mark.parametrize("body", ["null", "[]"])
def test_no_snapshot_has_no_age(body: str) -> None:
    assert files_catalogue(f"1795763822.5\n{body}\n").age is None


@pytest.mark.parametrize("text", ["", "x\n[]", "1795763822.5\n", "1795763822.5\n[{}]"])
def test_what_cannot_be_read_is_an_error_and_no_guess(text: str) -> None:
    with pytest.raises(EngineFailed, match="cannot be read"):
        files_catalogue(text)
