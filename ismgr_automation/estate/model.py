"""The Estate as a value: every document by kind and name, where each stands, and nothing that could do anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ismgr_automation.core.address import Address
from ismgr_automation.core.diagnostic import Position
from ismgr_automation.estate.documents import EstateDocument, HostGroup, Service, Site, Stack, Team
from ismgr_automation.estate.maintenance import Exemption, Freeze, MaintenanceWindow, PatchBaseline
from ismgr_automation.estate.recovery import RecoveryPlan
from ismgr_automation.estate.schedule import DrillSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """All documents of one revision. ``positions`` has the place of each document's ``name`` by address;
    ``fields`` the place of single values by address and dotted path (``needs.0``, ``config.site``)."""

    document: EstateDocument
    teams: Mapping[str, Team]
    sites: Mapping[str, Site]
    stacks: Mapping[str, Stack]
    groups: Mapping[str, HostGroup]
    services: Mapping[str, Service]
    baselines: Mapping[str, PatchBaseline] = field(default_factory=dict)
    windows: Mapping[str, MaintenanceWindow] = field(default_factory=dict)
    freezes: Mapping[str, Freeze] = field(default_factory=dict)
    exemptions: Mapping[str, Exemption] = field(default_factory=dict)
    recoveries: Mapping[str, RecoveryPlan] = field(default_factory=dict)
    schedules: Mapping[str, DrillSchedule] = field(default_factory=dict)
    positions: Mapping[Address, Position]
    fields: Mapping[tuple[Address, str], Position]
    files: tuple[str, ...]
    """Paths of the files that held documents, sorted."""

    @property
    def size(self) -> int:
        """How many documents there are."""
        main = (self.teams, self.sites, self.stacks, self.groups, self.services)
        upkeep = (self.baselines, self.windows, self.freezes, self.exemptions)
        return 1 + sum(map(len, (*main, *upkeep, self.recoveries, self.schedules)))
