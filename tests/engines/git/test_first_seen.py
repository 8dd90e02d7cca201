"""Since when versions are known: entries are only ever added, whoever writes, and machines that meet agree."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ismgr_automation.core.errors import CredentialRejected, EngineFailed, InputError, SettingsError, Unreachable
from ismgr_automation.core.events import Event, StepReported, ignore
from ismgr_automation.engines.git.first_seen import REF, GitFirstSeen
from ismgr_automation.engines.git.refs import RefFolder
from ismgr_automation.engines.git.remote import explained
from ismgr_automation.engines.git.repository import DEADLINE, Repository
from ismgr_automation.ports.memory import MemoryFirstSeen
from ismgr_automation.ports.patching import Exchanged, FirstSeen, VersionKey

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OPENSSL = VersionKey(source="Debian/openssl", version="3.0.15-1~deb12u1", digest="sha256:" + "4f" * 32)
LIBXML = VersionKey(source="Debian/libxml2", version="1:2.9.14+dfsg-1.3", digest="sha256:" + "a1" * 32)
REMOTE = "refs/ismgr/first-seen-remote"


def git(folder: Path, *arguments: str, ok: bool = True) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is ok, done.stderr
    return done.stdout if ok else done.stderr


def repository(folder: Path, name: str = "repo") -> Path:
    git(folder, "init", "-q", "-b", "main", "--bare", name)
    return folder / name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return repository(tmp_path)


@pytest.fixture(params=["memory", "git"])
def seen(request: pytest.FixtureRequest, tmp_path: Path) -> FirstSeen:
    """An empty ledger of each kind."""
    return MemoryFirstSeen() if request.param == "memory" else GitFirstSeen(repository(tmp_path), "clinic")


def test_a_version_keeps_the_time_when_it_was_first_seen(seen: FirstSeen) -> None:
    assert seen.known([OPENSSL]) == {}
    assert seen.see([OPENSSL], NOON) == 1
    assert seen.see([OPENSSL, LIBXML], NOON + DAY) == 1
    assert seen.known([LIBXML, OPENSSL]) == {OPENSSL: NOON, LIBXML: NOON + DAY}
    assert seen.known([LIBXML]) == {LIBXML: NOON + DAY}


def test_a_clock_that_was_set_back_makes_nothing_older(seen: FirstSeen) -> None:
    seen.see([OPENSSL], NOON)
    assert seen.see([OPENSSL], NOON - DAY) == 0
    assert seen.known([OPENSSL]) == {OPENSSL: NOON}


@pytest.mark.parametrize(
    "other",
    [
        replace(OPENSSL, digest="sha256:" + "00" * 32),
        replace(OPENSSL, version="3.0.15-1~deb12u2"),
        replace(OPENSSL, source="mirror.example/openssl"),
        replace(OPENSSL, digest=""),
    ],
    ids=["digest", "version", "origin", "no digest"],
)
def test_what_differs_in_anything_begins_anew(seen: FirstSeen, other: VersionKey) -> None:
    seen.see([OPENSSL], NOON)
    assert seen.known([other]) == {}
    assert seen.see([other], NOON + DAY) == 1
    assert seen.known([OPENSSL, other]) == {OPENSSL: NOON, other: NOON + DAY}


def test_what_was_ever_seen_of_a_package_is_known_when_nobody_offers_it_any_more(seen: FirstSeen) -> None:
    later, elsewhere = replace(OPENSSL, version="3.0.15-1~deb12u2"), replace(OPENSSL, source="mirror.example/openssl")
    seen.see([OPENSSL, LIBXML, elsewhere], NOON)
    seen.see([later], NOON + DAY)
    assert seen.ever([OPENSSL.source]) == {OPENSSL: NOON, later: NOON + DAY}
    assert seen.ever(["Debian/none"]) == seen.ever([]) == {}


def test_a_key_that_is_named_twice_is_one_entry(seen: FirstSeen) -> None:
    assert seen.see([OPENSSL, LIBXML, OPENSSL], NOON) == 2


def test_nothing_is_asked_and_nothing_is_there(seen: FirstSeen) -> None:
    assert seen.see([], NOON) == 0
    assert seen.known([]) == {}


def test_an_update_that_offers_the_same_versions_adds_no_commit(folder: Path) -> None:
    seen = GitFirstSeen(folder, "clinic")
    seen.see([OPENSSL, LIBXML], NOON)
    before = git(folder, "rev-parse", REF)
    assert seen.see([LIBXML, OPENSSL], NOON + DAY) == 0
    assert git(folder, "rev-parse", REF) == before


def test_the_ledger_is_text_that_people_read_in_folders_as_debians_pool_has_them(folder: Path) -> None:
    seen = GitFirstSeen(folder, "clinic")
    newer = replace(OPENSSL, version="3.0.15-1~deb12u2")
    seen.see([newer], NOON)
    seen.see([OPENSSL, LIBXML], (NOON + DAY).astimezone(timezone(timedelta(hours=1))))
    paths = ["clinic/Debian/libx/libxml2", "clinic/Debian/o/openssl"]
    assert git(folder, "ls-tree", "-r", "--name-only", REF).splitlines() == paths
    assert git(folder, "show", f"{REF}:clinic/Debian/o/openssl").splitlines() == [
        f"2026-11-02T12:00:00Z Debian/openssl 3.0.15-1~deb12u2 {newer.digest}",
        f"2026-11-03T12:00:00Z Debian/openssl 3.0.15-1~deb12u1 {OPENSSL.digest}",
    ]


def test_a_new_version_rewrites_the_file_of_its_package_alone(folder: Path) -> None:
    seen = GitFirstSeen(folder, "clinic")
    seen.see([OPENSSL, LIBXML], NOON)
    seen.see([replace(OPENSSL, version="4")], NOON)
    assert git(folder, "diff-tree", "-r", "--name-only", f"{REF}~1", REF).split() == ["clinic/Debian/o/openssl"]


def test_estates_of_one_repository_see_for_themselves(folder: Path) -> None:
    GitFirstSeen(folder, "clinic").see([OPENSSL], NOON)
    assert GitFirstSeen(folder, "other").known([OPENSSL]) == {}
    assert GitFirstSeen(folder, "other").see([OPENSSL], NOON + DAY) == 1
    assert GitFirstSeen(folder, "clinic").known([OPENSSL]) == {OPENSSL: NOON}


def test_branches_index_and_working_tree_stay_as_they_are(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main", "repo")
    root = tmp_path / "repo"
    (root / "a").write_text("x")
    git(root, "add", "a")
    GitFirstSeen(root, "clinic").see([OPENSSL], NOON)
    assert git(root, "status", "--porcelain") == "A  a\n"
    assert git(root, "for-each-ref", "--format=%(refname)").split() == [REF]


def test_outside_of_a_repository_it_is_an_error_of_who_asked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not inside a Git repository"):
        GitFirstSeen(tmp_path, "clinic").known([OPENSSL])


WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ismgr_automation.engines.git.first_seen import GitFirstSeen
from ismgr_automation.ports.patching import VersionKey

me = int(sys.argv[2])
mine = VersionKey(source="Debian/openssl", version=f"own-{me}", digest="sha256:1")
shared = VersionKey(source="Debian/openssl", version="shared", digest="sha256:1")
now = datetime(2026, 11, 2, tzinfo=UTC) + timedelta(seconds=me)
sys.stdin.read()  # until all are there
print(GitFirstSeen(Path(sys.argv[1]), "clinic").see([mine, shared], now))
"""


