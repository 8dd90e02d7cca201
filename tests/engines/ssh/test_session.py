"""A run's way to its hosts, over real SSH: it works while it lasts, and nothing of it is left afterwards."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.secrets import Backends, PrivateFiles
from ismgr_automation.engines.ssh import session
from ismgr_automation.ports.hosts import Reach, Ssh
from tests.engines.loopback import keygen, serve
from tests.engines.open_files import descriptors


def run(config: Path, name: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", str(config), name, *command],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def naming(folder: Path) -> list[int]:
    """Processes whose command line names the folder."""
    found = []
    for one in psutil.process_iter():
        try:
            if str(folder) in " ".join(one.cmdline()):
                found.append(one.pid)
        except psutil.Error:
            continue
    return found


@contextmanager
def everything_goes(work: Path):
    """The body's sessions must leave no file, process or descriptor."""
    gc.collect()  # what tests before this one have let go of is no part of it
    before = descriptors()
    folders: list[Path] = []
    yield folders
    assert list(work.rglob("*")) == []
    assert descriptors() <= before
    for folder in folders:
        assert not folder.exists()
        assert naming(folder) == []


def test_a_command_runs_on_the_host_with_the_key_of_the_agent(loopback, tmp_path):
    with (
        everything_goes(tmp_path) as folders,
        session([loopback.host("db1.dc1")], loopback.ssh, loopback.store, tmp_path) as here,
    ):
        folders.append(here.sockets)
        first = run(here.config, "db1.dc1", "echo", "hello")
        assert (first.stdout, first.stderr) == ("hello\n", "")
        masters = [one for one in here.sockets.iterdir() if one.name != "agent"]
        assert len(masters) == 1
        assert len(str(masters[0])) < 100
        assert run(here.config, "db1.dc1", "true").returncode == 0
        assert len([one for one in here.sockets.iterdir() if one.name != "agent"]) == 1


def test_the_key_is_in_no_file_no_argument_and_no_environment(loopback, tmp_path):
    secret = loopback.store.open(SecretRef.parse("file:operator")).reveal()
    middle = secret.splitlines()[2].encode()
    with session([loopback.host("db1.dc1")], loopback.ssh, loopback.store, tmp_path) as here:
        assert run(here.config, "db1.dc1", "true").returncode == 0
        for folder in (tmp_path, here.sockets):
            assert all(middle not in one.read_bytes() for one in folder.rglob("*") if one.is_file())
        for proc in Path("/proc").glob("[0-9]*"):
            for what in ("cmdline", "environ"):
                try:
                    assert middle not in (proc / what).read_bytes()
                except OSError:
                    continue
        assert here.redactor.clean(f"it is {secret.splitlines()[2]}") == "it is <secret>"


def test_a_host_with_another_key_than_the_pinned_one_is_not_trusted(loopback, tmp_path):
    other = keygen(tmp_path / "other")
    (tmp_path / "work").mkdir()
    host = loopback.host("db1.dc1", host_keys=(other,))
    with session([host], loopback.ssh, loopback.store, tmp_path / "work") as here:
        done = run(here.config, "db1.dc1", "true")
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_a_host_without_a_pinned_key_is_excluded_and_cannot_be_reached_by_accident(loopback, tmp_path):
    with session([loopback.host("db1.dc1", host_keys=())], loopback.ssh, loopback.store, tmp_path) as here:
        assert [(one.host, one.reach) for one in here.excluded] == [("db1.dc1", Reach.HOST_KEY)]
        assert run(here.config, "db1.dc1", "true").returncode == 255


@pytest.mark.parametrize("pattern", ["[127.0.0.1]:{port}", "db1.dc1"])
def test_lines_of_the_estate_stand_in_for_pinned_keys(loopback, tmp_path, pattern):
    lines = f"{pattern.format(port=loopback.port)} {loopback.host_key}\n"
    ssh = Ssh(key=loopback.ssh.key, known_hosts=lines)
    with session([loopback.host("db1.dc1", host_keys=())], ssh, loopback.store, tmp_path) as here:
        assert here.excluded == ()
        assert run(here.config, "db1.dc1", "true").returncode == 0


def test_a_chain_of_bastions_is_jumped_through_and_all_masters_end(loopback, tmp_path):
    with serve(tmp_path / "inner") as inner:
        (inner.folder / "authorized_keys").write_text((loopback.folder / "authorized_keys").read_text())
        hosts = [
            loopback.host("gw1.dc1"),
            loopback.host("gw2.dc1", bastion="gw1.dc1"),
            inner.host("db1.dc1", bastion="gw2.dc1"),
        ]
        (tmp_path / "work").mkdir()
        with (
            everything_goes(tmp_path / "work") as folders,
            session(hosts, loopback.ssh, loopback.store, tmp_path / "work") as here,
        ):
            folders.append(here.sockets)
            assert run(here.config, "db1.dc1", "echo", "inner").stdout == "inner\n"


def test_a_key_file_works_without_an_agent(loopback, tmp_path):
    ssh = Ssh(key_file=loopback.folder / "secrets" / "operator")
    with session([loopback.host("db1.dc1")], ssh, loopback.store, tmp_path) as here:
        assert not (here.sockets / "agent").exists()
        assert run(here.config, "db1.dc1", "true").returncode == 0


def test_a_key_with_a_passphrase_or_no_key_at_all_is_refused_and_nothing_is_left(tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    keygen(secrets / "locked", passphrase="four words and more")
    (secrets / "junk").write_text("not a key")
    (secrets / "junk").chmod(0o600)
    store = Backends({"file": PrivateFiles(root=secrets)})
    (tmp_path / "work").mkdir()
    for name in ("locked", "junk"):
        with (
            everything_goes(tmp_path / "work"),
            pytest.raises(InputError, match=f"file:{name} is not a usable private SSH key"),
            session([], Ssh(key=SecretRef("file", name)), store, tmp_path / "work"),
        ):
            pytest.fail("the session must not begin")


def test_a_body_that_raises_leaves_nothing(loopback, tmp_path):
    def body(folders: list[Path]) -> None:
        with session([loopback.host("db1.dc1")], loopback.ssh, loopback.store, tmp_path) as here:
            folders.append(here.sockets)
            run(here.config, "db1.dc1", "true")
            raise ZeroDivisionError

    with everything_goes(tmp_path) as folders, pytest.raises(ZeroDivisionError):
        body(folders)


def test_a_work_folder_that_cannot_be_written_is_one_error(loopback, tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EngineFailed, match="Cannot prepare SSH"),
        session([], loopback.ssh, loopback.store, tmp_path / "file" / "work"),
    ):
        pytest.fail("the session must not begin")


def test_the_agent_ends_even_when_its_owner_is_killed(loopback, tmp_path):
    code = f"""
        import sys, time
        from pathlib import Path
        from ismgr_automation.core.secret import SecretRef
        from ismgr_automation.engines.secrets import Backends, PrivateFiles
        from ismgr_automation.engines.ssh import session
        from ismgr_automation.ports.hosts import Ssh
        store = Backends({{"file": PrivateFiles(root=Path({str(loopback.folder / "secrets")!r}))}})
        with session([], Ssh(key=SecretRef("file", "operator")), store, Path({str(tmp_path)!r})) as here:
            print(here.sockets, flush=True)
            time.sleep(300)
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    sockets = Path(owner.stdout.readline().strip())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    until = time.monotonic() + 30
    # ssh-agent looks for its parent every ten seconds
    while naming(sockets):
        assert time.monotonic() < until, "the agent lives on"
        time.sleep(0.1)
    for left in sockets.iterdir():
        left.unlink()
    sockets.rmdir()
