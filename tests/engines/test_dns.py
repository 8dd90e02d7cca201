"""Dynamic updates against a real Knot server, and the tables that turn its answers into errors."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dns.exception
import dns.message
import dns.rcode
import dns.tsig
import pytest

from ismgr_automation.core.errors import (
    CredentialRejected,
    EngineError,
    EngineFailed,
    EngineTimedOut,
    InputError,
    Refused,
    Unreachable,
)
from ismgr_automation.core.secret import Secret
from ismgr_automation.engines import dns as engine
from ismgr_automation.engines.dns import Key, RecordSet, Server
from tests.provider import knot

ZONE = "two-sites.test"
needs_knot = pytest.mark.skipif(not Path(knot.KNOTD).exists(), reason="the package knot is not installed")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with knot.running(tmp_path_factory.mktemp("knot")) as server:
        yield server.port


@pytest.fixture
def server(port):
    return Server(
        subject="www",
        address="127.0.0.1",
        port=port,
        key=Key(name="ismgr-update.", secret=Secret(knot.SECRET)),
        answer=timedelta(seconds=5),
        change=timedelta(seconds=1),
        poll=timedelta(milliseconds=20),
    )


def records(name: str, *values: str, kind: str = "A", ttl: int = 60) -> RecordSet:
    return engine.record_set(zone=ZONE, name=name, type=kind, ttl=ttl, records=values)


@needs_knot
def test_records_are_created_read_replaced_and_deleted(server):
    wanted = records("www", "192.0.2.2", "192.0.2.1")
    assert engine.read(server, ZONE, "www", "A") is None
    assert engine.create(server, wanted) == wanted
    assert engine.read(server, ZONE, "www", "A") == wanted
    other = records("www", "192.0.2.3", ttl=30)
    assert engine.replace(server, other) == other
    assert engine.read(server, ZONE, "www", "A") == other
    engine.delete(server, ZONE, "www", "A")
    assert engine.read(server, ZONE, "www", "A") is None
    engine.delete(server, ZONE, "www", "A")


@needs_knot
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("AAAA", ("2001:DB8::1",)),
        ("CNAME", ("NS",)),
        ("MX", ("10 ns",)),
        ("TXT", ('"Some Text" "two"',)),
        ("SRV", ("0 5 443 ns.two-sites.test.",)),
    ],
)
def test_every_usual_type_comes_back_as_it_was_written(server, kind, values):
    wanted = records("many", *values, kind=kind)
    assert engine.create(server, wanted) == wanted
    assert engine.read(server, ZONE, "many", kind) == wanted
    engine.delete(server, ZONE, "many", kind)


@needs_knot
def test_records_of_somebody_else_are_not_overwritten(server):
    with pytest.raises(Refused, match=r"www: .*192\.0\.2\.99.*adopt"):
        engine.create(server, records("theirs", "192.0.2.1"))
    found = engine.read(server, ZONE, "theirs", "A")
    assert found is not None
    assert found.records == ("192.0.2.99",)


@needs_knot
def test_records_that_are_already_as_wanted_are_fine(server):
    assert engine.create(server, records("theirs", "192.0.2.99")).records == ("192.0.2.99",)


@needs_knot
def test_a_name_that_is_an_alias_gets_no_silently_dropped_records(server):
    with pytest.raises(EngineFailed, match="already has records there"):
        engine.create(server, records("alias", "192.0.2.1"))


@needs_knot
def test_the_server_itself_refuses_when_somebody_was_faster(server, monkeypatch):
    engine.create(server, records("race", "192.0.2.1"))
    stale = records("race", "192.0.2.77")
    monkeypatch.setattr(engine, "read", lambda *_: stale)
    with pytest.raises(EngineFailed, match="somebody else changed"):
        engine.replace(server, records("race", "192.0.2.2"))
    monkeypatch.undo()
    assert engine.read(server, ZONE, "race", "A") == records("race", "192.0.2.1")
    engine.delete(server, ZONE, "race", "A")


@needs_knot
@pytest.mark.parametrize(
    "key",
    [
        Key(name="ismgr-update.", secret=Secret("d3Jvbmcgc2VjcmV0IG9mIHRoZSB0ZXN0cw==")),
        Key(name="nobody.", secret=Secret(knot.SECRET)),
        Key(name="ismgr-update.", algorithm="hmac-sha512", secret=Secret(knot.SECRET)),
    ],
)
def test_a_wrong_key_is_said_with_its_name(server, key):
    with pytest.raises(CredentialRejected) as caught:
        engine.read(replace(server, key=key), ZONE, "www", "A")
    assert caught.value.subject == "www"
    assert key.name in str(caught.value)
    assert key.secret.reveal() not in str(caught.value)


@needs_knot
def test_a_key_without_the_right_to_update_is_said_so(server):
    reader = Key(name="reader.", secret=Secret(knot.SECRET))
    with pytest.raises(CredentialRejected, match="reader"):
        engine.create(replace(server, key=reader), records("www", "192.0.2.1"))


@needs_knot
def test_a_zone_that_the_server_does_not_have_is_said_so(server):
    with pytest.raises(EngineError, match="www: the name server"):
        engine.read(server, "elsewhere.test", "www", "A")


def offline(address: str = "127.0.0.1", port: int = 53, secret: str = knot.SECRET, answer: float = 0.3) -> Server:
    return Server(
        subject="www",
        address=address,
        port=port,
        key=Key(name="k.", secret=Secret(secret)),
        answer=timedelta(seconds=answer),
    )


def test_a_secret_that_is_not_base64_is_an_input_error_without_the_secret():
    with pytest.raises(InputError, match="not base64") as caught:
        engine.read(offline(secret="no base64!"), ZONE, "www", "A")
    assert "no base64!" not in str(caught.value)


def test_a_server_that_does_not_resolve_is_a_dns_cause():
    with pytest.raises(Unreachable) as caught:
        engine.read(offline("ns.invalid"), ZONE, "www", "A")
    assert caught.value.cause == "dns"


def test_a_closed_port_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable) as caught:
        engine.read(offline(port=port), ZONE, "www", "A")
    assert caught.value.cause == "refused"


def test_a_server_that_never_answers_times_out():
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(EngineTimedOut, match="www"):
        engine.read(offline(port=listener.getsockname()[1]), ZONE, "www", "A")


def test_a_server_that_speaks_something_else_is_said_so():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10)
                connection.sendall(b"\x00\x14HTTP/1.0 400 Bad req")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(EngineFailed, match="not DNS"):
            engine.read(offline(port=listener.getsockname()[1], answer=10), ZONE, "www", "A")
        thread.join(5)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"type": "A", "records": ["192.0.2.300"]}, "192.0.2.300"),
        ({"type": "A", "records": []}, "at least one"),
        ({"type": "CNAME", "records": ["a", "b"]}, "at most one"),
        ({"type": "SOA", "records": ["x"]}, "belong to the server"),
        ({"type": "ANY", "records": ["x"]}, "belong to the server"),
        ({"type": "WWW", "records": ["x"]}, "not a record type"),
        ({"type": "A", "records": ["192.0.2.1"], "name": "www.example.org."}, "not inside the zone"),
        ({"type": "A", "records": ["192.0.2.1"], "name": "a..b"}, "not a domain name"),
    ],
)
def test_a_record_set_that_makes_no_sense_is_refused_before_any_question(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        engine.record_set(**{"zone": ZONE, "name": "www", "ttl": 60, **arguments})


def test_spelling_does_not_make_two_record_sets_different():
    one = records("WWW", "NS.Two-Sites.Test.", kind="CNAME")
    assert one == records("www.two-sites.test.", "ns", kind="cname")


def test_every_response_code_is_in_the_table():
    missing = set(dns.rcode.Rcode) - set(engine.RCODES)
    assert not missing, f"say in RCODES what {missing} mean"


@pytest.mark.parametrize("failure", [one for one in engine.Failure if one is not engine.Failure.NONE])
def test_every_failure_becomes_an_error_that_names_the_resource_and_the_way_out(failure):
    error = engine._error(offline(), failure, "detail")
    assert str(error).startswith("www: the name server 127.0.0.1 port 53 ")
    assert error.next_step


def _kinds(kind):
    return {kind}.union(*(_kinds(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize(
    "kind", sorted(_kinds(dns.exception.DNSException), key=lambda k: f"{k.__module__}{k.__name__}")
)
def test_every_exception_of_dnspython_is_in_the_table(kind):
    error = kind.__new__(kind)
    about_the_key = kind.__module__ == "dns.tsig" or kind is dns.message.UnknownTSIGKey
    timeout = issubclass(kind, dns.exception.Timeout)
    expected = engine.Failure.CREDENTIAL if about_the_key else engine.Failure.GARBLED
    assert engine.classify(error) is (engine.Failure.TIMED_OUT if timeout else expected)
