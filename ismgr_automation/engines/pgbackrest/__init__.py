"""Backups of PostgreSQL by pgBackRest: read, made, verified, and restored into a scratch folder that nobody reaches. It
decides nothing, and never restores over a cluster that is in use."""

from ismgr_automation.engines.pgbackrest.manager import PgbackrestBackups

__all__ = ["PgbackrestBackups"]
