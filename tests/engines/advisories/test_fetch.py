"""Sources behind URLs, over a real server: asked only for what is new, kept, and not made worse by what goes wrong."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import EngineFailed, InputError, Unreachable
from ismgr_automation.engines.advisories import FileAdvisories, Limits
from ismgr_automation.ports.advisories import Advisories, SourceRead
from tests.engines.advisories.site import CASES, START, Clock, Page, Site, serve, wanted
from tests.engines.loopback import free_port
from tests.provider.fake_bmc import Authority

GOOD = (CASES / "debian.json").read_bytes()
NEWER = GOOD.replace(b"3.0.13-1~deb12u1", b"3.0.14-1~deb12u1")
TAGGED = {"ETag": '"one"', "Last-Modified": "Tue, 24 Nov 2026 10:00:00 GMT"}


def read(reader: FileAdvisories, site: Site, *, fresh: bool = False) -> Advisories:
    return reader.read([wanted("debian", site.url("/data.json"))], ["bookworm"], fresh=fresh)


def fixed(found: Advisories) -> str:
    return found.fixes["openssl"][0].fixed


def source(found: Advisories) -> SourceRead:
    (one,) = found.sources
    return one


@pytest.fixture
def published(site: Site) -> Site:
    site.pages["/data.json"] = Page(body=GOOD, headers=TAGGED)
    return site


def test_a_source_is_downloaded_once_and_its_copy_serves_until_it_is_old(
    reader: FileAdvisories, published: Site, clock: Clock
) -> None:
    first = read(reader, published)
    assert fixed(first) == "3.0.13-1~deb12u1"
    assert source(first).dated == datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
    clock.forward(minutes=59)
    assert read(reader, published) == first
    assert len(published.asked) == 1


def test_an_old_copy_is_asked_about_by_its_tag_and_its_age_begins_anew(
    reader: FileAdvisories, published: Site, clock: Clock
) -> None:
    first = read(reader, published)
    clock.forward(hours=1)
    second = read(reader, published)
    assert published.asked[1]["if-none-match"] == '"one"'
    assert published.asked[1]["if-modified-since"] == TAGGED["Last-Modified"]
    assert source(second) == replace(source(first), fetched_at=START + timedelta(hours=1))
    clock.forward(minutes=59)
    read(reader, published)
    assert len(published.asked) == 2


def test_fresh_asks_whatever_the_age_and_what_is_new_takes_the_place(reader: FileAdvisories, published: Site) -> None:
    read(reader, published)
    published.pages["/data.json"] = Page(body=NEWER, headers={"ETag": '"two"'})
    assert fixed(read(reader, published)) == "3.0.13-1~deb12u1"
    found = read(reader, published, fresh=True)
    assert (fixed(found), source(found).dated, source(found).problem) == ("3.0.14-1~deb12u1", None, "")


def test_a_server_that_says_nothing_of_dates_gives_none(reader: FileAdvisories, site: Site) -> None:
    site.pages["/data.json"] = Page(body=GOOD, headers={"Last-Modified": "yesterday"})
    assert source(read(reader, site)).dated is None


def test_what_is_compressed_on_the_way_or_as_a_file_is_unpacked(reader: FileAdvisories, site: Site) -> None:
    packed = gzip.compress((CASES / "epss.csv").read_bytes())
    site.pages["/way"] = Page(body=packed, headers={"Content-Encoding": "gzip"})
    site.pages["/file.csv.gz"] = Page(body=packed, headers={"Content-Type": "application/gzip"})
    found = reader.read([wanted("epss", site.url(path)) for path in ("/way", "/file.csv.gz")], ["bookworm"])
    assert [one.entries for one in found.sources] == [3, 3]


BROKEN: dict[str, Callable[[], Page]] = {
    "not found": lambda: Page(status=404),
    "server error": lambda: Page(status=500),
    "busy": lambda: Page(status=503),
    "no answer of ours": lambda: Page(status=206, body=GOOD),
    "cut off": lambda: Page(body=GOOD[:100], promised=len(GOOD)),
    "cut off between chunks": lambda: Page(body=b"5\r\n{    \r\n", chunked=True),
    "not compressed as it says": lambda: Page(body=GOOD, headers={"Content-Encoding": "gzip"}),
    "redirect to a file": lambda: Page(status=302, headers={"Location": "file:///etc/hostname"}),
    "redirect with a password": lambda: Page(status=302, headers={"Location": "http://a:b@127.0.0.1/"}),
    "redirect to nowhere": lambda: Page(status=302, headers={"Location": "http://[/"}),
    "redirect in a circle": lambda: Page(status=302, headers={"Location": "/data.json"}),
}
"""Answers with which a URL cannot be had."""
WRONG: dict[str, Callable[[], Page]] = {
    "half of it": lambda: Page(body=GOOD[:100]),
    "a page for people": lambda: Page(body=b"<html>We are down for maintenance</html>"),
    "nothing": Page,
    "an empty object": lambda: Page(body=b"{}"),
    "too much": lambda: Page(body=b" " * 200_001),
    "too much once unpacked": lambda: Page(body=gzip.compress(b" " * 9_000_000), headers={"Content-Encoding": "gzip"}),
}
"""Answers that came whole, and are no tracker."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_url_that_cannot_be_had_is_unreachable_with_a_way_on(reader: FileAdvisories, site: Site, name: str) -> None:
    site.pages["/data.json"] = BROKEN[name]()
    with pytest.raises(Unreachable) as away:
        read(reader, site)
    assert away.value.next_step
    assert (away.value.subject, away.value.cause) == (site.url("/data.json"), "refused")


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_is_no_tracker_is_refused(reader: FileAdvisories, site: Site, name: str) -> None:
    site.pages["/data.json"] = WRONG[name]()
    with pytest.raises(InputError) as refused:
        read(reader, site)
    assert site.url("/data.json") in str(refused.value)


