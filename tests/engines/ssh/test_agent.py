"""The private agent: what becomes of one that does not start."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.engines.ssh.agent import agent

BROKEN = {
    "hangs": "exec sleep 600",
    "ends": "exit 1",
    "says something else": "echo what; exec sleep 600",
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=list(BROKEN))
def test_an_agent_that_does_not_start_is_told_and_ended(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, pid = tmp_path / "ssh-agent", tmp_path / "pid"
    command.write_text(f"#!/bin/sh\necho $$ > {pid}.new && mv {pid}.new {pid}\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    place = agent(Secret("never asked for"), SecretRef("file", "operator"), tmp_path / "socket", timedelta(seconds=1))
    with pytest.raises(EngineFailed, match="did not start"), place:
        raise AssertionError("it started")
    # on a machine with much to do it may have been ended before it could say so
    assert not pid.exists() or not Path(f"/proc/{pid.read_text().strip()}").exists()
