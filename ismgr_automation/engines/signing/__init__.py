"""Signatures by OpenSSH and GnuPG, and where pins and approval files are kept. Nothing here decides who counts."""

from __future__ import annotations

from ismgr_automation.engines.signing.ssh import AgentSigner, FileSigner, SecretSigner, SshVerifier

__all__ = ["AgentSigner", "FileSigner", "SecretSigner", "SshVerifier"]
