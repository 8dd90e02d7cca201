"""Kernel settings: changed with the first lab, put back with the last one, never against somebody else."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ismgr_automation.lab import networks, settings

LIMIT, FORWARDING = "fs.inotify.max_user_instances", "net.ipv4.ip_forward"


@dataclass
class Host:
    """A host with settings in files, labs and bridges."""

    folder: object
    labs: dict[str, int] = field(default_factory=dict)
    bridges: bool = False

    def get(self, name: str) -> int:
        return int((self.folder / name).read_text())

    def set(self, name: str, value: int) -> None:
        (self.folder / name).write_text(f"{value}\n")


@pytest.fixture
def host(tmp_path, monkeypatch) -> Host:
    made = Host(tmp_path)
    made.set(LIMIT, 128)
    made.set(FORWARDING, 0)
    monkeypatch.setattr(settings, "_path", lambda name: tmp_path / name)
    monkeypatch.setattr(settings, "_RECORD", tmp_path / "run/settings.json")
    monkeypatch.setattr(networks, "indexes", lambda: made.labs)
    monkeypatch.setattr(networks, "any_bridge", lambda: made.bridges)
    return made


def test_limits_are_raised_once_and_put_back_with_the_last_lab(host: Host):
    assert settings.raise_limits() == (LIMIT,)
    host.labs = {"demo": 0, "tests": 1}
    assert settings.raise_limits() == ()
    assert settings.restore(without="demo") == ()
    assert host.get(LIMIT) == 4096
    host.labs = {"tests": 1}
    assert settings.restore(without="tests") == (f"setting {LIMIT}",)
    assert host.get(LIMIT) == 128
    assert settings.restore(without="tests") == ()


def test_forwarding_that_containers_switched_on_is_switched_off_again(host: Host):
    settings.raise_limits()
    host.set(FORWARDING, 1)
    assert f"setting {FORWARDING}" in settings.restore(without="demo")
    assert host.get(FORWARDING) == 0


def test_forwarding_that_was_on_before_stays_on(host: Host):
    host.set(FORWARDING, 1)
    settings.raise_limits()
    settings.restore(without="demo")
    assert host.get(FORWARDING) == 1


def test_forwarding_that_other_networks_of_the_host_may_need_stays_on(host: Host):
    settings.raise_limits()
    host.set(FORWARDING, 1)
    host.bridges = True
    assert f"setting {FORWARDING}" not in settings.restore(without="demo")
    assert host.get(FORWARDING) == 1


def test_a_limit_that_somebody_else_has_set_since_is_left_alone(host: Host):
    settings.raise_limits()
    host.set(LIMIT, 9999)
    assert settings.restore(without="demo") == ()
    assert host.get(LIMIT) == 9999


def test_a_limit_that_is_high_enough_is_not_touched(host: Host):
    host.set(LIMIT, 8192)
    assert settings.raise_limits() == ()
    settings.restore(without="demo")
    assert host.get(LIMIT) == 8192