@pytest.mark.parametrize("name", ["too much", "too much once unpacked"])
def test_a_download_ends_at_the_limit(reader: FileAdvisories, site: Site, name: str) -> None:
    site.pages["/data.json"] = WRONG[name]()
    with pytest.raises(InputError, match="too large: the answer has more than 200,000 bytes"):
        read(reader, site)


def test_a_server_that_calls_unchanged_what_nobody_has_is_not_believed(reader: FileAdvisories, site: Site) -> None:
    site.pages["/data.json"] = Page(status=304)
    with pytest.raises(Unreachable, match="answers 304"):
        read(reader, site)


@pytest.mark.parametrize("name", [*BROKEN, *WRONG])
def test_whatever_goes_wrong_the_copy_is_used_and_the_problem_told(
    reader: FileAdvisories, published: Site, clock: Clock, name: str
) -> None:
    first = read(reader, published)
    good = published.pages["/data.json"]
    published.pages["/data.json"] = (BROKEN | WRONG)[name]()
    clock.forward(days=4)
    stale = read(reader, published)
    assert stale.fixes == first.fixes
    assert source(stale).problem
    assert source(stale) == replace(source(first), problem=source(stale).problem)
    published.pages["/data.json"] = good
    assert source(read(reader, published)) == replace(source(first), fetched_at=clock.at)
    assert published.asked[-1]["if-none-match"] == '"one"'


def test_nothing_half_done_is_left_in_the_cache(reader: FileAdvisories, site: Site, tmp_path: Path) -> None:
    for make in (BROKEN | WRONG).values():
        site.pages["/data.json"] = make()
        with pytest.raises((Unreachable, InputError)):
            read(reader, site)
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {".json"}


def test_a_port_where_nobody_listens_says_so(reader: FileAdvisories) -> None:
    with pytest.raises(Unreachable, match="nobody listens"):
        read(reader, Site(port=free_port()))


def test_a_name_that_does_not_resolve_says_so(reader: FileAdvisories) -> None:
    with pytest.raises(Unreachable) as away:
        reader.read([wanted("debian", "http://no-such-host.invalid/data.json")], ["bookworm"])
    assert away.value.cause == "dns"


def test_a_plain_redirect_is_followed_and_the_copy_belongs_to_the_first_url(
    reader: FileAdvisories, published: Site
) -> None:
    published.pages["/old.json"] = Page(status=301, headers={"Location": "/data.json"})
    found = reader.read([wanted("debian", published.url("/old.json"))], ["bookworm"])
    assert source(found).source == published.url("/old.json")


def test_the_body_of_a_redirect_is_not_read(reader: FileAdvisories, published: Site) -> None:
    published.pages["/old.json"] = Page(status=301, headers={"Location": "/data.json"}, drip=threading.Event())
    found = reader.read([wanted("debian", published.url("/old.json"))], ["bookworm"])
    assert fixed(found) == "3.0.13-1~deb12u1"


def test_https_is_believed_with_the_authority_of_the_environment_only(
    reader: FileAdvisories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path, "tracker")
    with serve(authority.server_context()) as secure:
        secure.pages["/data.json"] = Page(body=GOOD)
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            read(reader, secure)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
        assert fixed(read(reader, secure)) == "3.0.13-1~deb12u1"


