"""A recovery plan for tests of pure decisions, as its document would be read."""

from __future__ import annotations

from typing import Any

from ismgr_automation.estate.recovery import RecoveryPlan
from ismgr_automation.recovery.path import Sides

SIDES = Sides(old="db1.dc1", new="db1.dc2", old_site="dc1", new_site="dc2")

BODY: dict[str, Any] = {
    "kind": "RecoveryPlan",
    "name": "records",
    "service": "records",
    "cluster": "databases",
    "sites": {"home": "dc1", "away": "dc2"},
    "probe": {
        "endpoints": ["192.0.2.20:5432"],
        "database": "records",
        "user": "probe",
        "password": {"secret": "env:PROBE"},
    },
    "failover": [
        {"name": "fence", "do": "fence", "deadline": "2s"},
        {"name": "promote", "do": "promote", "deadline": "5s"},
        {
            "name": "balancers",
            "do": "haproxy",
            "group": "edges",
            "backend": "db",
            "needs": ["promote"],
            "deadline": "1s",
        },
        {
            "name": "address",
            "do": "dns",
            "needs": ["promote"],
            "deadline": "3s",
            "server": "192.0.2.5",
            "zone": "example.org",
            "record": "db",
            "key_name": "k",
            "key_secret": {"secret": "env:TSIG"},
            "values": {"dc1": ["192.0.2.20"], "dc2": ["198.51.100.20"]},
        },
    ],
    "switchover": [
        {"name": "demote", "do": "demote"},
        {"name": "promote", "do": "promote"},
        {"name": "balancers", "do": "haproxy", "group": "edges", "backend": "db"},
    ],
    "reprotect": [{"name": "out", "do": "unfence"}, {"name": "join", "do": "rejoin"}],
    "after": [{"name": "suites", "do": "verify", "group": "webs"}],
}


def plan(**more: Any) -> RecoveryPlan:
    """The plan, with other values for some keys."""
    return RecoveryPlan.model_validate({**BODY, **more})
