"""A script on hosts over a real sshd: its own input for each host, as whom it runs, and what a lost one means."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.ssh.remote import Answer, Job, Rights, Targets, run_on
from ismgr_automation.ports.hosts import Reach


def run(loopback, job: Job, *names: str) -> tuple[Answer, ...]:
    hosts = tuple(loopback.host(name) for name in names)
    return run_on(Targets(hosts=hosts, names=names, ssh=loopback.ssh), job, loopback.store, threading.Event())


def test_each_host_reads_its_own_input(loopback):
    job = Job(script='echo "$1:"; cat', arguments=("told",), input={"one": "1\n\n-- begin --\n", "two": "2"})
    assert [one.output for one in run(loopback, job, "one", "two", "three")] == [
        "told:\n1\n\n-- begin --\n",
        "told:\n2",
        "told:\n",
    ]


@pytest.mark.parametrize("rights", Rights)
def test_a_password_that_nobody_asks_for_is_no_input(loopback, rights):
    (loopback.folder / "secrets" / "become").write_text("secret-of-sudo\n")
    (loopback.folder / "secrets" / "become").chmod(0o600)
    job = Job(script="cat", input={"one": "mine\n"}, rights=rights, become_password=SecretRef.parse("file:become"))
    (answer,) = run(loopback, job, "one")
    if answer.reach is Reach.SUDO:
        pytest.skip(f"this user may not become root here: {answer.detail}")
    assert answer.output == "mine\n"


def test_a_host_that_was_asked_and_gave_no_answer_may_have_begun(loopback):
    slow = replace(Job(script="exec sleep 20"), deadline=timedelta(seconds=0.3))
    (answer,) = run(loopback, slow, "one")
    assert (answer.reach, answer.begun) == (Reach.TIMEOUT, True)


def test_a_host_that_cannot_be_connected_to_has_not_begun(loopback):
    host = replace(loopback.host("one"), port=1)
    targets = Targets(hosts=(host,), names=("one",), ssh=loopback.ssh)
    (answer,) = run_on(targets, Job(script="true"), loopback.store, threading.Event())
    assert (answer.reach, answer.begun) == (Reach.REFUSED, False)