def test_a_redirect_from_https_stays_on_https(
    reader: FileAdvisories, published: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path, "tracker")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.file))
    with serve(authority.server_context()) as secure:
        secure.pages["/data.json"] = Page(status=302, headers={"Location": published.url("/data.json")})
        with pytest.raises(Unreachable, match="which is not followed"):
            read(reader, secure)
        assert not published.asked
        secure.pages["/data.json"] = Page(status=302, headers={"Location": "/other.json"})
        secure.pages["/other.json"] = Page(body=GOOD)
        assert fixed(read(reader, secure)) == "3.0.13-1~deb12u1"


def test_a_server_that_drips_is_given_up_at_the_deadline(tmp_path: Path, site: Site) -> None:
    site.pages["/data.json"] = Page(drip=threading.Event())
    reader = FileAdvisories(tmp_path / "cache", limits=Limits(deadline=timedelta(milliseconds=200)))
    with pytest.raises(Unreachable, match=r"did not come within 0\.2 s") as away:
        read(reader, site)
    assert away.value.cause == "timeout"


def test_a_server_that_falls_silent_is_given_up(tmp_path: Path, site: Site) -> None:
    site.pages["/data.json"] = Page(body=GOOD[:10], promised=len(GOOD), silent=threading.Event())
    reader = FileAdvisories(tmp_path / "cache", limits=Limits(read=timedelta(milliseconds=200)))
    with pytest.raises(Unreachable, match="no answer in time"):
        read(reader, site)


def test_a_proxy_of_the_environment_is_asked(
    reader: FileAdvisories, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", site.url(""))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    site.pages["http://tracker.example.org/data.json"] = Page(body=GOOD)
    found = reader.read([wanted("debian", "http://tracker.example.org/data.json")], ["bookworm"])
    assert fixed(found) == "3.0.13-1~deb12u1"


def test_a_copy_that_was_damaged_is_noticed_and_had_anew(
    reader: FileAdvisories, published: Site, tmp_path: Path, clock: Clock
) -> None:
    first = read(reader, published)
    for path in (tmp_path / "cache").glob("*.result.json"):
        path.unlink()
    (content,) = (tmp_path / "cache").glob("*.content")
    content.write_bytes(NEWER)
    with pytest.raises(InputError, match="changed while it was read"):
        read(reader, published)
    assert read(reader, published) == first


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"null", b'{"digest": "../../x"}'])
def test_facts_of_a_copy_that_are_damaged_mean_that_there_is_none(
    reader: FileAdvisories, published: Site, tmp_path: Path, damage: bytes
) -> None:
    first = read(reader, published)
    (facts,) = (tmp_path / "cache").glob("*.copy.json")
    facts.write_bytes(damage)
    assert read(reader, published) == first
    assert "if-none-match" not in published.asked[-1]


def test_a_content_that_no_url_has_any_more_is_deleted_after_a_while(
    reader: FileAdvisories, published: Site, tmp_path: Path
) -> None:
    read(reader, published)
    published.pages["/data.json"] = Page(body=NEWER)
    late = Clock(at=datetime.now(UTC) + timedelta(hours=2))
    read(FileAdvisories(tmp_path / "cache", now=late), published)
    (content,) = (tmp_path / "cache").glob("*.content")
    assert content.read_bytes() == NEWER


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, published: Site) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(EngineFailed, match="cannot be kept") as failed:
        read(FileAdvisories(tmp_path / "cache"), published)
    assert failed.value.next_step


def test_the_cache_is_for_its_owner_only(reader: FileAdvisories, published: Site, tmp_path: Path) -> None:
    read(reader, published)
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def test_damaged_facts_of_another_url_do_no_harm(reader: FileAdvisories, published: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    for number, damage in enumerate(["[1]", "{}", '{"digest": 7}', "{"]):
        (tmp_path / "cache" / f"{number}.copy.json").write_text(damage)
    assert fixed(read(reader, published)) == "3.0.13-1~deb12u1"


def test_results_do_not_pile_up(reader: FileAdvisories, published: Site, tmp_path: Path) -> None:
    for number in range(20):
        published.pages["/data.json"] = Page(body=GOOD.replace(b"3.0.13", b"3.0.%d" % (20 + number)))
        read(reader, published, fresh=True)
    assert len(list((tmp_path / "cache").glob("*.result.json"))) == 16
