"""What ``facts.sh`` printed on real machines, read; any other text gives facts or one refusal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.apt.reading import Reading, broken_of, facts_of, unit_of
from ismgr_automation.ports.packages import Boot, HostFacts, Mapped, Need, Stale

CASES = Path(__file__).parents[2] / "cases" / "apt"
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def case(name: str) -> str:
    return (CASES / f"{name}.txt").read_text()


def with_section(text: str, section: str, *lines: str) -> str:
    """The text with other lines in one section."""
    before, found, rest = text.partition(f"@@ {section}\n")
    assert found
    after = rest[rest.index("@@ ") :]
    return before + found + "".join(f"{line}\n" for line in lines) + after


def read(text: str) -> HostFacts:
    return facts_of(Reading(host="web1", text=text, read_at=NOW, seconds=0.5))


def test_a_machine_with_a_kernel_of_its_own_is_read():
    found = read(case("machine"))
    assert (found.host, found.read_at, found.seconds) == ("web1", NOW, 0.5)
    assert (found.distribution, found.release, found.codename) == ("debian", "12", "bookworm")
    assert (found.kernel, found.kernel_installed) == ("6.1.0-18-amd64", "6.1.0-18-amd64")
    assert (found.reboot, found.reboot_why, found.unseen) == (Need.NO, (), 0)
    assert found.lists_read_at == datetime(2026, 11, 26, 23, 37, 44, 886289, tzinfo=UTC)
    assert found.free_bytes > 2**30


def test_the_life_of_a_host_is_read_whatever_the_name_of_its_first_process():
    assert read(case("machine")).boot == Boot(boot_id="11111111-2222-4333-8444-555555555555", init_started=22)


def test_packages_are_read_with_their_source_and_without_those_that_left_configuration_only():
    by_name = {one.name: one for one in read(case("machine")).installed}
    assert (by_name["bsdutils"].source, by_name["bsdutils"].source_version) == ("util-linux", "2.38.1-5+deb12u3")
    assert (by_name["bash"].version, by_name["bash"].source_version) == ("5.2.15-2+b8", "5.2.15-2")
    assert "linux-image-6.1.0-9-amd64" not in by_name
    assert all(one.well and not one.held for one in by_name.values())


def test_offers_have_the_digest_of_the_index_and_the_repository():
    offered = {(one.name, one.version): one for one in read(case("machine")).offered}
    apt = offered["apt", "2.6.2"]
    assert (apt.origin, apt.suite, apt.component, apt.candidate) == ("Debian", "oldstable-security", "main", True)
    assert apt.digest == "sha256:796fc7fe18866f5b1fb27a115d7339e549d71b7ddbc15b8d6fc4226c243e96d1"
    assert apt.size_bytes == 1373116
    older = offered["bsdutils", "1:2.38.1-5+deb12u1"]
    assert (older.candidate, older.source, older.source_version) == (False, "util-linux", "2.38.1-5+deb12u1")


def test_the_same_version_in_two_repositories_is_offered_twice_and_in_two_files_of_one_once():
    text = case("machine")
    line = "apt\t2.6.2\t1\thttp://deb.test/debian bookworm/main amd64 Packages"
    rows = text[text.index("@@ versions") : text.index("@@ records")].splitlines()[1:]
    found = read(with_section(text, "versions", *rows, line, line))
    assert [one.suite for one in found.offered if one.name == "apt"] == ["oldstable-security", "oldstable"]


def test_a_foreign_architecture_has_records_of_its_own():
    rows = ("libc6:i386\t9\t1\tplace", "libc6\t9\t0\tplace")
    records = (
        *("Package: libc6", "Version: 9", "Architecture: i386", "SHA256: aa", ""),
        *("Package: libc6", "Version: 9", "Architecture: amd64", "SHA256: bb", ""),
    )
    text = with_section(with_section(case("machine"), "versions", *rows), "records", *records)
    assert [(one.architecture, one.digest) for one in read(text).offered] == [
        ("i386", "sha256:aa"),
        ("amd64", "sha256:bb"),
    ]


def test_a_container_with_troubles_is_read():
    found = read(case("container-with-troubles"))
    assert (found.kernel_installed, found.broken) == ("", ("ismgr-broken: half configured",))
    assert (found.reboot, found.reboot_why) == (Need.YES, ("the host asks for it: libc6",))
    assert found.services == ("napping.service",)
    assert found.stale == (
        Stale(pid=379, command="napping", unit="napping.service", files=("/usr/local/sbin/napping",)),
    )
    by_name = {one.name: one for one in found.installed}
    assert (by_name["ismgr-broken"].well, by_name["ismgr-hello"].held) == (False, True)
    assert found.unseen == 1


def test_a_host_without_lists_offers_nothing_and_says_never():
    text = case("machine")
    for section in ("versions", "records", "lists"):
        text = with_section(text, section)
    found = read(text)
    assert (found.offered, found.lists_read_at) == ((), None)


def test_what_pid_1_has_mapped_is_unknown_where_we_may_not_look():
    found = read(with_section(case("machine"), "init", ""))
    assert (found.reboot, found.unseen) == (Need.UNKNOWN, 1)


REFUSED = {
    "cut off": (case("machine").removesuffix("@@ end\n").rstrip(), "cut off"),
    "empty": ("", "cut off"),
    "no Debian": ('@@ os\nPRETTY_NAME="Alma 9"\n@@ not-debian\n@@ end\n', "not a Debian host.*Alma 9"),
    "no packages": (with_section(case("machine"), "packages"), "cannot be read"),
    "a broken row": (with_section(case("machine"), "packages", "ii\tbash"), "cannot be read"),
    "no free": (with_section(case("machine"), "free"), "cannot be read"),
    "a time beyond all": (with_section(case("machine"), "lists", "1e300"), "cannot be read"),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_such_answer_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        read(text)


@given(st.binary(max_size=300), st.integers(min_value=0, max_value=20_000), st.integers(min_value=0, max_value=40))
def test_any_bytes_anywhere_give_facts_or_one_refusal(noise, at, lost):
    body = case("container-with-troubles").encode()
    text = (body[:at] + noise + body[at + lost :]).decode(errors="replace")
    try:
        found = read(text)
    except InputError:
        return
    assert isinstance(found, HostFacts)


AUDITS = {
    "The following packages have been unpacked but not yet configured.": "unpacked, not configured",
    "The following packages are only half configured, probably due to problems": "half configured",
    "The following packages are only half installed, due to problems during": "half installed",
    "The following packages are in a mess due to serious problems during": "must be installed again",
    "The following packages are awaiting processing of triggers that they": "waits for triggers of others",
    "The following packages have been triggered, but the trigger processing": "its triggers were not processed",
    "The following packages are missing the list control file in the": "its list of files is missing",
    "The following packages do not have an architecture:": "its architecture is wrong",
}


@pytest.mark.parametrize(("words", "short"), AUDITS.items())
def test_each_paragraph_of_the_audit_has_a_short_word(words, short):
    assert broken_of([words, "more words:", " web:amd64            a web server", ""]) == (f"web:amd64: {short}",)


def test_a_package_without_checksums_is_not_broken():
    words = "The following packages are missing the md5sums control file in the"
    assert broken_of([words, "database:", " web      a web server", "", "other words", " lib  x"]) == (
        "lib: other words",
    )


UNITS = {
    "0::/system.slice/ssh.service": "ssh.service",
    "0::/system.slice/system-postgresql.slice/postgresql@15-main.service": "postgresql@15-main.service",
    "0::/system.slice/docker.service/payload": "docker.service",
    "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service": "",
    "0::/user.slice/user-0.slice/session-3.scope": "",
    "0::/init.scope": "",
    "12:cpu:/a.service 1:name=systemd:/system.slice/cron.service 0::/": "cron.service",
    "": "",
}


@pytest.mark.parametrize(("groups", "unit"), UNITS.items())
def test_the_unit_of_a_process_is_that_of_the_system_alone(groups, unit):
    assert unit_of(groups) == unit


def test_what_services_have_in_memory_is_read_by_unit_and_unknown_where_pid_1_is_not_among_them():
    rows = ("ssh.service\topenssh-server libc6", "init\tsystemd libc6")
    text = case("machine").replace("@@ needrestart\n", "@@ mapped\n@@ needrestart\n")
    assert read(case("machine")).mapped is None
    assert read(with_section(text, "mapped", *rows)).mapped == (
        Mapped(unit="init", packages=("libc6", "systemd")),
        Mapped(unit="ssh.service", packages=("libc6", "openssh-server")),
    )
    assert read(with_section(text, "mapped", rows[0])).mapped is None
