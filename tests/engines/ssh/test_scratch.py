"""Private folders: gone with their run, and swept up after a run that was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ismgr_automation.engines.ssh import scratch as room
from ismgr_automation.engines.ssh.scratch import PREFIX, scratch


def test_a_folder_is_private_and_gone_afterwards_even_when_the_body_raises(tmp_path):
    def body() -> None:
        with scratch(tmp_path) as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "file").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        body()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_taken_away_by_the_next_and_a_living_one_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_YOUNG_SECONDS", 0.0)
    code = f"""
        import time
        from pathlib import Path
        from ismgr_automation.engines.ssh.scratch import scratch
        with scratch(Path({str(tmp_path)!r})) as folder:
            print(folder, flush=True)
            time.sleep(300)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    dead, alive = [Path(child.stdout.readline().strip()) for child in children if child.stdout]
    try:
        children[0].send_signal(signal.SIGKILL)
        children[0].wait()
        swept: list[Path] = []
        with scratch(tmp_path, swept.append) as mine:
            assert not dead.exists()
            assert alive.exists()
            assert swept == [dead]
        assert swept == [dead, mine]
    finally:
        for child in children:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()


def test_a_folder_made_a_moment_ago_is_left_alone(tmp_path):
    fresh = tmp_path / f"{PREFIX}1-new"
    fresh.mkdir()
    with scratch(tmp_path):
        assert fresh.exists()


def test_a_link_that_looks_like_one_of_ours_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_YOUNG_SECONDS", -1.0)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    (tmp_path / f"{PREFIX}1-link").symlink_to(precious)
    with scratch(tmp_path):
        assert (precious / "file").exists()
    assert (tmp_path / f"{PREFIX}1-link").is_symlink()
