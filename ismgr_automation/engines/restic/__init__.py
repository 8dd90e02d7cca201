"""Backups of files by restic: read, made, and restored into a scratch folder beside those in use. It decides nothing,
and never writes where files are in use."""

from ismgr_automation.engines.restic.manager import ResticBackups

__all__ = ["ResticBackups"]
