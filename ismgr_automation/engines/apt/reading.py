"""Reads what ``facts.sh`` printed on a host. Text in, values out: no clock, no host."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.apt.restarts import Signs, newest_kernel, reboot_need, services_to_restart
from ismgr_automation.ports.packages import INIT, Boot, HostFacts, Installed, Mapped, Offered, Stale

Sections = Mapping[str, Sequence[str]]

_HARMLESS = "md5sums"
"""dpkg's audit lists packages without checksums as well, which are not broken."""
_GONE = frozenset("nc")
"""Second letters of packages that are not there: not installed, only their configuration left."""
_MARK = "@@ "
_FIELDS = re.compile(r",(?=[a-z]=)")
_AUDIT = (
    ("in a mess", "must be installed again"),
    ("unpacked but not yet configured", "unpacked, not configured"),
    ("only half configured", "half configured"),
    ("only half installed", "half installed"),
    ("awaiting processing of triggers", "waits for triggers of others"),
    ("have been triggered", "its triggers were not processed"),
    ("missing the list control file", "its list of files is missing"),
    ("architecture", "its architecture is wrong"),
)
"""Words of a paragraph of ``dpkg --audit``, and what they mean; the first row that matches counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One answer: of whom, when it was given and how long it took."""

    host: str
    text: str
    read_at: datetime
    seconds: float = 0.0


def facts_of(reading: Reading) -> HostFacts:
    """The facts in an answer.

    Raises ``InputError`` for one that is cut off, or is not such an answer, or comes from a host without dpkg and apt.
    """
    sections = _sections(reading.text)
    if "end" not in sections:
        raise InputError("The answer of the host is cut off.")
    if "not-debian" in sections:
        name = _os_release(sections).get("PRETTY_NAME", "an unknown system")
        raise InputError(f"This is not a Debian host: it has no dpkg and apt ({name}).")
    try:
        return _facts(reading, sections)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise InputError(f"The answer of the host cannot be read: {error!r}.") from error


def broken_of(audit: Sequence[str]) -> tuple[str, ...]:
    """One line for each package that ``dpkg --audit`` names: ``name: half configured``.

    >>> broken_of(["The following packages are only half configured, probably due to", " web   a web server"])
    ('web: half configured',)
    """
    found: list[str] = []
    why = ""
    for line in audit:
        if not line.strip():
            why = ""
        elif not line.startswith(" "):
            why = f"{why} {line}".lstrip()
        elif _HARMLESS not in why:
            found.append(f"{line.split()[0]}: {_reason(why)}")
    return tuple(found)


def offered_of(sections: Sections) -> Iterator[Offered]:
    """What is offered: one for each version and repository; the first repository of a kind (origin, suite, component)
    counts. Raises ``ValueError``, ``IndexError`` or ``KeyError`` for lines that do not belong there."""
    native = sections["architecture"][0].strip()
    releases, records = _releases(sections["releases"]), records_of(sections["records"])
    seen: set[tuple[str, ...]] = set()
    for line in filter(None, sections["versions"]):
        word, version, candidate, place = line.split("\t")
        name, _, foreign = word.partition(":")
        record = next(
            (
                found
                for architecture in ([foreign] if foreign else [native, "all"])
                if (found := records.get((name, architecture, version)))
            ),
            {},
        )
        release = releases.get(place, {})
        suite = release.get("a") or release.get("n", "")
        key = (word, version, release.get("o", ""), suite, release.get("c", ""))
        if key in seen:
            continue
        seen.add(key)
        source, source_version = _source(name, version, record.get("Source", ""))
        yield Offered(
            name=name,
            architecture=record.get("Architecture", foreign or native),
            version=version,
            source=source,
            source_version=source_version,
            section=record.get("Section", ""),
            digest=f"sha256:{record['SHA256']}" if "SHA256" in record else "",
            size_bytes=int(record.get("Size", "0")),
            origin=release.get("o", ""),
            suite=suite,
            component=release.get("c", ""),
            candidate=candidate == "1",
        )


def records_of(lines: Sequence[str]) -> Mapping[tuple[str, str, str], Mapping[str, str]]:
    """Records of ``apt-cache show``, by package, architecture and version. Raises ``KeyError`` where they lack."""
    found: dict[tuple[str, str, str], Mapping[str, str]] = {}
    record: dict[str, str] = {}
    for line in (*lines, ""):
        name, colon, value = line.partition(": ")
        if colon:
            record[name] = value.strip()
        elif record:
            found.setdefault((record["Package"], record["Architecture"], record["Version"]), record)
            record = {}
    return found


def _reason(paragraph: str) -> str:
    return next((short for words, short in _AUDIT if words in paragraph), paragraph or "not well")


def _sections(text: str) -> Sections:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        if line.startswith(_MARK):
            lines = found.setdefault(line.removeprefix(_MARK).strip(), [])
        else:
            lines.append(line)
    return found


