"""A server's processes may write to no file, and may again; its settings are its own again."""

from __future__ import annotations

import os
import shutil
import signal as signals

from ismgr_automation.engines.faults.filling import FILL, limited, told
from ismgr_automation.engines.faults.undo import Way
from ismgr_automation.ports.faults import Harm
from tests.engines.faults.conftest import Server, look, request, run

FOUND = {"settings": "/etc/conf.d", "programs": "/no/such", "sockets": "/run", "port": "5432", "soft": "unlimited"}


def found(server: Server) -> dict[str, str]:
    return FOUND | {"data": str(server.data), "user": server.user}


def test_every_process_may_write_no_file_and_may_again(server):
    means = FILL.means(request(Harm.DISK_FULL), found(server))
    assert (means.hurt.way, "the disk itself is not filled" in means.words) == (Way.LIMIT, True)
    before = server.limits()
    for _ in range(2):
        assert run(means.scripts, "act").returncode == 0
    assert server.limits() == {"0"}
    mends = limited(means.hurt.values)
    assert look(mends) == (True, {"processes": 3, "limited": 3})
    for _ in range(2):
        assert run(mends, "mend").returncode == 0
    assert server.limits() == before == {"unlimited"}
    assert look(mends) == (False, {"processes": 3, "limited": 0})


def test_a_server_that_ended_of_it_is_hurt_until_somebody_lifts_it(server, tmp_path):
    means = FILL.means(request(Harm.DISK_FULL), found(server))
    room = tmp_path / "room"
    room.mkdir()
    assert run(means.scripts, "act").returncode == 0
    for one in server.processes:
        one.kill()
        one.wait(10)
    assert look(means.scripts, room)[0] is True
    room.rmdir()
    assert look(means.scripts, room)[0] is False


def test_a_server_that_ends_of_it_while_it_is_looked_at_is_hurt(server, tmp_path, monkeypatch):
    means = FILL.means(request(Harm.DISK_FULL), found(server))
    assert run(means.scripts, "act").returncode == 0
    pids = sorted(one.pid for one in server.processes)
    sed = tmp_path / "bin" / "sed"
    sed.parent.mkdir()
    sed.write_text(f"""#!/bin/sh
{shutil.which("sed")} "$@"
case $* in */proc/{pids[-1]}/limits) kill -9 {" ".join(map(str, pids))};; esac
""")
    sed.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sed.parent}:{os.environ['PATH']}")
    assert look(means.scripts) == (True, {"processes": 3, "limited": 3})
    for one in server.processes:
        one.wait(30)
    assert look(means.scripts)[0] is False


def test_a_server_that_does_not_answer_is_no_server_that_writes(server):
    means = FILL.means(request(Harm.DISK_FULL), found(server))
    assert run(means.scripts, "prove").returncode == 0


def test_a_server_that_writes_is_told(server, tmp_path):
    psql = tmp_path / "psql"
    psql.write_text("#!/bin/sh\nexit 0\n")
    psql.chmod(0o755)
    for harm in (Harm.DISK_FULL, Harm.READ_ONLY):
        means = FILL.means(request(harm), found(server) | {"programs": str(tmp_path)})
        done = run(means.scripts, "prove")
        assert (done.returncode, "still writes" in done.stderr) == (1, True)


def test_settings_are_put_there_and_taken_away_and_the_server_hears_of_both(server, tmp_path):
    """SIGHUP ends what does not catch it: so it is seen to have arrived."""
    means = FILL.means(request(Harm.READ_ONLY), found(server) | {"settings": str(tmp_path)})
    assert (means.hurt.way, "no file system can be made read-only" in means.words) == (Way.SETTINGS, True)
    file = tmp_path / "zz-ismgr-fault-r1-broken.conf"
    assert run(means.scripts, "act").returncode == 0
    assert file.read_text() == "default_transaction_read_only = on\n"
    assert server.processes[0].wait(10) == -signals.SIGHUP
    assert look(means.scripts)[0] is True
    server.processes.pop(0)
    (server.data / "postmaster.pid").write_text(f"{server.processes[0].pid}\n")
    assert run(told(means.hurt.values), "mend").returncode == 0
    assert not file.exists()
    assert server.processes[0].wait(10) == -signals.SIGHUP
    assert look(means.scripts)[0] is False


def test_settings_are_taken_away_from_a_server_that_does_not_run(tmp_path):
    file = tmp_path / "zz.conf"
    file.write_text("default_transaction_read_only = on\n")
    scripts = told({"data": str(tmp_path), "file": str(file)})
    for _ in range(2):
        assert run(scripts, "mend").returncode == 0
    assert not file.exists()
    assert look(scripts)[0] is False
