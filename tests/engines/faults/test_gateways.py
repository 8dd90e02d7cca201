"""What gateways are given: rules that the kernel takes, in the direction that was asked for, and a link that is slow by
what there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.faults.cutting import CUT, filtered, peer_rules, site_rules
from ismgr_automation.engines.faults.means import said
from ismgr_automation.engines.faults.slowing import SLOW, bytes_of, queued
from ismgr_automation.engines.faults.undo import Way
from ismgr_automation.ports.faults import Direction, Harm
from tests.engines.faults.conftest import look, request, run, sh

SITE, PEER = "{ 198.51.100.0/24 }", "{ 203.0.113.0/24 }"
WITH_SIX = ("198.51.100.0/24", "2001:db8::/32")


def checked(rules: str) -> None:
    """The kernel would take them."""
    nft = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin")
    if nft is None or os.geteuid() != 0:
        pytest.skip("needs root and nft, to have rules checked: apt-get install nftables")
    done = subprocess.run([nft, "-c", "-f", "-"], input=rules, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def dropped(rules: str) -> list[str]:
    return [row.strip().removesuffix(" counter name cut drop") for row in rules.splitlines() if row.endswith("drop")]


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        (Direction.IN, [f"ip daddr {SITE}"]),
        (Direction.OUT, [f"ip saddr {SITE}"]),
        (Direction.BOTH, [f"ip daddr {SITE}", f"ip saddr {SITE}"]),
    ],
)
def test_a_partition_drops_what_the_direction_says(direction, expected):
    rules = site_rules(request(Harm.PARTITION, direction=direction))
    assert dropped(rules) == expected
    checked(rules)


def test_both_families_are_cut_off():
    rules = site_rules(request(Harm.PARTITION, networks=WITH_SIX, direction=Direction.IN))
    assert dropped(rules) == [f"ip daddr {SITE}", "ip6 daddr { 2001:db8::/32 }"]
    checked(rules)


def test_a_rolling_disaster_begins_between_the_sites():
    asked = request(Harm.ROLLING, networks=WITH_SIX)
    assert dropped(peer_rules(asked)) == [f"ip saddr {SITE} ip daddr {PEER}", f"ip daddr {SITE} ip saddr {PEER}"]
    checked(peer_rules(asked))
    scripts = CUT.means(asked, {"way": "filter"}).scripts
    assert PEER in scripts.act
    assert PEER not in scripts.second
    assert SITE in scripts.second


def test_whoever_mends_still_gets_through():
    rules = site_rules(request(Harm.PARTITION)).splitlines()
    places = [number for number, row in enumerate(rules) if "port 22 accept" in row]
    assert len(places) == 2
    assert max(places) < min(number for number, row in enumerate(rules) if row.endswith("drop"))
    assert not any("hook input" in row or "hook output" in row for row in rules)


@pytest.mark.parametrize("networks", [(), ("198.51.100.0/99",), ("everything; drop",)])
def test_what_is_no_network_is_not_cut_off(networks):
    with pytest.raises(InputError, match="could be cut off"):
        site_rules(request(Harm.PARTITION, networks=networks))


def test_sites_that_share_no_family_are_not_cut_off_from_each_other():
    with pytest.raises(InputError, match="could be cut off"):
        peer_rules(request(Harm.ROLLING, peers=("2001:db8::/32",)))


def test_a_table_that_is_not_there_is_lifted(tmp_path, monkeypatch):
    tools(tmp_path, monkeypatch, nft="exit 1")
    scripts = filtered({"table": "ismgr_fault_none"})
    assert run(scripts, "mend").returncode == 0
    assert look(scripts) == (False, {})


@pytest.mark.parametrize(("rate", "expected"), [("1mbit", 125_000), ("8kbit", 1_000), ("2gbit", 250_000_000)])
def test_a_rate_is_read_as_tc_reads_it(rate, expected):
    assert bytes_of(rate) == expected


@pytest.mark.parametrize("rate", ["", "0mbit", "1mbps", "fast", "1mbit; reboot"])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(InputError, match="no rate of a link"):
        SLOW.probe(request(Harm.SLOW_LINK, rate=rate), "gw1")


ROUTE = """case "$*" in
  *203*) echo "$4 dev wan0 src x " ;;
  *198.51.100.1) echo "local x dev lo src x " ;;
  *) echo "$4 dev site0 src x " ;;
