"""Suites against real SSH servers: verdicts, unreachable hosts, broken suites, and nothing left behind."""

from __future__ import annotations

import textwrap
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineTimedOut, InputError
from ismgr_automation.core.events import CheckFinished, Event
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.testinfra.job import CONTROLLER
from ismgr_automation.engines.testinfra.verifier import EXITS, TestinfraVerifier
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.verification import CheckResult, SuiteRequest, Verdict
from tests.engines.loopback import free_port


class Desk:
    """An estate's folder with suites, and one verifier."""

    def __init__(self, loopback, folder: Path) -> None:
        self.loopback = loopback
        self.root = folder / "estate"
        self.work = folder / "work"
        self.root.mkdir()
        self.work.mkdir()
        self.events: list[Event] = []
        self.cancelled = threading.Event()

    def suite(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def verify(self, hosts, *suites: Path, **more) -> tuple[CheckResult, ...]:
        fields = {
            "suites": suites,
            "hosts": hosts,
            "inventory": tuple(hosts),
            "variables": {},
            "ssh": self.loopback.ssh,
            "become": False,
            "root": self.root,
            "deadline": timedelta(seconds=60),
        }
        verifier = TestinfraVerifier(self.loopback.store, processes=2)
        context = Context(work=self.work, emit=self.events.append, cancelled=self.cancelled)
        return verifier.verify(SuiteRequest(**{**fields, **more}), context)


@pytest.fixture
def desk(loopback, tmp_path):
    return Desk(loopback, tmp_path)


def verdicts(checks) -> dict[tuple[str, str], Verdict]:
    return {(one.host, one.check): one.verdict for one in checks}


def test_each_check_runs_on_each_host_and_says_how_it_ended(desk):
    suite = desk.suite(
        "verify/test_host.py",
        """
        import pytest

        def test_passes(host):
            assert host.file("/etc/passwd").exists

        def test_fails(host):
            assert host.file("/no/such/file").exists, "it should be there"

        def test_breaks(host):
            {}["missing"]

        def test_is_left_out(host):
            pytest.skip("not today")

        @pytest.mark.parametrize("name", ["root", "nobody"])
        def test_has_user(host, name):
            assert host.user(name).exists

        class TestInside:
            def test_says_no(self, host):
                pytest.fail("said no")
        """,
    )
    hosts = [desk.loopback.host("web1.dc1"), desk.loopback.host("web1.dc2"), desk.loopback.host("db1")]
    found = desk.verify(hosts, suite)
    assert verdicts(found) == {
        (host.name, check): verdict
        for host in hosts
        for check, verdict in {
            "test_passes": Verdict.PASSED,
            "test_fails": Verdict.FAILED,
            "test_breaks": Verdict.ERROR,
            "test_is_left_out": Verdict.SKIPPED,
            "test_has_user[root]": Verdict.PASSED,
            "test_has_user[nobody]": Verdict.PASSED,
            "TestInside::test_says_no": Verdict.FAILED,
        }.items()
    }
    assert [(one.host, one.suite, one.check) for one in found] == sorted(
        (one.host, one.suite, one.check) for one in found
    )
    assert {one.suite for one in found} == {"verify/test_host.py"}
    failed = next(one for one in found if one.check == "test_fails")
    assert failed.message.startswith("verify/test_host.py:8: AssertionError: it should be there")
    skipped = next(one for one in found if one.verdict is Verdict.SKIPPED)
    assert "not today" in skipped.message
    told = {(one.host, one.check): one.verdict for one in desk.events if isinstance(one, CheckFinished)}
    assert told == {key: str(verdict) for key, verdict in verdicts(found).items()}


def test_suites_get_the_host_its_variables_and_the_inventory(desk):
    suite = desk.suite(
        "verify/test_fixtures.py",
        """
        import dataclasses
        import pytest
        from ismgr_automation.core.secret import SecretRef

        def test_knows(host, ismgr_host, ismgr_vars, ismgr_inventory):
            assert ismgr_host.name == host.backend.get_hostname()
            assert ismgr_host.labels == {"role": "web"}
            assert ismgr_host.variables["addresses"] == {"dc1": "192.0.2.1"}
            assert ismgr_vars["port"] == 80
            assert ismgr_vars["password"] == SecretRef("file", "app")
            assert ismgr_vars["looks_like_one"] == {"secret": "x"}
            assert sorted(ismgr_inventory) == ["elsewhere", "web1"]
            with pytest.raises(dataclasses.FrozenInstanceError):
                ismgr_host.name = "other"
            with pytest.raises(TypeError):
                ismgr_vars["port"] = 81

        def test_needs_no_machine(ismgr_host):
            assert ismgr_host.name == "web1"
        """,
    )
    host = desk.loopback.host("web1", labels={"role": "web"}, variables={"addresses": {"dc1": "192.0.2.1"}})
    elsewhere = desk.loopback.host("elsewhere")
    variables = {"port": 80, "password": SecretRef("file", "app"), "looks_like_one": {"secret": "x"}}
    found = desk.verify([host], suite, inventory=(host, elsewhere), variables=variables)
    assert [(one.verdict, one.message) for one in found] == [(Verdict.PASSED, "")] * 2


def test_an_unreachable_host_is_an_error_for_each_of_its_checks_and_is_asked_once(desk):
    suite = desk.suite(
        "test_many.py",
        """
        import pytest

        @pytest.mark.parametrize("number", range(5))
        def test_true(host, number):
            assert host.run("true").succeeded
        """,
    )
    good = desk.loopback.host("good")
    dead = desk.loopback.host("dead", port=free_port())
    unpinned = desk.loopback.host("unpinned", host_keys=())
    found = desk.verify([good, dead, unpinned], suite)
    assert {one.verdict for one in found if one.host == "good"} == {Verdict.PASSED}
    assert len([one for one in found if one.host == "dead"]) == 5
    assert {one.verdict for one in found if one.host in {"dead", "unpinned"}} == {Verdict.ERROR}
    said = {one.host: one.message for one in found}
    assert "dead cannot be reached (refused)" in said["dead"]
    assert "unpinned cannot be reached (host-key)" in said["unpinned"]


def test_a_host_that_refuses_sudo_is_an_error_and_never_a_failed_check(desk, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ssh").write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    (tools / "ssh").chmod(0o755)
    suite = desk.suite("test_one.py", "def test_one(host):\n    assert host.file('/etc/passwd').exists\n")
    wrapper = desk.suite("conftest.py", f"import os\nos.environ['PATH'] = '{tools}:' + os.environ['PATH']\n")
    assert wrapper.exists()
    (only,) = desk.verify([desk.loopback.host("web1", user="debian")], suite, become=True)
    assert (only.verdict, only.message) == (
        Verdict.ERROR,
        "web1 lets us in, and not become root: sudo: a password is required",
    )


def test_checks_without_a_host_run_once_on_the_controller(desk):
    suite = desk.suite("test_here.py", "def test_here():\n    assert True\n\ndef test_there(host):\n    assert True\n")
    found = desk.verify([desk.loopback.host("a"), desk.loopback.host("b")], suite)
    assert [(one.host, one.check) for one in found] == [
        ("a", "test_there"),
        ("b", "test_there"),
        (CONTROLLER, "test_here"),
    ]


BROKEN = {
    "a syntax error": ("def test_x(host:\n    pass\n", 1, "SyntaxError"),
    "an import of what is not there": ("\nimport no_such_module\n", 2, "ModuleNotFoundError"),
    "an error while it is loaded": ("x = 1\ny = 1 / 0\n\ndef test_x(host):\n    pass\n", 2, "ZeroDivisionError"),
    "no tests": ("x = 1\n", 1, "holds no tests"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_suite_is_an_input_error_with_its_line_and_nothing_passes(desk, name):
    text, line, words = BROKEN[name]
    suite = desk.suite("verify/test_broken.py", text)
    good = desk.suite("verify_more/test_good.py", "def test_good(host):\n    pass\n")
    with pytest.raises(InputError) as error:
        desk.verify([desk.loopback.host("a"), desk.loopback.host("b")], good, suite)
    (said,) = error.value.diagnostics
    assert said.position is not None
    assert (said.position.path, said.position.line) == ("verify/test_broken.py", line)
    assert words in said.summary


def test_a_missing_suite_is_an_input_error(desk):
    with pytest.raises(InputError, match=r"verify/test_nothing\.py"):
        desk.verify([desk.loopback.host("a")], desk.root / "verify/test_nothing.py")


def test_an_unknown_fixture_is_an_error_of_the_check(desk):
    suite = desk.suite("test_one.py", "def test_one(host, no_such_fixture):\n    pass\n")
    (only,) = desk.verify([desk.loopback.host("a")], suite)
    assert only.verdict is Verdict.ERROR
    assert "no_such_fixture" in only.message


def test_a_teardown_that_breaks_is_an_error(desk):
    text = """
        import pytest

        @pytest.fixture
        def thing():
            yield
            raise RuntimeError("cannot clean up")

        def test_one(host, thing):
            pass
        """
    (only,) = desk.verify([desk.loopback.host("a")], desk.suite("test_one.py", text))
    assert only.verdict is Verdict.ERROR
    assert "cannot clean up" in only.message


def test_the_surroundings_settings_and_plugins_do_not_count(desk, tmp_path, monkeypatch):
    (desk.root / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (desk.root.parent / "conftest.py").write_text("raise RuntimeError('outside of the estate')\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.chdir(desk.root)
    suite = desk.suite("verify/test_one.py", "def test_one(host):\n    print('noise')\n")
    helper = desk.suite("verify/conftest.py", "import pytest\n\n@pytest.fixture\ndef own():\n    return 1\n")
    assert helper.exists()
    before = sorted(path for path in desk.root.rglob("*"))
    (only,) = desk.verify([desk.loopback.host("a")], suite)
    assert only.verdict is Verdict.PASSED
    assert sorted(path for path in desk.root.rglob("*")) == before


def test_files_with_one_name_in_two_folders_are_two_suites(desk):
    one = desk.suite("a/verify/test_it.py", "def test_a(host):\n    pass\n")
    two = desk.suite("b/verify/test_it.py", "def test_b(host):\n    pass\n")
    found = desk.verify([desk.loopback.host("x")], one.parent, two.parent)
    assert [(check.suite, check.check) for check in found] == [
        ("a/verify/test_it.py", "test_a"),
        ("b/verify/test_it.py", "test_b"),
    ]


def test_what_is_not_finished_at_the_deadline_is_an_error(desk):
    suite = desk.suite(
        "test_slow.py",
        """
        import time

        def test_a(host):
            pass

        def test_b(host):
            time.sleep(60)

        def test_c(host):
            pass
        """,
    )
    found = desk.verify([desk.loopback.host("a")], suite, deadline=timedelta(seconds=20))
    assert verdicts(found) == {
        ("a", "test_a"): Verdict.PASSED,
        ("a", "test_b"): Verdict.ERROR,
        ("a", "test_c"): Verdict.ERROR,
    }
    assert "not finished after 20 s" in found[-1].message


def test_a_suite_that_hangs_while_it_is_read_is_a_timeout(desk):
    suite = desk.suite("test_hang.py", "import time\ntime.sleep(60)\n")
    with pytest.raises(EngineTimedOut):
        desk.verify([desk.loopback.host("a")], suite, deadline=timedelta(seconds=2))


def test_a_process_that_dies_is_an_engine_error(desk):
    suite = desk.suite("test_die.py", "import os\n\ndef test_die(host):\n    os._exit(9)\n")
    with pytest.raises(EngineFailed, match="ended with 9"):
        desk.verify([desk.loopback.host("a")], suite)


def test_cancelling_stops_the_children(desk):
    suite = desk.suite(
        "test_slow.py", "import time\n\ndef test_a(host):\n    pass\n\ndef test_b(host):\n    time.sleep(60)\n"
    )

    class Stopping(list):
        def append(self, event):
            super().append(event)
            desk.cancelled.set()

    desk.events = Stopping()
    with pytest.raises(Cancelled):
        desk.verify([desk.loopback.host("a")], suite)


def test_a_work_folder_that_cannot_be_written_is_an_engine_error(desk):
    suite = desk.suite("test_one.py", "def test_one(host):\n    pass\n")
    desk.work.rmdir()
    desk.work.write_text("a file where the folder should be")
    with pytest.raises(EngineFailed, match="Cannot prepare"):
        desk.verify([desk.loopback.host("a")], suite)


def test_no_hosts_or_no_suites_are_no_results(desk):
    suite = desk.suite("test_one.py", "def test_one(host):\n    pass\n")
    assert desk.verify([], suite) == ()
    assert desk.verify([desk.loopback.host("a")]) == ()


def test_every_exit_code_of_pytest_is_in_the_table():
    assert set(EXITS) == {int(one) for one in pytest.ExitCode}


def test_nothing_is_left_in_the_work_folder(desk):
    suite = desk.suite("test_one.py", "def test_one(host, tmp_path):\n    (tmp_path / 'x').write_text('x')\n")
    for _ in range(2):
        (only,) = desk.verify([desk.loopback.host("a")], suite)
        assert only.verdict is Verdict.PASSED
    assert list(desk.work.rglob("*")) == []


def test_hosts_are_values_on_both_sides():
    from ismgr_automation.engines.testinfra.job import Job

    host = Host(
        name="db1.dc1",
        address="192.0.2.1",
        origin="stack/x",
        labels={"role": "db"},
        groups=("a", "b"),
        host_keys=("ssh-ed25519 AAAA",),
        variables={"x": [1, {"y": None}], "s": SecretRef("file", "a/b")},
    )
    job = Job(
        hosts=(host,),
        inventory=(host,),
        variables={"a": SecretRef("env", "X")},
        ssh_config="/x",
        become=True,
        excluded={"db1.dc1": "why"},
        bases=(("/estate", ""),),
        first=False,
    )
    assert Job.from_text(job.to_text()) == job
