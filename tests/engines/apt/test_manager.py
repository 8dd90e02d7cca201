"""What is refused before any host is asked: words that no package has, a run without an id, a lease without a name."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.apt import AptManager
from ismgr_automation.ports.packages import Fleet, Move, PackageRequest

WEB = Move(name="web", architecture="all", before="1", after="1:2.0+deb12u1~3-1")

WRONG = {
    "a name with a command": {"moves": {"web1": (replace(WEB, name="web; reboot"),)}},
    "a name that is an option": {"moves": {"web1": (replace(WEB, name="-web"),)}},
    "an architecture with a line": {"moves": {"web1": (replace(WEB, architecture="all\nx"),)}},
    "no version": {"moves": {"web1": (replace(WEB, after=""),)}},
    "a pattern as a version": {"moves": {"web1": (replace(WEB, after="1.*"),)}},
    "a version before that is an option": {"moves": {"web1": (replace(WEB, before="-1"),)}},
    "a version after that stands for nothing": {"moves": {"web1": (replace(WEB, after="-"),)}},
    "a short digest": {"moves": {"web1": (replace(WEB, digest="sha256:1234"),)}},
    "no run": {"run": "/.."},
}


@pytest.mark.parametrize("verb", ["check", "apply", "rollback"])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_words_that_could_mean_something_else_on_a_host_are_refused(loopback, context, verb, wrong):
    fleet = Fleet(hosts=(loopback.host("web1"),), names=("web1",), ssh=loopback.ssh)
    request = PackageRequest(fleet=fleet, moves={"web1": (WEB,)}, run="r", deadline=timedelta(seconds=5))
    with pytest.raises(InputError):
        getattr(AptManager(loopback.store), verb)(replace(request, **wrong), context)


@pytest.mark.parametrize("verb", ["apply", "rollback"])
def test_a_lease_that_cannot_be_shown_to_hosts_is_refused(loopback, context, verb):
    fleet = Fleet(hosts=(loopback.host("web1"),), names=("web1",), ssh=loopback.ssh)
    request = PackageRequest(fleet=fleet, moves={}, run="r", deadline=timedelta(seconds=5), fence="a b")
    with pytest.raises(InputError, match="cannot be shown"):
        getattr(AptManager(loopback.store), verb)(request, replace(context, token=3))
