"""SSH: one OpenSSH client configuration for a run, warm connections, probes. Host keys are always pinned."""

from ismgr_automation.engines.ssh.probe import SshProber
from ismgr_automation.engines.ssh.session import Session, session
from ismgr_automation.engines.ssh.words import reach_of

__all__ = ["Session", "SshProber", "reach_of", "session"]
