"""Fixtures of the Ansible tests: an estate folder, a request on hosts of the loopback server, a recorder of events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.address import group
from ismgr_automation.core.events import Event
from ismgr_automation.engines.ansible.engine import AnsibleEngine
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, PlaybookRequest, PlaybookResult
from tests.engines.loopback import Loopback, loopback_server

__all__ = ["loopback_server"]


@dataclass(slots=True, kw_only=True)
class Desk:
    """One estate on one loopback server; ``check`` and ``run`` take a playbook's text."""

    loopback: Loopback
    root: Path
    work: Path
    engine: AnsibleEngine
    target: Path
    events: list[Event] = field(default_factory=list)
    watch: Callable[[Event], None] = lambda _event: None

    def request(self, hosts: Sequence[Host] | None = None, **more: object) -> PlaybookRequest:
        hosts = tuple(hosts or (self.loopback.host("web1"),))
        names = tuple(host.name for host in hosts)
        fields: dict[str, object] = {
            "address": group("webs"),
            "playbook": self.root / "play.yml",
            "root": self.root,
            "inventory": hosts,
            "groups": {"webs": names},
            "limit": names,
            "variables": {"target": str(self.target)},
            "ssh": self.loopback.ssh,
            "become": False,
            "become_password": None,
            "roles_path": (),
            "deadline": timedelta(minutes=2),
        }
        return PlaybookRequest(**(fields | more))  # type: ignore[arg-type]

    def context(self) -> Context:
        def emit(event: Event) -> None:
            self.events.append(event)
            self.watch(event)

        return Context(work=self.work, emit=emit)

    def play(self, text: str) -> None:
        head = "- hosts: webs\n  gather_facts: false\n  tasks:\n"
        body = text if text.lstrip().startswith("- hosts:") else head + text
        (self.root / "play.yml").write_text(body)

    def check(self, text: str, hosts: Sequence[Host] | None = None, **more: object) -> PlaybookResult:
        self.play(text)
        return self.engine.check(self.request(hosts, **more), self.context())

    def run(self, text: str, hosts: Sequence[Host] | None = None, **more: object) -> PlaybookResult:
        self.play(text)
        return self.engine.run(self.request(hosts, **more), self.context())

    def keep(self, path: str, value: str) -> None:
        place = self.loopback.folder / "secrets" / path
        place.write_text(value)
        place.chmod(0o600)


def desk_in(folder: Path, loopback: Loopback) -> Desk:
    """A desk whose estate, work and target lie in a folder."""
    root, work, target = folder / "estate", folder / "work", folder / "target"
    for one in (root, work, target):
        one.mkdir()
    return Desk(loopback=replace(loopback), root=root, work=work, engine=AnsibleEngine(loopback.store), target=target)


@pytest.fixture
def desk(loopback: Loopback, tmp_path: Path) -> Desk:
    return desk_in(tmp_path, loopback)
