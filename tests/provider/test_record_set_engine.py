"""``dns.RecordSet`` through the real Pulumi engine against a real Knot server."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pulumi
import pytest

from ismgr_automation.core.secret import Secret
from ismgr_automation.engines import dns
from ismgr_automation.resources.dns import Key, RecordSet, RecordSetArgs
from tests.provider import knot
from tests.provider.inline import Failed, Inline

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not Path(knot.KNOTD).exists(), reason="the package knot is not installed"),
]


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with knot.running(tmp_path_factory.mktemp("knot")) as server:
        yield server.port


@pytest.fixture
def server(port):
    return dns.Server(
        subject="test",
        address="127.0.0.1",
        port=port,
        key=dns.Key(name=knot.KEY, secret=Secret(knot.SECRET)),
        answer=timedelta(seconds=5),
    )


@pytest.fixture
def args(port):
    return RecordSetArgs(
        server="127.0.0.1",
        port=port,
        zone=knot.ZONE,
        name="www",
        type="A",
        ttl=60,
        records=["192.0.2.2", "192.0.2.1"],
        key=Key(name=knot.KEY, secret=knot.SECRET),
    )


@pytest.fixture
def stack(tmp_path, pulumi_engine_path, port):
    environment = {
        "ISMGR_DNS_SERVER": "127.0.0.1",
        "ISMGR_DNS_PORT": str(port),
        "ISMGR_DNS_KEY_NAME": knot.KEY,
        "ISMGR_DNS_KEY_SECRET": knot.SECRET,
    }
    return Inline(tmp_path, pulumi_engine_path, environment)


def program(args, opts=None):
    def run() -> None:
        records = RecordSet("www", args, opts)
        pulumi.export("fqdn", records.fqdn)
        pulumi.export("records", records.records)

    return run


def there(server, name="www", kind="A"):
    found = dns.read(server, knot.ZONE, name, kind)
    return found and (found.ttl, found.records)


def test_the_life_of_a_record_set(stack, server, args):
    assert stack.preview(program(args)) == {"create": 2}
    assert there(server) is None
    assert stack.preview_outputs()["fqdn"] == "www.two-sites.test.", "everything is known before the apply"

    stack.up()
    assert there(server) == (60, ("192.0.2.1", "192.0.2.2"))
    reordered = program(replace(args, records=["192.0.2.1", "192.0.2.2"], zone="Two-Sites.test."))
    assert set(stack.preview(reordered)) == {"same"}

    dns.replace(server, dns.record_set(zone=knot.ZONE, name="www", type="A", ttl=60, records=["192.0.2.66"]))
    assert stack.drift().get("update") == 1, "somebody changed it by hand"
    stack.refresh()
    changed = program(replace(args, ttl=30))
    stack.preview(changed)
    (step,) = stack.steps("update")
    assert sorted(step["detailedDiff"]) == ["records", "ttl"]
    stack.up(changed)
    assert there(server) == (30, ("192.0.2.1", "192.0.2.2"))

    stack.up(program(replace(args, name="web")))
    assert (there(server), there(server, "web")) == (None, (60, ("192.0.2.1", "192.0.2.2")))
    stack.destroy()
    assert there(server, "web") is None
    assert knot.SECRET not in stack.state_text()


def test_records_of_somebody_else_are_refused_then_adopted(stack, server, args):
    theirs = replace(args, name="theirs")
    with pytest.raises(Failed, match=r"www: .*already has A records at theirs\.two-sites\.test\."):
        stack.up(program(theirs))
    assert stack.resources() == []
    assert there(server, "theirs") == (60, ("192.0.2.99",))
    stack.up(program(replace(theirs, adopt=True)))
    assert there(server, "theirs") == (60, ("192.0.2.1", "192.0.2.2"))
    stack.destroy()


def test_records_are_imported_by_zone_name_and_type(stack, server, args):
    dns.create(server, dns.record_set(zone=knot.ZONE, name="old", type="A", ttl=60, records=["192.0.2.7"]))
    wanted = replace(args, name="old", records=["192.0.2.7"])
    stack.up(program(wanted, pulumi.ResourceOptions(import_="two-sites.test/old/A")))
    assert set(stack.preview(program(wanted))) == {"same"}
    stack.destroy()
    assert there(server, "old") is None


def test_a_wrong_key_names_the_resource(stack, args):
    wrong = replace(args, key=Key(name=knot.KEY, secret="d3Jvbmc="))
    with pytest.raises(Failed) as caught:
        stack.up(program(wrong))
    assert "www: the name server 127.0.0.1" in str(caught.value)
    assert "does not accept our TSIG key" in str(caught.value)
    assert "Unexpected <class" not in str(caught.value)
