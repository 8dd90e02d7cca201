"""What a host told of new packages, as it was recorded on a real one: which they are, what is known of them, who needs
them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ismgr_automation.engines.apt.answers import Verb, result_of
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Move, PackageFate, PackageResult, Trouble

RECORDED = (Path(__file__).parents[2] / "cases/apt/brings.txt").read_text(encoding="utf-8")
MOVES = tuple(Move(name=name, architecture="all", before="1.0", after="2.0") for name in ("tool", "other"))


def read(text: str, verb: Verb = Verb.CHECK) -> PackageResult:
    answer = Answer(host="web1", reach=Reach.OK, output=text, begun=True, seconds=1.0)
    return result_of(answer, verb, MOVES)


def test_new_packages_are_named_with_what_the_signed_index_says_and_who_needs_them():
    found = read(RECORDED)
    assert (found.fate, found.trouble) == (PackageFate.REFUSED, Trouble.WIDER)
    assert found.detail == "libdeep=2.0,libnew2=2.0,virtp=1.0"
    # virtp provides what tool asks for; libdeep is needed by what is new itself
    assert [(one.name, one.architecture, one.needed_by) for one in found.brings] == [
        ("libdeep", "all", ("libnew2",)),
        ("libnew2", "amd64", ("tool",)),
        ("virtp", "all", ("tool",)),
    ]
    (offer,) = found.brings[1].offers
    assert (offer.version, offer.source, offer.source_version) == ("2.0", "toolsrc", "2.0-1")
    assert (offer.origin, offer.suite, offer.component, offer.candidate) == ("T", "stable-security", "main", True)
    assert f"SHA256: {offer.digest.removeprefix('sha256:')}" in RECORDED


UNREADABLE = {
    "another package changes besides": RECORDED.replace("brings ", "said "),
    "no index has one of them": RECORDED.replace("versions virtp", "versions another"),
    "a record is cut off": RECORDED.replace("records Architecture: all\n", ""),
    "nothing is told of repositories": "\n".join(one for one in RECORDED.split("\n") if not one.startswith("arch")),
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_not_wholly_told_is_refused_without_naming_anything(text):
    found = read(text)
    assert (found.trouble, found.brings) == (Trouble.WIDER, ())


def test_only_a_check_that_was_refused_for_it_brings_anything():
    assert read(RECORDED, Verb.APPLY).brings == ()
    assert read(RECORDED.replace("trouble wider", "trouble digest")).brings == ()
