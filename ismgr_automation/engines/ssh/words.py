"""What SSH clients say when they cannot get in, and what it means: one table for OpenSSH, Ansible and asyncssh."""

from __future__ import annotations

import re

from ismgr_automation.ports.hosts import Reach

TABLE: tuple[tuple[str, Reach], ...] = (
    # what sudo and Ansible's become say comes first: it is the innermost of the doors
    (r"sudo: a password is required", Reach.SUDO),
    (r"sudo: a terminal is required", Reach.SUDO),
    (r"sudo: \d+ incorrect password attempt", Reach.SUDO),
    (r"sudo: no password was provided", Reach.SUDO),
    (r"Sorry, try again", Reach.SUDO),
    (r"is not in the sudoers file", Reach.SUDO),
    (r"is not allowed to (execute|run sudo)", Reach.SUDO),
    (r"sudo: (command )?not found", Reach.SUDO),
    (r"sudo: no tty present", Reach.SUDO),
    (r"sudo: account validation failure", Reach.SUDO),
    (r"(Missing|Incorrect) sudo password", Reach.SUDO),
    (r"Timed out waiting for become success or become password prompt", Reach.SUDO),
    # host keys before authentication: a client that does not trust the machine never gets to log in
    (r"Host key verification failed", Reach.HOST_KEY),
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", Reach.HOST_KEY),
    (r"No \S+ host key is known for", Reach.HOST_KEY),
    (r"Host key for .* has changed", Reach.HOST_KEY),
    (r"Host key is not (trusted|verifiable)", Reach.HOST_KEY),
    (r"no matching host key type found", Reach.HOST_KEY),
    (r"HOST KEY REVOKED|host key is revoked|Revoked host key", Reach.HOST_KEY),
    (r"Permission denied", Reach.AUTH),
    (r"Too many authentication failures", Reach.AUTH),
    (r"No more authentication methods", Reach.AUTH),
    (r"no mutual signature", Reach.AUTH),
    (r"Could not resolve hostname", Reach.DNS),
    (r"Name or service not known", Reach.DNS),
    (r"Temporary failure in name resolution", Reach.DNS),
    (r"No address associated with hostname", Reach.DNS),
    (r"nodename nor servname provided", Reach.DNS),
    (r"unknown host", Reach.DNS),
    (r"timed out", Reach.TIMEOUT),
    (r"Operation timed out|[Tt]imeout, server .* not responding", Reach.TIMEOUT),
    (r"No route to host", Reach.TIMEOUT),
    (r"Network is unreachable", Reach.TIMEOUT),
    (r"Host is down", Reach.TIMEOUT),
    (r"Connection refused", Reach.REFUSED),
    (r"administratively prohibited", Reach.REFUSED),
    # a machine that goes down, or a server that is full: it answered, and does not talk to us
    (r"Connection reset", Reach.REFUSED),
    (r"Connection (to \S+ )?closed", Reach.REFUSED),
    (r"Connection lost", Reach.REFUSED),
    (r"Broken pipe", Reach.REFUSED),
    (r"kex_exchange_identification", Reach.REFUSED),
    (r"Session open refused by peer", Reach.REFUSED),
    (r"stdio forwarding failed", Reach.REFUSED),
    (r"System is going down|is booting up", Reach.REFUSED),
)
"""Words (a regular expression, letter case as printed) to meaning; the first row that matches counts."""

_COMPILED = tuple((re.compile(words), reach) for words, reach in TABLE)


def reach_of(text: str) -> Reach | None:
    """What an SSH client's words mean, or None when none of them is known.

    >>> reach_of("ssh: connect to host 10.0.0.9 port 22: Connection refused")
    <Reach.REFUSED: 'refused'>
    """
    return next((reach for words, reach in _COMPILED if words.search(text)), None)


def one_line(text: str) -> str:
    """The line of a client's output that says most: the last one that the table knows, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    known = [line for line in lines if reach_of(line)]
    return (known or lines or [""])[-1][:300]
