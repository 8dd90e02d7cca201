"""What apt and dpkg say when they cannot: each sentence has its trouble, and each trouble has a sentence or a word."""

from __future__ import annotations

import re

import pytest

from ismgr_automation.engines.apt.facts import script
from ismgr_automation.engines.apt.troubles import TABLE, headline, trouble_of
from ismgr_automation.ports.packages import Trouble

LOCK = "/var/lib/dpkg/lock-frontend"
SAID = {
    f"E: Could not get lock {LOCK}. It is held by process 77 (apt-get)": Trouble.LOCKED,
    "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 77 (apt-get)": Trouble.LOCKED,
    f"E: Unable to acquire the dpkg frontend lock ({LOCK}), is another process using it?": Trouble.LOCKED,
    "E: Unable to lock directory /var/lib/apt/lists/": Trouble.LOCKED,
    "dpkg: error: dpkg frontend lock was locked by another process with pid 77": Trouble.LOCKED,
    "/var/lib/ismgr/fence.lock is held by somebody else": Trouble.LOCKED,
    "E: You don't have enough free space in /var/cache/apt/archives/.": Trouble.NO_ROOM,
    "dpkg: error processing archive x.deb (--unpack):\n cannot copy extracted data: failed to write "
    "(No space left on device)\nE: Sub-process /usr/bin/dpkg returned an error code (1)": Trouble.NO_ROOM,
    "E: Write error - write (28: No space left on device)": Trouble.NO_ROOM,
    "write (122: Disk quota exceeded)": Trouble.NO_ROOM,
    "E: Failed to fetch copy:/x.deb  Hash Sum mismatch": Trouble.DIGEST,
    "E: Failed to fetch copy:/x.deb  File has unexpected size (9 != 8). Mirror sync in progress?": Trouble.DIGEST,
    "E: Version '9' for 'web' was not found": Trouble.VANISHED,
    "E: Unable to locate package web": Trouble.VANISHED,
    "E: Package 'web' has no installation candidate": Trouble.VANISHED,
    "E: Can't find a source to download version '9' of 'web:amd64'": Trouble.VANISHED,
    "E: Failed to fetch http://deb.test/x.deb  404  Not Found [IP: 192.0.2.1 80]": Trouble.VANISHED,
    "E: Failed to fetch copy:/x.deb  Failed to stat - stat (2: No such file or directory)": Trouble.VANISHED,
    "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.": Trouble.BROKEN,
    "E: Sub-process /usr/bin/dpkg returned an error code (1)": Trouble.BROKEN,
    " installed web package post-installation script subprocess returned error exit status 1": Trouble.BROKEN,
    " new web package pre-removal script subprocess returned error exit status 1": Trouble.BROKEN,
    "Errors were encountered while processing:\n web": Trouble.BROKEN,
    " package is in a very bad inconsistent state; you should\n reinstall it": Trouble.BROKEN,
    "E: The package web needs to be reinstalled, but I can't find an archive for it.": Trouble.BROKEN,
    "The following packages have unmet dependencies:\n web : Depends: lib (= 2) but it is not": Trouble.WIDER,
    "E: Unable to correct problems, you have held broken packages.": Trouble.WIDER,
    "E: Packages need to be removed but remove is disabled.": Trouble.WIDER,
    "E: Essential packages were removed and -y was used without --allow-remove-essential.": Trouble.WIDER,
    "E: Held packages were changed and -y was used without --allow-change-held-packages.": Trouble.OTHER,
    "E: Failed to fetch http://deb.test/x.deb  Could not connect to deb.test:80": Trouble.OTHER,
    "E: The repository 'http://deb.test stable Release' is not signed.": Trouble.OTHER,
    "": Trouble.OTHER,
}
WITHOUT_WORDS = {Trouble.NONE}


@pytest.mark.parametrize(("words", "trouble"), SAID.items())
def test_what_apt_says_has_a_meaning(words, trouble):
    assert trouble_of(words) is trouble


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_each_row_of_the_table_is_the_first_to_know_some_sentence(row):
    first = [next((one for one in TABLE if re.search(one[0], words)), None) for words in SAID]
    assert row in first


@pytest.mark.parametrize("trouble", [one for one in Trouble if one not in WITHOUT_WORDS])
def test_each_trouble_is_told_by_apt_or_by_the_script(trouble):
    by_script = set(
        re.findall(r'(?:refuse "|trouble |\(verb == "rollback" \? "|: "|print ")([a-z-]+) ', script("work.sh"))
    )
    assert trouble in set(SAID.values()) or trouble.value in by_script


def test_the_script_tells_no_trouble_that_nobody_knows():
    told = set(re.findall(r'refuse "?([a-z-]+)', script("work.sh")))
    assert told <= {one.value for one in Trouble} | {"apt"}
    assert {"moved", "no-room", "wider", "fenced"} <= told


DPKG = "dpkg: error processing package web (--configure):"
CODE = "E: Sub-process /usr/bin/dpkg returned an error code (1)"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            [
                "Setting up web (2.0) ...",
                "I am broken",
                DPKG,
                " installed web package post-installation script subprocess returned error exit status 1",
                "Errors were encountered while processing:",
                " web",
                CODE,
            ],
            "installed web package post-installation script subprocess returned error exit status 1",
        ),
        (
            [" new web package pre-removal script subprocess was killed by signal (Killed)", CODE],
            "new web package pre-removal script subprocess was killed by signal (Killed)",
        ),
        (["Reading package lists...", "E: Could not get lock /x", "W: something"], "E: Could not get lock /x"),
        (
            [
                "Err:1 copy:/srv stable/main all web all 2.0",
                "  Failed to stat - stat (2: No such file or directory)",
                "E: Failed to fetch copy:/srv/web_2.0.deb  Failed to stat - stat (2: No such file or directory)",
                "E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?",
            ],
            "E: Failed to fetch copy:/srv/web_2.0.deb  Failed to stat - stat (2: No such file or directory)",
        ),
        (["one thing", "another that nobody knows"], "another that nobody knows"),
        ([], ""),
    ],
)
def test_of_many_lines_the_one_that_says_what_failed_is_the_headline(said, line):
    assert headline(said) == line
