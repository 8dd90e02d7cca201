"""What a host told of new packages, as it was recorded on a real one: which they are, what is known of them, who needs
them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ismgr_automation.engines.apt.answers import Verb, result_of
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Move, PackageFate, PackageResult, Trouble

CASES = Path(__file__).parents[2] / "cases" / "apt"
RECORDED = (CASES / "brings.txt").read_text()
MOVES = tuple(Move(name=name, architecture="all", before="1.0", after="2.0") for name in ("tool", "other"))


def read(text: str, verb: Verb = Verb.CHECK, moves: Sequence[Move] = MOVES) -> PackageResult:
    answer = Answer(host="web1", reach=Reach.OK, output=text, begun=True, seconds=1.0)
    return result_of(answer, verb, moves)


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


def test_a_kernel_update_of_debian_brings_the_kernel():
    kernel = Move(name="linux-image-amd64", architecture="amd64", before="6.1.76-1", after="6.1.192-2")
    (found,) = read((CASES / "brings-kernel.txt").read_text(), moves=[kernel]).brings
    assert (found.name, found.architecture, found.version) == ("linux-image-6.1.0-56-amd64", "amd64", "6.1.192-2")
    assert found.needed_by == ("linux-image-amd64",)
    (offer,) = found.offers
    assert (offer.source, offer.source_version, offer.section) == ("linux-signed-amd64", "6.1.192+2", "kernel")
    assert (offer.origin, offer.suite, offer.size_bytes) == ("Debian", "oldstable-security", 70550672)
    assert offer.digest == "sha256:a86e2049672f52354c4536a089203b6c82639420424d31c91cf31a181fd4d8f1"


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
