"""What the demo's second act does to the example estate; the machines' part is the story of tests/test_patching.py."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ismgr_automation import shipped
from ismgr_automation.cli.demo_patch import deny
from ismgr_automation.estate.load import load


def test_a_bad_version_is_denied_once_and_by_a_commit(tmp_path: Path) -> None:
    folder = tmp_path / "two-sites"
    shutil.copytree(shipped.root() / "examples" / "two-sites", folder)
    subprocess.run(["git", "-C", folder, "init", "--quiet", "--initial-branch=main"], check=True)
    assert deny(folder, "records-broken=1.1")
    assert not deny(folder, "records-broken=1.1")
    told = subprocess.run(
        ["git", "-C", folder, "log", "--format=%s"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert told == ["Deny records-broken=1.1, which cannot be configured"]
    listed = subprocess.run(["git", "-C", folder, "ls-files"], check=True, capture_output=True, text=True).stdout
    documents, _ = load(folder, listed.splitlines())
    assert documents is not None
    assert documents.baselines["everything"].deny == ("records-broken=1.1",)
