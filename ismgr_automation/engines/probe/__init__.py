"""A client that measures: a process of its own that writes numbered rows as any client of the service would, and logs
what became of each. It judges nothing. ``link`` alone knows that the service is PostgreSQL."""

from __future__ import annotations

from ismgr_automation.engines.probe.client import PostgresqlProbe

__all__ = ["PostgresqlProbe"]