esac"""
"""Answers ``ip -o route get ADDRESS``: the first address of the site is the gateway's own."""


def tools(folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    """Commands that say what they are told to."""
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def probed(**more: object) -> tuple[int, dict[str, str], str]:
    script, arguments = SLOW.probe(request(Harm.SLOW_LINK, **more), "gw1")
    done = sh("set -- " + " ".join(f"'{one}'" for one in arguments), script)
    return done.returncode, said(done.stdout), done.stderr


@pytest.mark.parametrize(
    ("tc", "refused"),
    [
        ('echo "qdisc noqueue 0: root refcnt 2"', ""),
        ('echo "qdisc tbf fa17: root refcnt 3 rate 1Mbit"', ""),
        ('echo "qdisc htb 1: root refcnt 3"', "site0 has a queue of somebody's own"),
    ],
)
def test_a_queue_is_put_where_there_is_none_of_anybody_else(tmp_path, monkeypatch, tc, refused):
    tools(tmp_path, monkeypatch, nft="exit 0", ip=f'case "$*" in *route*) {ROUTE} ;; esac', tc=tc)
    code, found, _ = probed()
    assert (code, found["devices"], found["target"]) == (0, "site0 wan0", "198.51.100.2")
    without_kernel = found.get("refused", "").replace("its kernel has no token bucket", "").strip()
    assert without_kernel.startswith(refused)
    assert bool(without_kernel) is bool(refused)


def test_the_interface_that_it_is_managed_over_is_not_slowed_down(tmp_path, monkeypatch):
    answers = f'case "$*" in *route*) {ROUTE} ;; *site0*) echo "2: site0 inet 192.0.2.9/24 scope" ;; esac'
    tools(tmp_path, monkeypatch, nft="exit 0", ip=answers, tc="exit 0")
    code, _, words = probed()
    assert (code, words.strip()) == (3, "site0 is the interface that it is managed over")


def test_a_gateway_without_a_way_to_the_site_is_none(tmp_path, monkeypatch):
    tools(tmp_path, monkeypatch, nft="exit 0", ip="exit 2", tc="exit 0")
    code, _, words = probed()
    assert (code, words.strip()) == (3, "it has no interface towards the site")


def test_without_a_token_bucket_the_packet_filter_limits_and_the_way_is_named():
    asked = request(Harm.SLOW_LINK, rate="256kbit")
    found = {"devices": "site0 wan0", "target": "198.51.100.2", "refused": "its kernel has no token bucket"}
    means = SLOW.means(asked, found)
    assert means.hurt.way is Way.POLICER
    assert "its kernel has no token bucket" in means.words
    rules = re.search(r"table inet.*\n}\n", means.scripts.act, re.DOTALL)
    assert rules is not None
    assert 'oifname { "site0", "wan0" } limit rate over 32000 bytes/second' in rules[0]
    checked(rules[0])


def test_a_queue_of_ours_is_made_seen_and_taken_away(tmp_path, monkeypatch):
    there = tmp_path / "there"
    tc = f"""case "$*" in
  *replace*) echo "$@" >> {there} ;;
  *del*) rm -f {there} ;;
  *-s*) echo " Sent 1 bytes 1 pkt (dropped 4, overlimits 7 requeues 0) " ;;
  *show*) [ ! -e {there} ] || echo 'qdisc tbf fa17: root refcnt 3 rate 1Mbit burst 32Kb lat 100ms' ;;
esac"""
    tools(tmp_path, monkeypatch, tc=tc)
    asked = request(Harm.SLOW_LINK, rate="1gbit", latency=timedelta(milliseconds=40))
    means = SLOW.means(asked, {"devices": "site0", "target": "198.51.100.2"})
    assert means.hurt.way is Way.QUEUE
    assert look(means.scripts) == (False, {})
    assert run(means.scripts, "act").returncode == 0
    assert there.read_text() == ("qdisc replace dev site0 root handle fa17: tbf rate 1gbit burst 500000 latency 40ms\n")
    assert look(means.scripts) == (True, {"dropped": 4, "packets": 7})
    for _ in range(2):
        assert run(queued(means.hurt.values), "mend").returncode == 0
    assert look(means.scripts) == (False, {})