def test_twenty_processes_that_add_at_once_to_one_file_all_come_through(folder: Path) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WRITER, str(folder)]
    writers = [subprocess.Popen([*command, str(me)], stdin=pipe, stdout=pipe, text=True) for me in range(20)]
    for one in writers:
        assert one.stdin
        one.stdin.close()
        one.stdin = None
    new = [int(one.communicate(timeout=300)[0]) for one in writers]
    assert sorted(new) == [1] * 19 + [2]
    keys = [VersionKey(source="Debian/openssl", version=f"own-{me}", digest="sha256:1") for me in range(20)]
    shared = VersionKey(source="Debian/openssl", version="shared", digest="sha256:1")
    known = GitFirstSeen(folder, "clinic").known([*keys, shared])
    first = datetime(2026, 11, 2, tzinfo=UTC)
    assert [known[key] for key in keys] == [first + timedelta(seconds=me) for me in range(20)]
    assert known[shared] == first + timedelta(seconds=new.index(2))
    assert git(folder, "rev-list", "--count", REF).strip() == "20"


LINE = f"2026-11-02T12:00:00Z Debian/openssl 3 {OPENSSL.digest}\n"


SPOILT = {
    "empty": b"",
    "nonsense": b"nonsense\n",
    "twice": LINE.encode() + LINE.encode(),
    "without an end": LINE.strip().encode(),
    "of another system": LINE.replace("\n", "\r\n").encode(),
    "without a zone": LINE.replace("12:00:00Z", "12:00:00").encode(),
    "in another zone": LINE.replace("12:00:00Z", "13:00:00+01:00").encode(),
    "at no date": LINE.replace("2026-11-02", "2026-13-02").encode(),
    "of another package": LINE.replace("Debian/openssl", "Debian/bash").encode(),
    "without a version": LINE.replace(" 3 ", "  ").encode(),
    "out of order": (LINE.replace("-02T", "-03T") + LINE.replace(" 3 ", " 2 ")).encode(),
    "no text": b"\xff\xfe\n",
}


