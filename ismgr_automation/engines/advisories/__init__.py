"""Advisories out of files and URLs: Debian's security tracker, OSV, CISA KEV, EPSS. Reads, keeps copies and puts
together what the sources say; decides about no package and guesses no severity."""

from ismgr_automation.engines.advisories.limits import Limits
from ismgr_automation.engines.advisories.reader import FileAdvisories

__all__ = ["FileAdvisories", "Limits"]
