"""What the verifier and its child processes tell each other, as JSON. Values only; neither testinfra nor pytest is
loaded here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ismgr_automation.core.json import Json
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.verification import CheckResult, Verdict

VARIABLE = "ISMGR_SUITE_JOB"
"""The environment variable that holds the path of a child's job file."""

MARK = "\x1eismgr "
"""Begins each line that a child says to us; whatever else appears on its standard output is noise."""

CONTROLLER = "controller"
"""The host of checks that ask for none: they run once, where ismgr runs."""

LONGEST_MESSAGE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One child's work. ``bases`` are folders with the prefix that paths below them are shown with."""

    hosts: tuple[Host, ...]
    inventory: tuple[Host, ...]
    variables: Mapping[str, Json | SecretRef]
    ssh_config: str
    become: bool
    excluded: Mapping[str, str]
    """Hosts that must not be connected to, and why."""
    bases: tuple[tuple[str, str], ...]
    first: bool
    """Whether checks that ask for no host run in this child."""

    def to_text(self) -> str:
        """The job as JSON."""
        return json.dumps(
            {
                "hosts": [_host_json(one) for one in self.hosts],
                "inventory": [_host_json(one) for one in self.inventory],
                "variables": _values_json(self.variables),
                "ssh_config": self.ssh_config,
                "become": self.become,
                "excluded": dict(self.excluded),
                "bases": self.bases,
                "first": self.first,
            }
        )

    @classmethod
    def from_text(cls, text: str) -> Job:
        """Read what ``to_text`` wrote."""
        body = json.loads(text)
        return cls(
            hosts=tuple(map(_host, body["hosts"])),
            inventory=tuple(map(_host, body["inventory"])),
            variables=_values(body["variables"]),
            ssh_config=body["ssh_config"],
            become=body["become"],
            excluded=body["excluded"],
            bases=tuple((folder, prefix) for folder, prefix in body["bases"]),
            first=body["first"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """A child has read the suites: the files that hold tests, and the checks that it will make (host, suite, name)."""

    suites: tuple[str, ...]
    checks: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A suite cannot be loaded."""

    suite: str
    line: int
    message: str


Word = Collected | Broken | CheckResult


def say(word: Word) -> str:
    """One line for the verifier, without its end."""
    match word:
        case Collected():
            body: Mapping[str, Any] = {"type": "collected", "suites": word.suites, "checks": word.checks}
        case Broken():
            body = {"type": "broken", "suite": word.suite, "line": word.line, "message": word.message}
        case CheckResult():
            body = {
                "type": "check",
                "host": word.host,
                "suite": word.suite,
                "check": word.check,
                "verdict": word.verdict,
                "seconds": word.seconds,
                "message": word.message,
            }
    return MARK + json.dumps(body)


def hear(line: str) -> Word | None:
    """What a child said, None for noise."""
    if not line.startswith(MARK):
        return None
    body = json.loads(line.removeprefix(MARK))
    match body.pop("type"):
        case "collected":
            checks = tuple((host, suite, check) for host, suite, check in body["checks"])
            return Collected(suites=tuple(body["suites"]), checks=checks)
        case "broken":
            return Broken(**body)
        case _:
            return CheckResult(**{**body, "verdict": Verdict(body["verdict"])})


def shown(path: Path, bases: tuple[tuple[str, str], ...]) -> str:
    """A path as people know it: relative to the estate, or to what ships with ismgr."""
    for folder, prefix in bases:
        if path.is_relative_to(folder):
            return prefix + path.relative_to(folder).as_posix()
    return str(path)


def _host_json(host: Host) -> Mapping[str, Any]:
    return {
        "name": host.name,
        "address": host.address,
        "origin": host.origin,
        "user": host.user,
        "port": host.port,
        "labels": dict(host.labels),
        "groups": host.groups,
        "host_keys": host.host_keys,
        "bastion": host.bastion,
        "site": host.site,
        "machine": host.machine,
        "variables": _values_json(host.variables),
    }


def _host(body: Mapping[str, Any]) -> Host:
    lists = {"groups": tuple(body["groups"]), "host_keys": tuple(body["host_keys"])}
    return Host(**{**body, **lists, "variables": _values(body["variables"])})


def _values_json(values: Mapping[str, Json | SecretRef]) -> Mapping[str, Any]:
    """Kinds are written out: plain JSON may well look like a reference."""
    return {
        name: {"secret": str(value)} if isinstance(value, SecretRef) else {"json": value}
        for name, value in values.items()
    }


def _values(body: Mapping[str, Any]) -> Mapping[str, Json | SecretRef]:
    return {
        name: SecretRef.parse(value["secret"]) if "secret" in value else value["json"] for name, value in body.items()
    }