@pytest.mark.parametrize("content", SPOILT.values(), ids=SPOILT)
def test_a_file_that_is_not_ours_is_named_and_never_written_over(folder: Path, content: bytes) -> None:
    seen = GitFirstSeen(folder, "clinic")
    ref = RefFolder(Repository.around(folder, DEADLINE), REF)
    commit = ref.add({"clinic/Debian/o/openssl": content}, "Not ours")
    for attempt in (lambda: seen.known([OPENSSL]), lambda: seen.see([OPENSSL], NOON)):
        with pytest.raises(EngineFailed, match="cannot be read") as caught:
            attempt()
        assert caught.value.subject == f"{commit}:clinic/Debian/o/openssl"
        assert f"git show {commit}" in caught.value.next_step
    assert ref.tip() == commit
    assert seen.see([LIBXML], NOON) == 1


def exchange(here: Path, there: Path) -> None:
    git(here, "fetch", "-q", str(there), f"+{REF}:{REMOTE}")


def test_machines_that_meet_have_the_union_with_the_earlier_time(tmp_path: Path) -> None:
    one, two = repository(tmp_path, "one"), repository(tmp_path, "two")
    GitFirstSeen(one, "clinic").see([OPENSSL], NOON)
    GitFirstSeen(two, "clinic").see([OPENSSL, LIBXML], NOON - DAY)
    GitFirstSeen(two, "other").see([LIBXML], NOON)
    exchange(one, two)
    assert GitFirstSeen(one, "clinic").absorb(REMOTE) == 3
    assert GitFirstSeen(one, "clinic").absorb(REMOTE) == 0
    assert GitFirstSeen(one, "clinic").known([OPENSSL, LIBXML]) == {OPENSSL: NOON - DAY, LIBXML: NOON - DAY}
    assert GitFirstSeen(one, "other").known([LIBXML]) == {LIBXML: NOON}
    git(one, "push", "-q", str(two), f"{REF}:{REF}")  # adds to what is there: no force
    assert git(one, "rev-parse", REF) == git(two, "rev-parse", REF)


def test_whoever_has_nothing_of_its_own_only_follows(tmp_path: Path) -> None:
    one, two = repository(tmp_path, "one"), repository(tmp_path, "two")
    GitFirstSeen(two, "clinic").see([OPENSSL], NOON)
    for key in (LIBXML, replace(LIBXML, version="3")):
        exchange(one, two)
        GitFirstSeen(one, "clinic").absorb(REMOTE)
        assert git(one, "rev-parse", REF) == git(two, "rev-parse", REF)
        GitFirstSeen(two, "clinic").see([key], NOON)


def test_a_remote_that_lost_entries_takes_none_away(tmp_path: Path) -> None:
    one, two = repository(tmp_path, "one"), repository(tmp_path, "two")
    for place in (one, two):
        GitFirstSeen(place, "clinic").see([OPENSSL], NOON)
    GitFirstSeen(one, "clinic").see([replace(OPENSSL, version="4"), LIBXML], NOON)
    exchange(one, two)
    assert GitFirstSeen(one, "clinic").absorb(REMOTE) == 0
    assert len(GitFirstSeen(one, "clinic").known([OPENSSL, LIBXML, replace(OPENSSL, version="4")])) == 3


def test_a_remote_that_rewrote_a_time_to_a_later_one_changes_nothing(tmp_path: Path) -> None:
    one, two = repository(tmp_path, "one"), repository(tmp_path, "two")
    GitFirstSeen(one, "clinic").see([OPENSSL], NOON)
    git(one, "push", "-q", str(two), REF)
    later = LINE.replace(" 3 ", f" {OPENSSL.version} ").replace("2026", "2027")
    RefFolder(Repository.around(two, DEADLINE), REF).add({"clinic/Debian/o/openssl": later.encode()}, "Later")
    exchange(one, two)
    assert GitFirstSeen(one, "clinic").absorb(REMOTE) == 0
    assert GitFirstSeen(one, "clinic").known([OPENSSL]) == {OPENSSL: NOON}


