"""Reads existing Ansible inventories through ``ansible-inventory``: whatever Ansible understands, as host values."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import EngineFailed, InputError, IsmgrError
from ismgr_automation.core.json import Json
from ismgr_automation.engines import process
from ismgr_automation.engines.ansible import settings
from ismgr_automation.engines.ansible.failures import ENGINE, failure, shown
from ismgr_automation.ports.hosts import Host

DEADLINE = timedelta(minutes=5)

_ADDRESS = ("ansible_host", "ansible_ssh_host")
_PORT = ("ansible_port", "ansible_ssh_port")
_USER = ("ansible_user", "ansible_ssh_user")
_SSH_ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")
_OURS = frozenset(
    {
        *(*_ADDRESS, *_PORT, *_USER, *_SSH_ARGUMENTS),
        *("ansible_host_key_checking", "ansible_ssh_host_key_checking"),
        *("ansible_sftp_extra_args", "ansible_scp_extra_args"),
    }
)
"""Variables that become fields of a host, or that ismgr decides itself."""

_DROPPED_OPTIONS = frozenset(
    {
        *("stricthostkeychecking", "userknownhostsfile", "globalknownhostsfile", "controlmaster", "controlpersist"),
        *("controlpath", "serveraliveinterval", "serveralivecountmax", "connecttimeout", "connectionattempts"),
        *("compression", "loglevel", "batchmode", "preferredauthentications", "forwardagent", "identitiesonly"),
    }
)
"""SSH options of an inventory for which ismgr has its own answer."""


def read_inventory(path: Path, root: Path) -> tuple[Host, ...]:
    """The hosts of an inventory, sorted by name; ``origin`` is its path relative to the estate.

    ``ansible_host``, ``ansible_port``, ``ansible_user`` and a ProxyJump in the SSH arguments become fields; every other
    variable, those of groups included, stays a variable. Groups include the parents of groups. Raises ``InputError``
    with file and line where Ansible names one.
    """
    origin = shown(str(path), root)
    if not path.exists():
        raise InputError(f"There is no inventory {origin}.")
    listed = _list(path, root, origin)
    meta = listed.get("_meta")
    found = meta.get("hostvars") if isinstance(meta, Mapping) else None
    by_host = found if isinstance(found, Mapping) else {}
    membership = _membership(listed)
    names = sorted({name for members in membership.values() for name in members} | set(by_host))
    hosts = []
    for name in names:
        variables = by_host.get(name)
        groups = tuple(sorted(group for group, members in membership.items() if name in members))
        hosts.append(_host(name, variables if isinstance(variables, Mapping) else {}, groups, origin))
    return tuple(_with_bastions(hosts, by_host, origin))


def _list(path: Path, root: Path, origin: str) -> Mapping[str, Json]:
    memory = Path(tempfile.mkdtemp(prefix="ismgr-"))
    try:
        config = memory / "ansible.cfg"
        estate = settings.find_settings(path, root)
        config.write_text(settings.render_settings(estate, (), ()))
        done = process.run(
            [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(path), "--list"],
            engine=ENGINE,
            subject=origin,
            deadline=DEADLINE,
            cwd=root,
            env=settings.environment(os.environ, config=config, memory=memory),
        )
    except OSError as error:
        raise EngineFailed(
            f"Cannot prepare Ansible in {memory}: {error.strerror or error}.",
            engine=ENGINE,
            subject=origin,
            next_step="Free space there, or set TMPDIR to a folder with some.",
        ) from error
    finally:
        shutil.rmtree(memory, ignore_errors=True)
    if done.code != 0:
        raise _unreadable(done.code, done.stderr + done.stdout, path, root)
    try:
        listed = json.loads(done.stdout)
    except ValueError as error:
        raise EngineFailed(
            f"{origin}: ansible-inventory did not answer in JSON.",
            engine=ENGINE,
            subject=origin,
            next_step="If it is a script, look whether it prints anything besides the inventory.",
            detail=done.stdout,
        ) from error
    return listed if isinstance(listed, dict) else {}


def _unreadable(code: int, said: str, path: Path, root: Path) -> IsmgrError:
    """Ansible tries plug-in after plug-in and complains for each: the one that fits the file tells the mistake."""
    plugin = "script" if os.access(path, os.X_OK) else "yaml" if path.suffix in {".yml", ".yaml", ".json"} else "ini"
    found = re.search(rf"Failed to parse inventory with '{plugin}' plugin: (?P<words>.*)", said)
    if path.is_dir() or found is None:
        return failure(code, said, subject=shown(str(path), root), root=root)
    words = found["words"].removeprefix("Failed to parse inventory: ")
    place = re.search(rf"Origin: {re.escape(str(path))}:(?P<line>\d+):(?P<column>\d+)", said)
    got = re.search(r"got: (\S+)", words)
    if place and plugin == "yaml":
        line, column = int(place["line"]), int(place["column"])
    else:
        # the ini plug-in knows no line numbers: look for the word that it stumbled over
        lines = path.read_text(errors="replace").splitlines() if got and plugin == "ini" else []
        line = next((number for number, one in enumerate(lines, 1) if got and got[1] in one.split()), 1)
        column = 1
    position = Position(shown(str(path), root), line, column)
    return InputError(
        f"The inventory {position.path} cannot be read.", diagnostics=[Diagnostic(summary=words, position=position)]
    )


def _membership(listed: Mapping[str, Json]) -> Mapping[str, frozenset[str]]:
    """The hosts of each group, those of its children included."""
    bodies = {name: body for name, body in listed.items() if name != "_meta" and isinstance(body, Mapping)}

    def below(name: str) -> Iterator[str]:
        body = bodies.get(name, {})
        yield from _names(body.get("hosts"))
        for child in _names(body.get("children")):
            yield from below(child)

    every = {*bodies, *(child for body in bodies.values() for child in _names(body.get("children")))}
    return {name: frozenset(below(name)) for name in every - {"all", "ungrouped"}} | (
        {"": frozenset(below("ungrouped"))} if "ungrouped" in bodies else {}
    )


def _names(value: Json) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _host(name: str, variables: Mapping[str, Json], groups: tuple[str, ...], origin: str) -> Host:
    port = _first(variables, _PORT) or "22"
    if not port.isdigit():
        wrong = Diagnostic(summary=f"the port of host {name!r} is {port!r}", expected="a number")
        raise InputError(f"The inventory {origin} cannot be used.", diagnostics=[wrong])
    return Host(
        name=name,
        address=_first(variables, _ADDRESS) or name,
        origin=origin,
        user=_first(variables, _USER),
        port=int(port),
        groups=tuple(group for group in groups if group),
        variables={key: value for key, value in variables.items() if key not in _OURS},
    )


def _first(variables: Mapping[str, Json], names: Sequence[str]) -> str:
    return next((str(variables[name]) for name in names if variables.get(name) is not None), "")


def _with_bastions(hosts: Sequence[Host], by_host: Mapping[str, Json], origin: str) -> Iterator[Host]:
    for host in hosts:
        found = by_host.get(host.name)
        variables = found if isinstance(found, Mapping) else {}
        text = " ".join(str(variables[name]) for name in _SSH_ARGUMENTS if variables.get(name))
        jump = _jump(text, host.name, origin)
        yield replace(host, bastion=_named(jump, hosts, host.name, origin)) if jump else host


def _jump(arguments: str, name: str, origin: str) -> str:
    """The ProxyJump of SSH arguments, empty without one. What ismgr decides is left out; the rest is refused."""
    try:
        words = iter(shlex.split(arguments))
    except ValueError as error:
        raise _refused(f"the SSH arguments of host {name!r} cannot be split: {error}", origin) from error
    jump = ""
    for word in words:
        if word == "-J":
            jump = next(words, "")
        elif word.startswith("-o"):
            option = word[2:] or next(words, "")
            key, _, value = option.replace(" ", "=", 1).partition("=")
            if key.lower() == "proxyjump":
                jump = value
            elif key.lower() not in _DROPPED_OPTIONS:
                raise _refused(f"the SSH option {key} of host {name!r} is not taken over", origin)
        elif word not in {"-C", "-q", "-4", "-6"}:
            raise _refused(f"the SSH argument {word!r} of host {name!r} is not taken over", origin)
    return "" if jump.lower() == "none" else jump


def _named(jump: str, hosts: Sequence[Host], name: str, origin: str) -> str:
    """The host of the inventory that a ProxyJump means: by its name or its address."""
    if "," in jump:
        raise _refused(f"host {name!r} jumps through several hosts at once ({jump})", origin)
    target = jump.rpartition("@")[2].removeprefix("ssh://")
    place, _, port = target.rpartition(":") if target.count(":") == 1 else (target, "", "")
    for host in hosts:
        if host.name in {target, place} or (host.address == place and port in {"", str(host.port)}):
            return host.name
    raise _refused(f"host {name!r} jumps through {jump!r}, which is no host of this inventory", origin)


def _refused(summary: str, origin: str) -> InputError:
    wrong = Diagnostic(summary=summary, expected="-J NAME or -o ProxyJump=NAME of a host in the same inventory")
    return InputError(
        f"The inventory {origin} cannot be used.",
        diagnostics=[wrong],
        next_step="Make the bastion a host of the inventory and jump through it by name.",
    )
