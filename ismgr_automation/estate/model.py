"""The Estate as a value: every document by kind and name, where each stands, and nothing that could do anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ismgr_automation.core.address import Address
from ismgr_automation.core.diagnostic import Position
from ismgr_automation.estate.documents import EstateDocument, HostGroup, Service, Site, Stack, Team


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
    positions: Mapping[Address, Position]
    fields: Mapping[tuple[Address, str], Position]
    files: tuple[str, ...]
    """Paths of the files that held documents, sorted."""

    @property
    def size(self) -> int:
        """How many documents there are."""
        return 1 + sum(map(len, (self.teams, self.sites, self.stacks, self.groups, self.services)))
