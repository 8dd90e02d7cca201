"""Reads what ``work.sh`` told of one host. Lines in, a result out: no clock, no host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.engines.apt.bringing import brought_of
from ismgr_automation.engines.apt.reading import broken_of
from ismgr_automation.engines.apt.troubles import headline, trouble_of
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Brought, Move, PackageFate, PackageResult, Trouble

SAID_LINES = 12
"""How many lines of apt's own words people are shown."""

_BY_APT = "apt"
"""The word of the script for a trouble that apt's words tell."""
_BEFORE_ANYTHING = frozenset({Trouble.LOCKED, Trouble.VANISHED, Trouble.WIDER, Trouble.DIGEST})


class Verb(StrEnum):
    """What a host is asked for."""

    REFRESH = "refresh"
    CHECK = "check"
    APPLY = "apply"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """One package as dpkg knew it at the end."""

    status: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """The lines of a host, sorted by their first word."""

    trouble: str
    said: tuple[str, ...]
    begun: bool
    ended: bool
    lost: str
    todo: frozenset[tuple[str, str]]
    states: dict[tuple[str, str], _State]
    broken: tuple[str, ...]
    former: tuple[str, ...]
    brings: tuple[Brought, ...]


def result_of(answer: Answer, verb: Verb, moves: Sequence[Move]) -> PackageResult:
    """What became of one host."""
    if answer.reach is not Reach.OK:
        fate = PackageFate.UNKNOWN if answer.begun and verb is not Verb.CHECK else PackageFate.UNREACHABLE
        return PackageResult(
            host=answer.host, fate=fate, detail=f"{answer.reach}: {answer.detail}", seconds=answer.seconds
        )
    told = _told(answer.output, moves)
    if not told.ended:
        return _unfinished(answer, verb, told)
    trouble = _trouble(told)
    made = tuple(one for one in moves if (one.name, one.architecture) in told.todo and _is_there(told, one))
    if trouble is Trouble.NONE and not all(_is_there(told, one) for one in moves) and _acts(verb):
        trouble = Trouble.BROKEN if told.broken else Trouble.OTHER
    return PackageResult(
        host=answer.host,
        fate=_fate(verb, told, trouble, made),
        trouble=trouble,
        detail=_detail(told),
        headline=_headline(told) if trouble is not Trouble.NONE else "",
        made=made if _acts(verb) else (),
        broken=told.broken,
        former=told.former if _acts(verb) else (),
        brings=told.brings if trouble is Trouble.WIDER and not _acts(verb) else (),
        seconds=answer.seconds,
    )


def _acts(verb: Verb) -> bool:
    return verb in {Verb.APPLY, Verb.ROLLBACK}


def _unfinished(answer: Answer, verb: Verb, told: _Told) -> PackageResult:
    if _acts(verb):
        fate, words = PackageFate.UNKNOWN, told.lost or "the host gave no whole answer"
    else:
        fate, words = PackageFate.FAILED, "the host gave no whole answer"
    detail = "\n".join(filter(None, (words, answer.detail, *told.said)))
    trouble = Trouble.NONE if fate is PackageFate.UNKNOWN else trouble_of(f"{answer.detail}\n{answer.output}")
    return PackageResult(host=answer.host, fate=fate, trouble=trouble, detail=detail, seconds=answer.seconds)


def _fate(verb: Verb, told: _Told, trouble: Trouble, made: Sequence[Move]) -> PackageFate:
    if trouble is Trouble.NONE:
        return PackageFate.DONE if made or verb is Verb.REFRESH or _would(verb, told) else PackageFate.NOTHING
    if verb is Verb.REFRESH or (told.begun and not _untouched(told, trouble, made)):
        return PackageFate.FAILED
    return PackageFate.REFUSED


def _would(verb: Verb, told: _Told) -> bool:
    return verb is Verb.CHECK and bool(told.todo)


def _untouched(told: _Told, trouble: Trouble, made: Sequence[Move]) -> bool:
    """It was apt that refused, although it had been asked: nothing was unpacked."""
    return not made and not told.broken and trouble in _BEFORE_ANYTHING


def _trouble(told: _Told) -> Trouble:
    word = told.trouble.partition(" ")[0]
    if not word:
        return Trouble.NONE
    if word == _BY_APT:
        return trouble_of("\n".join(told.said))
    return Trouble(word) if word in set(Trouble) else Trouble.OTHER


def _detail(told: _Told) -> str:
    word, _, words = told.trouble.partition(" ")
    return "\n".join(filter(None, ("" if word == _BY_APT else words, *told.said[-SAID_LINES:])))


def _headline(told: _Told) -> str:
    word, _, words = told.trouble.partition(" ")
    return headline(told.said) if word == _BY_APT or not words else words


def _is_there(told: _Told, move: Move) -> bool:
    state = told.states.get((move.name, move.architecture))
    return state is not None and state.version == move.after and state.status[1:2] == "i"


def _told(output: str, moves: Sequence[Move]) -> _Told:
    words: dict[str, list[str]] = {}
    for line in output.split("\n"):
        word, _, rest = line.partition(" ")
        words.setdefault(word, []).append(rest)
    return _Told(
        trouble=words.get("trouble", [""])[0],
        said=tuple(one for one in words.get("said", ()) if one.strip()),
        begun="begun" in words,
        ended="end" in words,
        lost=_lost(words),
        todo=frozenset((name, architecture) for name, architecture in _rows(words.get("todo", ()), 2)),
        states={
            (name, architecture): _State(status=status, version=version)
            for name, architecture, _, _, status, version in _rows(words.get("state", ()), 6)
        },
        broken=broken_of(words.get("audit", ())),
        former=tuple(dict.fromkeys(words.get("former", ()))),
        brings=brought_of(words, moves),
    )


def _rows(lines: Iterable[str], width: int) -> Iterator[list[str]]:
    """The rows of a table that are whole."""
    return (row for line in lines if len(row := line.split("\t")) == width)


def _lost(words: dict[str, list[str]]) -> str:
    if "running" in words:
        return "the host still works on it: the next call waits for its end"
    return "what worked on it there was ended in the middle" if "died" in words else ""
