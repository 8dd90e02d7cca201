"""One plan across cloud, metal and hosts: Pulumi stacks, Ansible playbooks, verification, from one Git repository.

Names are loaded when they are first used, so that ``import ismgr_automation`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ismgr_automation.api import Drifted, Estate
    from ismgr_automation.converge.report import Fate, Outcome, Report
    from ismgr_automation.core.address import Address
    from ismgr_automation.core.errors import ExitCode, IsmgrError
    from ismgr_automation.core.secret import SecretRef
    from ismgr_automation.planning.change import Action, Change, Deferred, Drift, Finding, Reason, Step
    from ismgr_automation.planning.plan import Plan
    from ismgr_automation.ports.verification import CheckResult, Verdict

__version__ = "0.1.0"

_WHERE = {
    "Action": "planning.change",
    "Address": "core.address",
    "Change": "planning.change",
    "CheckResult": "ports.verification",
    "Deferred": "planning.change",
    "Drift": "planning.change",
    "Drifted": "api",
    "Estate": "api",
    "ExitCode": "core.errors",
    "Fate": "converge.report",
    "Finding": "planning.change",
    "IsmgrError": "core.errors",
    "Outcome": "converge.report",
    "Plan": "planning.plan",
    "Reason": "planning.change",
    "Report": "converge.report",
    "SecretRef": "core.secret",
    "Step": "planning.change",
    "Verdict": "ports.verification",
}

__all__ = [
    "Action",
    "Address",
    "Change",
    "CheckResult",
    "Deferred",
    "Drift",
    "Drifted",
    "Estate",
    "ExitCode",
    "Fate",
    "Finding",
    "IsmgrError",
    "Outcome",
    "Plan",
    "Reason",
    "Report",
    "SecretRef",
    "Step",
    "Verdict",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(__all__)
