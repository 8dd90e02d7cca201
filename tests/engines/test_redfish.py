"""The Redfish client against a real service over TLS, honest and otherwise."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
import requests
from sushy import exceptions as sushy_exceptions

from ismgr_automation.core.errors import (
    Cancelled,
    CredentialRejected,
    EngineFailed,
    EngineTimedOut,
    Throttled,
    Unreachable,
)
from ismgr_automation.core.secret import Secret
from ismgr_automation.engines import redfish, redfish_transport
from ismgr_automation.engines.redfish import Bmc, Power, Timeouts, Wanted
from tests.provider.fake_bmc import PASSWORD, USER, Authority, FakeBmc, Faults

QUICK = Timeouts(
    connect=timedelta(seconds=2),
    read=timedelta(seconds=5),
    change=timedelta(seconds=0.6),
    shutdown=timedelta(seconds=0.4),
    patience=timedelta(seconds=3),
    poll=timedelta(milliseconds=20),
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "estate-authority")


@pytest.fixture(scope="module")
def service(authority):
    with FakeBmc(authority).running() as bmc:
        yield bmc


@pytest.fixture
def fake(service):
    """The shared service with a fresh machine, no faults and an empty log."""
    service.machine, service.faults = type(service.machine)(), Faults()
    service.requests.clear()
    return service


@pytest.fixture
def bmc(fake, authority):
    return Bmc(
        subject="db1.dc1",
        url=fake.url,
        username=USER,
        password=Secret(PASSWORD),
        ca=authority.file,
        timeouts=QUICK,
    )


def test_a_system_is_read_as_a_value(fake, bmc):
    fake.machine.addresses = ("192.0.2.30", "198.51.100.30")
    with redfish.connect(bmc) as system:
        facts = system.read()
    assert facts.power is Power.OFF
    assert (facts.system, facts.boot_device, facts.asset_tag, facts.serial) == ("1", "Hdd", "OLD-1", "SN-0001")
    assert (facts.bios_version, facts.bmc_version) == ("2.4.1", "1.00")
    assert facts.addresses == ("192.0.2.30", "198.51.100.30")
    assert facts.bios["BootMode"] == "Uefi"
    assert facts.bios_pending == ()


def test_a_named_system_is_found_and_an_unknown_one_is_said_so(bmc):
    with redfish.connect(replace(bmc, system="1")) as system:
        assert system.power() is Power.OFF
    with pytest.raises(redfish.NoSuchSystem, match=r"db1\.dc1.*does not know the system '7'"):
        redfish.connect(replace(bmc, system="7"))


def test_everything_wanted_is_set_and_power_comes_last(fake, bmc):
    wanted = Wanted(power=Power.ON, boot_device="Pxe", bios={"NumCores": "8"}, asset_tag="A-17")
    with redfish.connect(bmc) as system:
        facts = system.make(wanted)
        assert system.touched
    assert (facts.power, facts.boot_device, facts.bios["NumCores"], facts.asset_tag) == (Power.ON, "Pxe", "8", "A-17")
    assert fake.changes[-1] == ("POST", "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset")
    assert len(fake.changes) == 4


def test_a_system_that_is_as_wanted_is_not_touched(fake, bmc):
    fake.machine.power = "On"
    wanted = Wanted(power=Power.ON, boot_device="Hdd", bios={"Hyperthreading": True, "NumCores": 4}, asset_tag="OLD-1")
    with redfish.connect(bmc) as system:
        facts = system.make(wanted)
        assert not system.touched
    assert facts.power is Power.ON
    assert fake.changes == []


def test_bios_attributes_that_wait_for_a_restart_are_named_and_not_set_twice(fake, bmc):
    fake.machine.power, fake.faults.bios_waits = "On", True
    with redfish.connect(bmc) as system:
        facts = system.make(Wanted(bios={"NumCores": "8"}))
        assert facts.bios["NumCores"] == "8"
        assert facts.bios_pending == ("NumCores",)
        assert fake.machine.bios["NumCores"] == "4"
        before = len(fake.changes)
        system.make(Wanted(bios={"NumCores": "8"}))
        assert len(fake.changes) == before


def test_a_machine_that_is_switched_on_boots_with_its_new_settings(fake, bmc):
    fake.faults.bios_waits = True
    with redfish.connect(bmc) as system:
        facts = system.make(Wanted(power=Power.ON, bios={"NumCores": "8"}))
    assert facts.bios_pending == ()
    assert fake.machine.bios["NumCores"] == "8"


def test_a_shutdown_that_hangs_ends_in_a_power_cut(fake, bmc):
    fake.machine.power, fake.faults.ignores = "On", frozenset({"GracefulShutdown"})
    with redfish.connect(bmc) as system:
        system.switch(Power.OFF)
    assert fake.machine.power == "Off"
    assert len([1 for method, _ in fake.changes if method == "POST"]) == 2


def test_a_polite_shutdown_needs_no_power_cut(fake, bmc):
    fake.machine.power = "On"
    with redfish.connect(bmc) as system:
        system.switch(Power.OFF)
    assert len(fake.changes) == 1


@pytest.mark.parametrize(
    ("wanted", "shows"),
    [
        (Wanted(power=Power.ON), "accepted On and is still Off"),
        (Wanted(boot_device="Pxe"), "accepted boot device 'Pxe' and still shows 'Hdd'"),
        (Wanted(asset_tag="A-17"), "accepted asset tag 'A-17' and still shows 'OLD-1'"),
        (Wanted(bios={"NumCores": "8"}), "accepted BIOS attributes {'NumCores': '8'} and still shows"),
    ],
)
def test_a_bmc_that_lies_is_caught_by_reading(fake, bmc, wanted, shows):
    fake.faults.lies = True
    with redfish.connect(bmc) as system, pytest.raises(EngineFailed) as caught:
        system.make(wanted)
    assert shows in str(caught.value)
    assert caught.value.subject == "db1.dc1"


def test_a_wrong_password_is_said_with_the_machine_and_the_user(fake, bmc):
    with pytest.raises(CredentialRejected) as caught:
        redfish.connect(replace(bmc, password=Secret("wrong-password")))
    text = str(caught.value)
    assert "db1.dc1" in text
    assert "'admin'" in text
    assert "wrong-password" not in text
    assert caught.value.subject == "db1.dc1"
    assert len([path for _, path in fake.requests if "Systems" in path]) == 1, "a rejected login is not repeated"


@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_bmc_is_asked_again(fake, bmc, status):
    fake.faults.busy, fake.faults.busy_status = 3, status
    with redfish.connect(bmc) as system:
        assert system.power() is Power.OFF


def test_a_bmc_that_stays_busy_is_throttled_after_the_patience(fake, bmc):
    fake.faults.busy, fake.faults.retry_after = 10_000, "1"
    with pytest.raises(Throttled, match=r"db1\.dc1"):
        redfish.connect(bmc)
    assert len(fake.requests) < 8, "the BMC's own Retry-After is honoured"


def test_a_reset_that_was_refused_as_busy_is_sent_again_after_a_look(fake, bmc):
    fake.faults.busy, fake.faults.busy_methods = 2, frozenset({"POST"})
    with redfish.connect(bmc) as system:
        system.switch(Power.ON)
    posts = [n for n, (method, _) in enumerate(fake.requests) if method == "POST"]
    assert len(posts) == 3
    assert all(fake.requests[n - 1] == ("GET", "/redfish/v1/Systems/1") for n in posts)


def test_a_reset_whose_answer_was_lost_is_not_sent_twice(fake, bmc):
    fake.faults.hang_up, fake.faults.hang_up_methods = 1, frozenset({"POST"})
    with redfish.connect(bmc) as system:
        system.switch(Power.ON)
    assert len(fake.changes) == 1
    assert fake.machine.power == "On"


def test_a_read_whose_answer_was_lost_is_repeated(fake, bmc):
    fake.faults.hang_up = 1
    with redfish.connect(bmc) as system:
        assert system.power() is Power.OFF


def test_a_reset_that_fails_is_an_error_with_the_words_of_the_bmc(fake, bmc):
    fake.faults.fail_reset = 10
    with redfish.connect(bmc) as system, pytest.raises(EngineFailed, match="The power supply does not answer"):
        system.switch(Power.ON)


def test_a_slow_bmc_times_out_and_is_named(fake, bmc):
    fake.faults.slow = 0.5
    hasty = replace(bmc, timeouts=replace(QUICK, read=timedelta(seconds=0.2)))
    with pytest.raises(EngineTimedOut, match=r"db1\.dc1.*did not answer in time"):
        redfish.connect(hasty)


@pytest.mark.parametrize("garbage", [b"<html>It works!</html>", b"[]", b'"redfish"', b'{"Id": 7, "Systems": 3}', b""])
def test_something_that_is_not_redfish_is_said_so(fake, bmc, garbage):
    fake.faults.garbage = garbage
    with pytest.raises(EngineFailed, match=r"db1\.dc1.*not Redfish"):
        redfish.connect(bmc)


def test_a_certificate_of_a_wrong_authority_is_refused_before_the_password_is_sent(fake, bmc, tmp_path):
    stranger = Authority(tmp_path, "stranger")
    with pytest.raises(Unreachable) as caught:
        redfish.connect(replace(bmc, ca=stranger.file))
    assert caught.value.cause == "tls"
    assert fake.requests == []


def test_an_environment_with_other_authorities_does_not_win_over_the_pinned_one(fake, bmc, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Authority(tmp_path, "stranger").file))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with redfish.connect(bmc) as system:
        assert system.power() is Power.OFF


def test_without_a_pinned_authority_the_machines_own_count_and_ours_is_not_among_them(bmc):
    with pytest.raises(Unreachable) as caught:
        redfish.connect(replace(bmc, ca=None))
    assert caught.value.cause == "tls"


def test_a_closed_port_is_refused(bmc):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unreachable) as caught:
        redfish.connect(replace(bmc, url=f"https://127.0.0.1:{port}"))
    assert caught.value.cause == "refused"
    assert "db1.dc1" in str(caught.value)


def test_a_name_that_does_not_resolve_is_a_dns_cause(bmc):
    with pytest.raises(Unreachable) as caught:
        redfish.connect(replace(bmc, url="https://bmc.invalid"))
    assert caught.value.cause == "dns"


def test_a_port_that_never_accepts_is_a_timeout(bmc):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(4):  # fill the backlog: further connection attempts stay unanswered
                client = stack.enter_context(socket.socket())
                client.settimeout(0)
                client.connect_ex(full.getsockname())
            hasty = replace(bmc, timeouts=replace(QUICK, connect=timedelta(seconds=0.3)))
            with pytest.raises(Unreachable) as caught:
                redfish.connect(replace(hasty, url=f"https://127.0.0.1:{full.getsockname()[1]}"))
    assert caught.value.cause == "timeout"


def test_a_cancelled_wait_stops_and_says_what_was_read(fake, bmc):
    fake.faults.lies = True
    cancelled = threading.Event()
    patient = replace(bmc, timeouts=replace(QUICK, change=timedelta(minutes=5)))
    with redfish.connect(patient, cancelled) as system:
        threading.Timer(0.2, cancelled.set).start()
        with pytest.raises(Cancelled):
            system.switch(Power.ON)


@pytest.mark.parametrize(
    ("found", "wanted", "equal"),
    [("4", 4.0, True), (4, 4.0, True), ("4", "8", False), (True, True, True), ("True", True, True), (1, True, False)],
)
def test_values_of_a_bmc_are_compared_by_what_they_mean(found, wanted, equal):
    assert redfish.same(found, wanted) is equal


def _leaves(kind):
    return {kind}.union(*(_leaves(child) for child in kind.__subclasses__()))


def test_every_exception_of_sushy_is_in_the_table():
    missing = _leaves(sushy_exceptions.SushyError) - set(redfish_transport.FAILURES)
    assert not missing, f"say in FAILURES what {missing} mean"


class _Answer:
    def __init__(self, status):
        self.status_code = status

    def json(self):
        return {"error": {"message": "no"}}


@pytest.mark.parametrize("status", [*range(400, 432), 451, *range(500, 512)])
def test_every_status_becomes_an_error_that_names_the_machine(status):
    target = redfish_transport.Target(subject="db1.dc1", url="https://bmc", username="admin")
    with pytest.raises(sushy_exceptions.HTTPError) as raised:
        sushy_exceptions.raise_for_response("GET", "https://bmc/redfish/v1/Systems/1", _Answer(status))
    error = redfish_transport.translate(raised.value, target)
    expected = {401: CredentialRejected, 403: CredentialRejected, 429: Throttled, 503: Throttled}
    assert type(error) is expected.get(status, EngineFailed)
    assert "db1.dc1" in str(error)
    assert error.next_step


@pytest.mark.parametrize("kind", sorted(_leaves(sushy_exceptions.SushyError), key=lambda kind: kind.__name__))
def test_every_exception_becomes_an_error_that_names_the_machine(kind):
    target = redfish_transport.Target(subject="db1.dc1", url="https://bmc", username="admin")
    error = kind("GET", "/redfish/v1", _Answer(500)) if issubclass(kind, sushy_exceptions.HTTPError) else kind("broken")
    assert "db1.dc1" in str(redfish_transport.translate(error, target))


@pytest.mark.parametrize(
    ("cause", "failure"),
    [
        (requests.exceptions.SSLError(ssl.SSLCertVerificationError("self-signed")), "tls"),
        (requests.exceptions.ReadTimeout("slow"), "slow"),
        (requests.exceptions.ConnectTimeout("slow"), "timeout"),
        (requests.exceptions.ConnectionError(OSError(113, "No route to host")), "timeout"),
        (requests.exceptions.ConnectionError(ConnectionResetError(104, "reset")), "broken"),
    ],
)
def test_the_cause_of_a_lost_connection_is_found_below_its_wrappers(cause, failure):
    wrapped = sushy_exceptions.ConnectionError(url="https://bmc", error=cause)
    wrapped.__context__ = cause  # what "raise" inside "except" does
    assert redfish_transport.classify(wrapped) == failure


def test_a_bmc_that_refuses_every_reset_as_busy_is_throttled(fake, bmc):
    fake.faults.busy, fake.faults.busy_methods = 10_000, frozenset({"POST"})
    with redfish.connect(bmc) as system, pytest.raises(Throttled, match=r"db1\.dc1"):
        system.switch(Power.ON)
    assert fake.machine.power == "Off"
