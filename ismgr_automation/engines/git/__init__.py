"""Git: desired state, who signed it, and small records on refs of our own. Commits that exist are never changed."""

from __future__ import annotations

from ismgr_automation.engines.git.repository import NO_COMMIT
from ismgr_automation.engines.git.source import GitSource, start

__all__ = ["NO_COMMIT", "GitSource", "start"]