def _facts(reading: Reading, sections: Sections) -> HostFacts:
    release = _os_release(sections)
    installed = tuple(_installed(sections["packages"]))
    if not installed:
        raise ValueError("dpkg names no package")
    stale = _stale(sections)
    unseen = {int(line) for line in sections["replaced"] if line.isdecimal()}
    init_seen = any(sections["init"])
    signs = Signs(
        running=sections["kernel"][0],
        build=sections["kernel"][1],
        container=any(sections["container"]),
        installed=installed,
        stale=stale,
        init_seen=init_seen,
        needrestart=_needrestart(sections["needrestart"]),
        asked=_asked(sections["reboot-required"]),
    )
    reboot, why = reboot_need(signs)
    return HostFacts(
        host=reading.host,
        read_at=reading.read_at,
        distribution=release.get("ID", ""),
        release=release.get("VERSION_ID", ""),
        codename=release.get("VERSION_CODENAME", ""),
        kernel=signs.running,
        kernel_installed=newest_kernel(signs),
        boot=_boot(sections["boot"]),
        installed=installed,
        offered=tuple(offered_of(sections)),
        broken=broken_of(sections["audit"]),
        lists_read_at=_newest(sections["lists"]),
        stale=stale,
        reboot=reboot,
        reboot_why=why,
        services=services_to_restart(signs),
        unseen=len(unseen | (set() if init_seen else {1})),
        mapped=_mapped(sections.get("mapped", ())),
        free_bytes=min(int(line) for line in sections["free"] if line) * 1024,
        seconds=reading.seconds,
    )


def _os_release(sections: Sections) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for line in sections.get("os", ()):
        name, _, value = line.partition("=")
        try:
            found[name] = " ".join(shlex.split(value))
        except ValueError:
            found[name] = value
    return found


def _boot(lines: Sequence[str]) -> Boot:
    # the second field is a command in brackets that may hold anything: 22 counts from its end
    return Boot(boot_id=lines[0].strip(), init_started=int(lines[1].rpartition(")")[2].split()[19]))


def _installed(lines: Sequence[str]) -> Iterator[Installed]:
    for line in filter(None, lines):
        status, name, architecture, version, source, source_version, section = line.split("\t")
        if status[1] not in _GONE:
            yield Installed(
                name=name,
                architecture=architecture,
                version=version,
                source=source,
                source_version=source_version,
                section=section,
                status=status.strip(),
            )


def _source(name: str, version: str, field: str) -> tuple[str, str]:
    """A record names its source only where it has another name or version."""
    source, _, rest = field.partition(" ")
    return source or name, rest.strip("()") or version


def _releases(lines: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """What ``apt-cache policy`` says of each index file, by its place as the version tables write it."""
    found: dict[str, Mapping[str, str]] = {}
    place = ""
    for line in lines:
        words = line.split()
        if words[:1] == ["release"]:
            pairs = (one.partition("=") for one in _FIELDS.split(line.strip().removeprefix("release ")))
            found[place] = {name: value for name, _, value in pairs}
        elif words and words[0].lstrip("-").isdecimal():
            place = line.strip().partition(" ")[2].strip()
    return found


def _stale(sections: Sections) -> tuple[Stale, ...]:
    files: dict[int, list[str]] = {}
    for line in sections["replaced"]:
        pid, tab, file = line.partition("\t")
        if tab:
            files.setdefault(int(pid), []).append(file)
    known: dict[int, tuple[str, str]] = {}
    for line in filter(None, sections["units"]):
        pid, command, groups = line.split("\t")
        known[int(pid)] = (command, unit_of(groups))
    return tuple(
        Stale(pid=pid, command=known[pid][0], unit=known[pid][1], files=tuple(files[pid]))
        for pid in sorted(files)
        if pid in known  # else it ended while we looked
    )


def unit_of(groups: str) -> str:
    """The unit of the system that a process belongs to, from the lines of its ``cgroup`` file; empty for those of
    people's sessions and of nobody.

    >>> unit_of("1:name=systemd:/system.slice/ssh.service 0::/")
    'ssh.service'
    """
    for line in groups.split():
        _, _, path = line.partition(":")
        controller, _, path = path.partition(":")
        parts = path.split("/")
        if controller not in {"", "name=systemd"} or any(one.startswith("user") for one in parts):
            continue
        if units := [one for one in parts if one.endswith(".service")]:
            return units[-1]
    return ""


def _mapped(lines: Sequence[str]) -> tuple[Mapped, ...] | None:
    """None where PID 1 could not be looked at: then nobody knows what else was not seen."""
    found = [Mapped(unit=unit, packages=tuple(sorted(names.split()))) for unit, _, names in _cells(lines)]
    return tuple(sorted(found, key=lambda one: one.unit)) if any(one.unit == INIT for one in found) else None


def _cells(lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    return (line.partition("\t") for line in lines if line)


def _needrestart(lines: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        name, colon, value = line.partition(": ")
        if colon and name.startswith("NEEDRESTART-"):
            key = name.removeprefix("NEEDRESTART-")
            found[key] = (*found.get(key, ()), value.strip())
    return found


def _asked(lines: Sequence[str]) -> tuple[str, ...] | None:
    words = [line.strip() for line in lines if line.strip()]
    return tuple(sorted(set(words[1:]))) if words else None


def _newest(lines: Sequence[str]) -> datetime | None:
    """When an index was last read: the change time, since apt sets the other one to what the server says."""
    times = [float(line) for line in lines if line]
    return datetime.fromtimestamp(max(times), UTC) if times else None
