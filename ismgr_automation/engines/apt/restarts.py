"""Says from what was read on a host whether it must be restarted. What nobody could find out is unknown, never no."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ismgr_automation.ports.packages import Installed, Need, Stale

_RELEASE = re.compile(r"[0-9][^-]*(?:-[0-9][^-]*)?-(?P<flavour>.+)")
_BUILT = re.compile(r"\bDebian (?P<version>[0-9]\S*)")
_IMAGE = "linux-image-"
_NEVER = re.compile(r"dbus(-broker)?\.service|user@.*|.*\.scope")
"""What systemd cannot restart under those that use it."""

_KERNEL = {
    "0": (Need.UNKNOWN, "needrestart cannot tell which kernel should run"),
    "1": (Need.NO, ""),
    "2": (Need.YES, "needrestart: a compatible build of the kernel waits for a restart"),
    "3": (Need.YES, "needrestart: another version of the kernel waits for a restart"),
}
_MICROCODE = {"2": (Need.YES, "needrestart: newer microcode waits for a restart")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What was seen that speaks for a restart, or could not be seen."""

    running: str
    """``uname -r``."""
    build: str
    """``uname -v``."""
    container: bool
    installed: Sequence[Installed]
    stale: Sequence[Stale]
    init_seen: bool
    """Whether what PID 1 has mapped could be looked at."""
    needrestart: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Its words, by name: ``KSTA``, ``SVC``."""
    asked: tuple[str, ...] | None = None
    """Packages in ``/run/reboot-required.pkgs``; None: the host asks for nothing."""


def newest_kernel(signs: Signs) -> str:
    """The release of the newest installed kernel of the flavour that runs; empty where none is, as in a container."""
    kernels = _kernels(signs)
    return _newest(kernels) if kernels else ""


def reboot_need(signs: Signs) -> tuple[Need, tuple[str, ...]]:
    """Whether the host must be restarted, and a line for each reason (of a yes, or of an unknown)."""
    found = [one for one in (_asked(signs), _init(signs), *_needrestart(signs), _kernel(signs)) if one[1]]
    found += [(Need.YES, f"{one.command} cannot be restarted alone") for one in signs.stale if _is_bus(one)]
    for need in (Need.YES, Need.UNKNOWN):
        if why := tuple(dict.fromkeys(words for said, words in found if said is need)):
            return need, why
    return Need.NO, ()


def services_to_restart(signs: Signs) -> tuple[str, ...]:
    """Units that still run on replaced files and can be restarted by themselves."""
    named: Iterable[str] = (*(one.unit for one in signs.stale), *signs.needrestart.get("SVC", ()))
    return tuple(sorted({one for one in named if one.endswith(".service") and not _NEVER.fullmatch(one)}))


def _asked(signs: Signs) -> tuple[Need, str]:
    if signs.asked is None:
        return Need.NO, ""
    return Need.YES, "the host asks for it" + (f": {', '.join(signs.asked)}" if signs.asked else "")


def _init(signs: Signs) -> tuple[Need, str]:
    if not signs.init_seen:
        return Need.UNKNOWN, "what PID 1 has mapped could not be looked at"
    files = [file for one in signs.stale if one.pid == 1 for file in one.files]
    return (Need.YES, f"PID 1 has mapped what was replaced: {', '.join(files[:3])}") if files else (Need.NO, "")


def _needrestart(signs: Signs) -> Iterable[tuple[Need, str]]:
    if signs.container:
        return  # the kernel and the microcode are its host's
    for value in signs.needrestart.get("KSTA", ()):
        yield _KERNEL.get(value, (Need.UNKNOWN, f"needrestart says something unknown of the kernel: {value}"))
    for value in signs.needrestart.get("UCSTA", ()):
        yield _MICROCODE.get(value, (Need.NO, ""))


def _kernel(signs: Signs) -> tuple[Need, str]:
    if signs.container:
        return Need.NO, ""
    kernels = _kernels(signs)
    if signs.running not in kernels:
        return Need.UNKNOWN, f"no package brought the kernel that runs ({signs.running})"
    newest = newest_kernel(signs)
    if newest != signs.running:
        return Need.YES, f"kernel {newest} is installed, {signs.running} runs"
    built = _BUILT.search(signs.build)
    if built is None:
        return Need.UNKNOWN, f"which build of kernel {signs.running} runs is not known ({signs.build})"
    if built["version"] != kernels[newest]:
        return Need.YES, f"kernel {newest} is installed as {kernels[newest]}, {built['version']} runs"
    return Need.NO, ""


def _kernels(signs: Signs) -> Mapping[str, str]:
    """Release to version of each installed kernel of the flavour that runs."""
    flavour = _flavour(signs.running)
    if signs.container or not flavour:
        return {}
    images = {
        one.name.removeprefix(_IMAGE).removeprefix("unsigned-"): one.version
        for one in signs.installed
        if one.name.startswith(_IMAGE) and one.well
    }
    return {release: version for release, version in images.items() if _flavour(release) == flavour}


def _flavour(release: str) -> str:
    found = _RELEASE.fullmatch(release)
    return found["flavour"] if found else ""


def _newest(releases: Iterable[str]) -> str:
    # the pure class: apt's own is there or not, as the machine happens to be
    from debian.debian_support import NativeVersion

    return str(max(map(NativeVersion, releases)))


def _is_bus(one: Stale) -> bool:
    return bool(re.fullmatch(r"dbus(-broker)?\.service", one.unit))