def test_a_remote_with_a_file_that_is_not_ours_is_refused_whole(tmp_path: Path) -> None:
    one, two = repository(tmp_path, "one"), repository(tmp_path, "two")
    GitFirstSeen(one, "clinic").see([OPENSSL], NOON)
    GitFirstSeen(two, "clinic").see([LIBXML], NOON)
    RefFolder(Repository.around(two, DEADLINE), REF).add({"README": b"hello\n"}, "Not ours")
    exchange(one, two)
    before = git(one, "rev-parse", REF)
    with pytest.raises(EngineFailed, match="cannot be read"):
        GitFirstSeen(one, "clinic").absorb(REMOTE)
    assert git(one, "rev-parse", REF) == before


def test_a_ref_that_is_not_there_is_said(folder: Path) -> None:
    GitFirstSeen(folder, "clinic").see([OPENSSL], NOON)
    with pytest.raises(InputError, match="no commit 'refs/ismgr/first-seen-remote'"):
        GitFirstSeen(folder, "clinic").absorb(REMOTE)


WORDS = st.one_of(
    st.sampled_from(["", "-", ".git", "git~1", "..", "a b", "a/b", "lib", "%2D", "a\nb"]), st.text(max_size=4)
)
KEYS = st.builds(
    VersionKey,
    source=st.one_of(st.sampled_from(["Debian/openssl", "openssl", "/openssl"]), WORDS),
    version=st.one_of(st.sampled_from(["1", "1:1~a+b"]), WORDS),
    digest=st.sampled_from(["", "-", "sha256:1"]),
)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
SIGHTINGS = st.lists(st.tuples(st.lists(KEYS, max_size=4), MOMENTS), max_size=3)


@pytest.fixture(scope="module")
def many() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def believed(sightings: Sequence[tuple[Sequence[VersionKey], datetime]]) -> Mapping[VersionKey, datetime]:
    """The first sighting of each key counts."""
    return {key: at for keys, at in reversed(sightings) for key in keys}


