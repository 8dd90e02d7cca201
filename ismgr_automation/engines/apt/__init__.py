"""Packages of Debian hosts over SSH: what is there, what is offered, what must be restarted."""

from ismgr_automation.engines.apt.facts import AptFacts
from ismgr_automation.engines.apt.manager import AptManager

__all__ = ["AptFacts", "AptManager"]
