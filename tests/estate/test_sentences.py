"""Every way in which a model can refuse a value has a sentence of ours."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import core_schema

from ismgr_automation.core.json import Json
from ismgr_automation.estate.documents import KINDS
from ismgr_automation.estate.fields import OWN_WORDS, PATTERNS
from ismgr_automation.estate.marks import parse
from ismgr_automation.estate.sentences import LIMITS, TYPES, kind_of, translate

SAID = {
    *TYPES,
    *LIMITS,
    *("missing", "extra_forbidden", "enum", "literal_error", "union_tag_invalid", "union_tag_not_found"),
    *("string_pattern_mismatch", OWN_WORDS),
}


def _schemas(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "type" in node:
            yield node
        for value in node.values():
            yield from _schemas(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _schemas(value)


def _nodes() -> list[dict[str, Any]]:
    return [node for model in KINDS.values() for node in _schemas(model.__pydantic_core_schema__)]


def test_every_pattern_of_the_models_has_words():
    used = {node["pattern"] for node in _nodes() if isinstance(node.get("pattern"), str)}
    assert used == set(PATTERNS)


def test_every_limit_of_the_models_has_words():
    raises = {"ge": "greater_than_equal", "gt": "greater_than", "le": "less_than_equal", "lt": "less_than"}
    for node in _nodes():
        for key, error in raises.items():
            assert key not in node or error in LIMITS


def test_every_row_names_an_error_that_exists():
    known = set(typing.get_args(core_schema.ErrorType))
    assert SAID - {OWN_WORDS} <= known


def _mutations(value: Json, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Json]]:
    for other in (None, True, 0, -1, 1.5, 10**9, "", "A b", "x" * 100, [], {}, ["x"], {"x": 1}):
        yield path, other
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _mutations(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _mutations(item, (*path, index))


def _changed(value: Any, path: tuple[str | int, ...], other: Json) -> Any:
    if not path:
        return other
    if isinstance(value, dict):
        return {key: _changed(item, path[1:], other) if key == path[0] else item for key, item in value.items()}
    return [_changed(item, path[1:], other) if index == path[0] else item for index, item in enumerate(value)]


FULL: dict[str, Any] = {
    "Estate": {
        "kind": "Estate",
        "name": "x",
        "owner": "ops",
        "environments": {"production": {"passphrase": {"secret": "env:X"}}},
        "secrets": {"file": {"kind": "file", "root": "x"}, "e": {"kind": "environment", "prefix": "P_"}},
        "ssh": {"port": 22, "connect_timeout": "5s", "known_hosts": "x"},
        "ansible": {"forks": 5, "roles_path": ["x"]},
        "inventories": ["x"],
    },
    "Team": {"kind": "Team", "name": "x", "members": [{"name": "A", "roles": ["author"], "ssh_keys": ["ssh-rsa x"]}]},
    "Site": {
        "kind": "Site",
        "name": "x",
        "time_zone": "UTC",
        "networks": [{"name": "lan", "cidr": "10.0.0.0/8"}],
        "machines": [
            {
                "name": "m",
                "address": "x",
                "bmc": {"address": "https://x.example.org", "username": "u", "password": {"secret": "env:X"}},
                "labels": {"a": "b"},
                "warranty": {"until": "2030-01-01"},
                "position": 3,
            }
        ],
    },
    "Stack": {
        "kind": "Stack",
        "name": "x",
        "program": "p",
        "config": {"a": {"secret": "env:X"}, "b": {"output": "s.o"}, "c": {"site": "x"}, "d": 1},
        "outputs": {"o": {"type": "hosts", "secret": False}},
        "needs": ["a"],
    },
    "HostGroup": {
        "kind": "HostGroup",
        "name": "x",
        "selector": "true",
        "playbook": "p",
        "variables": {"a": {"secret": "env:X"}},
        "waves": [1, "50%"],
        "quorum": True,
        "drain": {"group": "edge", "backend": "web", "deadline": "2m"},
        "switchover": {"cluster": "postgresql", "port": 5432, "back": True},
        "become": None,
    },
    "Service": {
        "kind": "Service",
        "name": "x",
        "owner": "o",
        "tier": 1,
        "objectives": {"availability": 99.9, "rto": "1h"},
    },
    "PatchBaseline": {
        "kind": "PatchBaseline",
        "name": "x",
        "description": "d",
        "selector": "true",
        "rules": [{"name": "r", "when": "true", "then": "defer", "after": "7d", "reason": "r"}],
        "severities": {"CVE-2026-1": "high"},
        "pins": {"a": "1"},
        "holds": ["b*"],
        "deny": ["c=1"],
        "allow_downgrades": ["a"],
        "advisories": [{"format": "osv", "source": "x", "max_age": "3d"}],
        "sla": {
            "profile": "custom",
            "days": {"critical": 1},
            "data_classes": {"phi": {"high": 7}},
            "exploited": 3,
            "due_soon": "3d",
        },
        "rings": [{"name": "canary", "selector": "true", "waves": [1, "50%"], "soak": "1h"}],
        "windows": ["w"],
        "reboot": {"policy": "always", "back_within": "5m", "power_cycle": True},
        "rollback": "required",
        "offline_for": "7d",
        "firmware": [{"component": "BIOS", "version": "1", "image": "x", "selector": "true"}],
        "deadline": "30m",
    },
    "MaintenanceWindow": {
        "kind": "MaintenanceWindow",
        "name": "x",
        "description": "d",
        "time_zone": "UTC",
        "start": "2026-01-04T01:00:00",
        "rule": "FREQ=DAILY",
        "duration": "3h",
        "except_dates": ["2026-12-24"],
        "calendar": "x.ics",
        "cutoff": "10m",
    },
    "Freeze": {
        "kind": "Freeze",
        "name": "x",
        "reason": "r",
        "owner": "o",
        "begins": "2026-12-20T00:00:00+01:00",
        "ends": "2027-01-03T00:00:00Z",
        "selector": "true",
        "work": ["patch"],
    },
    "Exemption": {
        "kind": "Exemption",
        "name": "x",
        "scope": "true",
        "owner": "o",
        "approver": "A",
        "reason": "r",
        "ticket": "t",
        "compensating_control": "c",
        "justification": "component_not_present",
        "issued": "2026-01-01",
        "expires": "2026-02-01",
    },
    "RecoveryPlan": {
        "kind": "RecoveryPlan",
        "name": "x",
        "description": "d",
        "service": "s",
        "cluster": "c",
        "sites": {"home": "a", "away": "b"},
        "objectives": {"rto": "1s", "rpo": "0s", "mtd": "1h"},
        "probe": {
            "endpoints": ["192.0.2.1:5432"],
            "database": "d",
            "user": "u",
            "password": {"secret": "env:P"},
            "table": "t",
            "every": "5ms",
            "steady": "2s",
            "patience": "500ms",
        },
        "ready": {"lag": 0, "verify": ["g"]},
        "failover": [
            {"name": "f", "do": "fence", "way": "network", "witnesses": ["g"], "network": "n", "deadline": "1s"},
            {"name": "p", "do": "promote", "needs": ["f"]},
            {"name": "h", "do": "haproxy", "group": "g", "backend": "b", "server": "s", "socket": "/s"},
            {
                "name": "d",
                "do": "dns",
                "server": "192.0.2.5",
                "port": 53,
                "zone": "z",
                "record": "r",
                "type": "A",
                "ttl": 5,
                "values": {"a": ["192.0.2.1"]},
                "key_name": "k",
                "key_secret": {"secret": "env:K"},
            },
            {"name": "y", "do": "play", "group": "g", "hot": True},
            {"name": "s", "do": "stack", "stack": "s", "hot": True},
            {"name": "c", "do": "function", "file": "f.py", "function": "go", "hot": True},
        ],
        "switchover": [{"name": "d", "do": "demote"}, {"name": "p", "do": "promote"}],
        "reprotect": [{"name": "u", "do": "unfence"}, {"name": "j", "do": "rejoin", "way": "auto"}],
        "after": [{"name": "v", "do": "verify", "group": "g"}],
        "windows": ["w"],
    },
    "DrillSchedule": {
        "kind": "DrillSchedule",
        "name": "x",
        "description": "d",
        "plan": "p",
        "mode": "failover",
        "time_zone": "UTC",
        "start": "2026-01-04T01:00:00",
        "rule": "FREQ=DAILY",
        "except_dates": ["2026-01-05"],
        "within": "2h",
        "jitter": "0s",
        "blackout": {
            "dates": ["2026-01-06"],
            "ranges": [{"begins": "2026-01-07", "ends": "2026-01-08", "reason": "r"}],
            "windows": ["w"],
            "freezes": ["f"],
        },
        "alarm_after": "365d",
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_wrong_value_at_every_place_is_said_in_our_words(kind):
    import json

    assert KINDS[kind].model_validate_json(json.dumps(FULL[kind]), strict=True)
    wrong = 0
    for path, other in _mutations(FULL[kind]):
        if not path:
            continue
        text = json.dumps(_changed(FULL[kind], path, other))
        try:
            KINDS[kind].model_validate_json(text, strict=True)
        except ValidationError as problem:
            errors = problem.errors(include_url=False)
            assert {one["type"] for one in errors} <= SAID
            (marked,), _ = parse("f", text.encode())
            for one in translate(kind, KINDS[kind], marked, errors):
                wrong += 1
                assert "cannot be used as it is" not in one.summary
                assert one.position is not None
    assert wrong > 20


@given(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.none())
    | st.dictionaries(st.text(), st.none())
)
def test_every_json_value_has_a_kind_in_words(value):
    assert kind_of(value)