@given(SIGHTINGS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_seen_keeps_its_first_time_exactly(
    many: Path, sightings: Sequence[tuple[Sequence[VersionKey], datetime]]
) -> None:
    seen = GitFirstSeen(repository(many, tempfile.mkdtemp(dir=many)), "clinic")
    double = MemoryFirstSeen()
    for number, (keys, at) in enumerate(sightings, 1):
        assert seen.see(keys, at) == double.see(keys, at)
        assert seen.known(list(double.entries)) == double.entries == believed(sightings[:number])


@given(SIGHTINGS, SIGHTINGS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_absorbs_whom_both_know_the_same(
    many: Path,
    here: Sequence[tuple[Sequence[VersionKey], datetime]],
    there: Sequence[tuple[Sequence[VersionKey], datetime]],
) -> None:
    one, two = (repository(many, tempfile.mkdtemp(dir=many)) for _ in range(2))
    for place, sightings in ((one, here), (two, there)):
        GitFirstSeen(place, "clinic").see([OPENSSL], NOON)
        for keys, at in sightings:
            GitFirstSeen(place, "clinic").see(keys, at)
    exchange(one, two)
    exchange(two, one)
    GitFirstSeen(one, "clinic").absorb(REMOTE)
    GitFirstSeen(two, "clinic").absorb(REMOTE)
    assert git(one, "rev-parse", f"{REF}^{{tree}}") == git(two, "rev-parse", f"{REF}^{{tree}}")
    first, second = believed(here), believed(there)
    both = {key: min(times[key] for times in (first, second) if key in times) for key in {**first, **second}}
    known = GitFirstSeen(one, "clinic").known(list(both))
    assert known == {**both, **({OPENSSL: min(NOON, both[OPENSSL])} if OPENSSL in both else {})}


SHARED = VersionKey(source="Debian/openssl", version="shared", digest="sha256:1")


def clone(origin: Path, name: str) -> Path:
    git(origin.parent, "clone", "-q", str(origin), name)
    return origin.parent / name


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A repository that two machines share, and theirs."""
    origin = repository(tmp_path, "origin")
    return origin, clone(origin, "one"), clone(origin, "two")


def tip(folder: Path) -> str:
    return git(folder, "rev-parse", REF).strip()


def test_machines_that_share_a_remote_give_and_take(machines: tuple[Path, Path, Path]) -> None:
    origin, *folders = machines
    one, two = (GitFirstSeen(folder, "clinic") for folder in folders)
    one.see([OPENSSL, SHARED], NOON)
    two.see([LIBXML, SHARED], NOON - DAY)
    GitFirstSeen(folders[1], "other").see([LIBXML], NOON)
    assert one.exchange("origin", ignore) == Exchanged(given=2)
    assert two.exchange("origin", ignore) == Exchanged(taken=1, given=3)
    assert one.exchange("origin", ignore) == Exchanged(taken=3)
    assert one.everything() == two.everything() == {OPENSSL: NOON, LIBXML: NOON - DAY, SHARED: NOON - DAY}
    assert tip(origin) == tip(folders[0]) == tip(folders[1])
    assert two.exchange("origin", ignore) == Exchanged()
    for folder in machines:
        assert git(folder, "for-each-ref", "--format=%(refname)").split() == [REF]  # nothing of the way is left


def test_where_nobody_saw_anything_nothing_is_exchanged(machines: tuple[Path, Path, Path]) -> None:
    assert GitFirstSeen(machines[1], "clinic").exchange("origin", ignore) == Exchanged()
    assert git(machines[0], "for-each-ref") == ""


def test_whoever_was_slower_takes_what_the_other_pushed_and_pushes_again(machines: tuple[Path, Path, Path]) -> None:
    _, first, second = machines
    one, two = GitFirstSeen(first, "clinic"), GitFirstSeen(second, "clinic")
    one.see([OPENSSL, SHARED], NOON)
    two.see([LIBXML, SHARED], NOON - DAY)
    steps: list[str] = []

    def faster(event: Event) -> None:
        """The other machine pushes between our fetch and our push, once."""
        assert isinstance(event, StepReported)
        if not steps:
            two.exchange("origin", ignore)
        steps.append(event.step)

    assert one.exchange("origin", faster) == Exchanged(taken=2, given=1)
    assert steps == ["fetch", "again", "fetch", "push"]
    two.exchange("origin", ignore)
    assert one.everything() == two.everything() == {OPENSSL: NOON, LIBXML: NOON - DAY, SHARED: NOON - DAY}


def test_whoever_is_never_fast_enough_gives_up_and_keeps_what_came(machines: tuple[Path, Path, Path]) -> None:
    _, first, second = machines
    one, two = GitFirstSeen(first, "clinic", pause=timedelta()), GitFirstSeen(second, "clinic")
    one.see([OPENSSL], NOON)
    others: list[VersionKey] = []

    def faster(event: Event) -> None:
        if isinstance(event, StepReported) and event.step == "fetch":
            others.append(replace(LIBXML, version=str(len(others))))
            two.see([others[-1]], NOON)
            two.exchange("origin", ignore)

    with pytest.raises(EngineFailed, match="others were faster, or just at it, 10 times") as caught:
        one.exchange("origin", faster)
    assert caught.value.next_step
    assert set(one.known(others)) == set(others[:-1])
    assert one.exchange("origin", ignore) == Exchanged(taken=1, given=1)


def test_whoever_meets_somebody_who_is_just_moving_the_ref_tries_again(machines: tuple[Path, Path, Path]) -> None:
    origin, first, _ = machines
    one = GitFirstSeen(first, "clinic", pause=timedelta())
    one.see([OPENSSL], NOON)
    lock = origin / f"{REF}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    steps: list[str] = []

    def until_it_is_done(event: Event) -> None:
        assert isinstance(event, StepReported)
        steps.append(event.step)
        if event.step == "again":
            lock.unlink(missing_ok=True)

    assert one.exchange("origin", until_it_is_done) == Exchanged(given=1)
    assert steps == ["fetch", "again", "fetch", "push"]


EXCHANGER = """
import sys
from datetime import timedelta
from pathlib import Path
from ismgr_automation.core.events import ignore
from ismgr_automation.engines.git.first_seen import GitFirstSeen

sys.stdin.read()  # until all are there
GitFirstSeen(Path(sys.argv[1]), "clinic").exchange("origin", ignore)
"""


def test_processes_that_exchange_at_once_lose_nothing(tmp_path: Path) -> None:
    origin = repository(tmp_path, "origin")
    folders = [clone(origin, f"machine-{number}") for number in range(4)]
    keys = [replace(OPENSSL, version=str(number)) for number in range(4)]
    for number, folder in enumerate(folders):
        GitFirstSeen(folder, "clinic").see([keys[number], SHARED], NOON + number * DAY)
    running = [
        subprocess.Popen([sys.executable, "-c", EXCHANGER, str(folder)], stdin=subprocess.PIPE) for folder in folders
    ]
    for one in running:
        assert one.stdin
        one.stdin.close()
    assert [one.wait(timeout=300) for one in running] == [0] * 4
    expected = {**{key: NOON + number * DAY for number, key in enumerate(keys)}, SHARED: NOON}
    assert GitFirstSeen(origin, "clinic").everything() == expected


def test_a_remote_that_nobody_named_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    lonely = repository(tmp_path, "lonely")
    with pytest.raises(SettingsError, match="has no remote") as caught:
        GitFirstSeen(lonely, "clinic").exchange("origin", ignore)
    assert "git remote add origin" in caught.value.next_step
    git(lonely, "remote", "add", "central", "/nowhere")
    for name, said in (("centrl", "central"), ("--upload-pack=touch x", "one of central"), ("/nowhere", "one of")):
        with pytest.raises(SettingsError, match="no remote") as caught:
            GitFirstSeen(lonely, "clinic").exchange(name, ignore)
        assert said in str(caught.value)


def test_a_remote_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    here = repository(tmp_path)
    GitFirstSeen(here, "clinic").see([OPENSSL], NOON)
    git(here, "remote", "add", "gone", str(tmp_path / "gone"))
    git(here, "remote", "add", "closed", "git://127.0.0.1:1/x")
    for name in ("gone", "closed"):
        with pytest.raises(Unreachable, match=f"The remote {name} cannot be looked at") as caught:
            GitFirstSeen(here, "clinic").exchange(name, ignore)
        assert (caught.value.cause, f"git remote get-url {name}" in caught.value.next_step) == ("refused", True)


def test_a_remote_that_takes_nothing_from_us_says_so_and_stays_as_it_is(machines: tuple[Path, Path, Path]) -> None:
    origin, first, second = machines
    GitFirstSeen(first, "clinic").see([OPENSSL], NOON)
    GitFirstSeen(first, "clinic").exchange("origin", ignore)
    hook = origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho nobody but the pipeline >&2\nexit 1\n")
    hook.chmod(0o755)
    two = GitFirstSeen(second, "clinic")
    two.see([LIBXML], NOON)
    before = tip(origin)
    with pytest.raises(CredentialRejected, match="cannot be pushed to") as caught:
        two.exchange("origin", ignore)
    assert "nobody but the pipeline" in caught.value.detail
    assert "refs/ismgr/*" in caught.value.next_step
    assert tip(origin) == before
    assert two.known([OPENSSL]) == {OPENSSL: NOON}  # what came before is kept


@pytest.mark.parametrize(
    ("words", "kind", "cause"),
    [
        ("git@host: Permission denied (publickey).\nfatal: Could not read from remote repository.", "auth", ""),
        ("remote: HTTP Basic: Access denied\nfatal: Authentication failed for 'https://host/x.git/'", "auth", ""),
        ("fatal: could not read Username for 'https://host': terminal prompts disabled", "auth", ""),
        ("fatal: unable to access 'https://host/': The requested URL returned error: 403", "auth", ""),
        ("remote: error: GH006: Protected branch update failed", "auth", ""),
        ("Host key verification failed.\nfatal: Could not read from remote repository.", "auth", ""),
        ("fatal: unable to access 'https://host/': Could not resolve host: host", "away", "dns"),
        ("ssh: Could not resolve hostname host: Name or service not known", "away", "dns"),
        ("ssh: connect to host host port 22: Connection timed out", "away", "timeout"),
        ("fatal: unable to connect to host:\nhost[0: 127.0.0.1]: errno=Connection refused", "away", "refused"),
    ],
)
def test_what_git_says_of_a_remote_is_told_apart(words: str, kind: str, cause: str) -> None:
    problem = explained("origin", "fetched from", words)
    assert isinstance(problem, CredentialRejected if kind == "auth" else Unreachable)
    assert getattr(problem, "cause", "") == cause
    assert problem.next_step
