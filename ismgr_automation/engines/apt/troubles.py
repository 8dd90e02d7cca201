"""What apt and dpkg say when they cannot do it, and what it means: one table."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ismgr_automation.ports.packages import Trouble

TABLE: tuple[tuple[str, Trouble], ...] = (
    # a lock and a full disk come first: dpkg calls what follows from them an error of a package
    (r"Could not get lock", Trouble.LOCKED),
    (r"Unable to acquire the dpkg frontend lock", Trouble.LOCKED),
    (r"Unable to lock (the|directory)", Trouble.LOCKED),
    (r"lock was locked by another process", Trouble.LOCKED),
    (r"fence\.lock is held by somebody else", Trouble.LOCKED),
    (r"No space left on device", Trouble.NO_ROOM),
    (r"[Dd]isk quota exceeded", Trouble.NO_ROOM),
    (r"You don't have enough free space", Trouble.NO_ROOM),
    (r"Hash Sum mismatch", Trouble.DIGEST),
    (r"File has unexpected size", Trouble.DIGEST),
    (r"Version '[^']*' for '[^']*' was not found", Trouble.VANISHED),
    (r"Unable to locate package", Trouble.VANISHED),
    (r"has no installation candidate", Trouble.VANISHED),
    (r"Can't find a source to download", Trouble.VANISHED),
    (r"404 +Not Found", Trouble.VANISHED),
    (r"Failed to (fetch|stat) .*\(2: No such file or directory\)", Trouble.VANISHED),
    # what dpkg began and did not end, before what apt concludes from it
    (r"dpkg was interrupted", Trouble.BROKEN),
    (r"Sub-process \S*dpkg returned an error code", Trouble.BROKEN),
    (r"(maintainer |post-|pre-)\S* script subprocess", Trouble.BROKEN),
    (r"Errors were encountered while processing", Trouble.BROKEN),
    (r"very bad inconsistent state", Trouble.BROKEN),
    (r"needs to be reinstalled, but I can't find an archive for it", Trouble.BROKEN),
    (r"unmet dependencies", Trouble.WIDER),
    (r"held broken packages", Trouble.WIDER),
    (r"Packages need to be removed but remove is disabled", Trouble.WIDER),
    (r"Essential packages were removed", Trouble.WIDER),
    # the host holds it (apt-mark hold): nobody overrules its owner
    (r"Held packages were changed", Trouble.OTHER),
    (r"Failed to fetch|Unable to fetch some archives", Trouble.OTHER),
)
"""Words (a regular expression, letter case as printed) to meaning; the first row that matches counts."""

_SCRIPT = re.compile(r"package \S+ script subprocess|(post|pre)-\S+ script subprocess")
_COMPILED = tuple((re.compile(words), trouble) for words, trouble in TABLE)


def trouble_of(words: str) -> Trouble:
    """What the words of apt or dpkg mean; OTHER when none of them is known.

    >>> trouble_of("E: Version '9' for 'web' was not found")
    <Trouble.VANISHED: 'vanished'>
    """
    return next((trouble for pattern, trouble in _COMPILED if pattern.search(words)), Trouble.OTHER)


def headline(said: Sequence[str]) -> str:
    """The line that says what went wrong: the script of a package that failed, or else the first that the table knows;
    the last one where it knows none.

    >>> headline(["Setting up web (2) ...", "Oh no", "dpkg: error processing package web (--configure):",
    ...           " installed web package post-installation script subprocess returned error exit status 1",
    ...           "E: Sub-process /usr/bin/dpkg returned an error code (1)"])
    'installed web package post-installation script subprocess returned error exit status 1'
    """
    known = [line for line in said if any(pattern.search(line) for pattern, _trouble in _COMPILED)]
    # what apt concludes in an error of its own names the package; the line of the transport before it does not
    errors = [line for line in known if line.startswith("E: ")]
    scripts = [line for line in said if _SCRIPT.search(line)]
    return next(iter([*scripts, *errors, *known, *said[-1:]]), "").strip()
