"""Whether the documents of an estate hold together: a list of small checks, all of them run, none of them raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ismgr_automation.core.diagnostic import Diagnostic
from ismgr_automation.estate.checks import (
    approvals,
    expressions,
    groups,
    maintenance,
    names,
    needs,
    paths,
    recovery,
    recovery_faults,
    schedules,
    secrets,
    sites,
)
from ismgr_automation.estate.draft import Draft

CHECKS: tuple[Callable[[Draft], Iterator[Diagnostic]], ...] = (
    names.one_estate,
    names.unique,
    names.estate_names,
    names.service_names,
    names.members,
    names.references,
    names.host_outputs,
    names.secret_backends,
    secrets.logins,
    secrets.circles,
    secrets.replacements,
    needs.needs_exist,
    needs.needs_cycles,
    needs.service_cycles,
    sites.time_zones,
    sites.networks,
    sites.machine_names,
    sites.machine_addresses,
    sites.host_keys,
    groups.selectors,
    groups.waves,
    groups.availability,
    groups.endpoints,
    expressions.rules,
    expressions.scopes,
    approvals.approval_names,
    approvals.approval_counts,
    approvals.approval_people,
    approvals.runner_keys,
    approvals.sign_off_people,
    paths.programs,
    paths.playbooks,
    paths.suites,
    paths.other_files,
    paths.maintenance_files,
    maintenance.windows,
    maintenance.window_lengths,
    maintenance.freezes,
    maintenance.exemptions,
    maintenance.exemption_people,
    maintenance.baselines,
    maintenance.baseline_selectors,
    maintenance.firmware_and_rings,
    maintenance.restarts,
    maintenance.snapshots,
    maintenance.drains,
    maintenance.durations,
    recovery.recovery_names,
    recovery.recovery_clusters,
    recovery.recovery_order,
    recovery.recovery_paths,
    recovery.recovery_heat,
    recovery.recovery_objectives,
    recovery_faults.fault_names,
    recovery_faults.fault_networks,
    recovery_faults.fault_fences,
    recovery_faults.fault_clients,
    schedules.drill_schedules,
    schedules.schedule_lengths,
    schedules.blackouts,
    schedules.schedule_windows,
    recovery.recovery_backups,
)
"""A new rule is a function from a draft to diagnostics, and a line here."""


def check(draft: Draft) -> tuple[Diagnostic, ...]:
    """Everything that is wrong between the documents, in the order of the checks."""
    return tuple(found for one in CHECKS for found in one(draft))
