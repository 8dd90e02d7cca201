"""What SSH clients say, and the state that it stands for."""

from __future__ import annotations

import re

import pytest

from ismgr_automation.engines.ssh.words import TABLE, one_line, reach_of
from ismgr_automation.ports.hosts import Reach

SAID = [
    ("sudo: a password is required", Reach.SUDO),
    ("sudo: a terminal is required to read the password; either use the -S option", Reach.SUDO),
    ("sudo: 1 incorrect password attempt", Reach.SUDO),
    ("sudo: no password was provided", Reach.SUDO),
    ("Sorry, try again.", Reach.SUDO),
    ("debian is not in the sudoers file.", Reach.SUDO),
    ("Sorry, user debian is not allowed to execute '/bin/true' as root on db1.", Reach.SUDO),
    ("sh: 1: exec: sudo: not found", Reach.SUDO),
    ("sudo: no tty present and no askpass program specified", Reach.SUDO),
    ("sudo: account validation failure, is your account locked?", Reach.SUDO),
    ("Task failed: Missing sudo password", Reach.SUDO),
    ("Task failed: Incorrect sudo password", Reach.SUDO),
    ("Timed out waiting for become success or become password prompt.", Reach.SUDO),
    ("Host key verification failed.", Reach.HOST_KEY),
    ("@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @", Reach.HOST_KEY),
    ("No ED25519 host key is known for db1.dc1 and you have requested strict checking.", Reach.HOST_KEY),
    ("Host key for db1.dc1 has changed and you have requested strict checking.", Reach.HOST_KEY),
    ("Host key is not trusted for host db1.dc1", Reach.HOST_KEY),
    ("Unable to negotiate with 10.0.0.1 port 22: no matching host key type found.", Reach.HOST_KEY),
    ("WARNING: REVOKED HOST KEY DETECTED! Revoked host key", Reach.HOST_KEY),
    ("debian@10.0.0.1: Permission denied (publickey).", Reach.AUTH),
    ("Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures", Reach.AUTH),
    ("No more authentication methods to try.", Reach.AUTH),
    ("send_pubkey_test: no mutual signature algorithm", Reach.AUTH),
    ("ssh: Could not resolve hostname db9: Name or service not known", Reach.DNS),
    ("[Errno -2] Name or service not known", Reach.DNS),
    ("Temporary failure in name resolution", Reach.DNS),
    ("No address associated with hostname", Reach.DNS),
    ("nodename nor servname provided, or not known", Reach.DNS),
    ("channel 0: open failed: connect failed: unknown host", Reach.DNS),
    ("ssh: connect to host 10.0.0.1 port 22: Connection timed out", Reach.TIMEOUT),
    ("Timeout, server 10.0.0.1 not responding.", Reach.TIMEOUT),
    ("ssh: connect to host 10.0.0.1 port 22: No route to host", Reach.TIMEOUT),
    ("connect: Network is unreachable", Reach.TIMEOUT),
    ("connect: Host is down", Reach.TIMEOUT),
    ("ssh: connect to host 10.0.0.1 port 22: Connection refused", Reach.REFUSED),
    ("channel 0: open failed: administratively prohibited: open failed", Reach.REFUSED),
    ("kex_exchange_identification: read: Connection reset by peer", Reach.REFUSED),
    ("Connection closed by 10.0.0.1 port 22", Reach.REFUSED),
    ("Connection to db1 closed by remote host.", Reach.REFUSED),
    ("Connection lost", Reach.REFUSED),
    ("client_loop: send disconnect: Broken pipe", Reach.REFUSED),
    ("kex_exchange_identification: banner line contains invalid characters", Reach.REFUSED),
    ("mux_client_request_session: session request failed: Session open refused by peer", Reach.REFUSED),
    ("stdio forwarding failed", Reach.REFUSED),
    ('"System is booting up. Unprivileged users are not permitted to log in yet."', Reach.REFUSED),
]


@pytest.mark.parametrize(("words", "reach"), SAID)
def test_what_a_client_says_is_one_state(words, reach):
    assert reach_of(words) is reach
    assert reach_of(f"Failed to connect to the host via ssh: {words}") is reach


def test_every_row_of_the_table_is_needed_by_a_known_sentence():
    needed = {next(index for index, (row, _) in enumerate(TABLE) if re.search(row, words)) for words, _ in SAID}
    assert [TABLE[index] for index in range(len(TABLE)) if index not in needed] == []


def test_every_state_has_words_and_ok_has_none():
    assert {reach for _, reach in TABLE} == set(Reach) - {Reach.OK}


def test_other_words_mean_nothing():
    assert reach_of("all is well") is None


def test_the_line_that_says_most_is_shown():
    assert one_line("Connection closed\nbanner\n") == "Connection closed"
    assert one_line("first\nlast\n") == "last"
    assert one_line("") == ""
