"""What an Ansible command that did not do its work means: exit codes and printed words to our errors, as tables."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import Cancelled, EngineError, EngineFailed, InputError, IsmgrError

ENGINE = "ansible"


class Meaning(StrEnum):
    """What an exit code without results stands for."""

    INPUT = "input"
    """The playbook or the inventory is wrong, if a place in it is named; else Ansible failed."""
    ENGINE = "engine"
    CANCELLED = "cancelled"


EXIT_CODES: dict[int, Meaning] = {
    0: Meaning.ENGINE,  # well, but it told no results
    1: Meaning.INPUT,  # GENERIC_ERROR: an undefined role, a missing variables file
    2: Meaning.ENGINE,  # HOST_FAILED, and yet no results
    3: Meaning.ENGINE,  # HOST_UNREACHABLE, and yet no results
    4: Meaning.INPUT,  # PARSER_ERROR
    5: Meaning.ENGINE,  # INVALID_CLI_OPTION: ours
    6: Meaning.ENGINE,  # UNICODE_ERROR
    8: Meaning.ENGINE,  # the play was broken off, and yet no results
    99: Meaning.CANCELLED,  # KEYBOARD_INTERRUPT
    250: Meaning.ENGINE,  # UNKNOWN_ERROR
}
"""Exit codes of Ansible's commands (``ansible.errors.ExitCode`` and the flags of its task queue)."""

_PLACES = (
    re.compile(r"Origin: (?P<path>/.+?):(?P<line>\d+)(?::(?P<column>\d+))?"),
    re.compile(r"The error appears to be in '(?P<path>[^']+)': line (?P<line>\d+), column (?P<column>\d+)"),
    re.compile(r"(?P<path>/\S+?):(?P<line>\d+): "),
)
_WORDS_OF_INPUT = re.compile(
    r"was not found|could not be found|Could not find|does not exist|Unable to (retrieve file|parse)|"
    r"is not a valid attribute|[Ss]yntax [Ee]rror|YAML parsing failed|vault secrets|couldn't resolve module|"
    r"Failed to parse|variables? file|Attempting to decrypt|Decryption failed"
)
_ERROR = re.compile(r"^(?:\[ERROR\]|ERROR!|fatal):?\s*(?P<words>.*)$")


def failure(code: int, said: str, *, subject: str, root: Path) -> IsmgrError:
    """The error for a command that ended with ``code`` and gave no results; ``said`` is what it printed, cleaned."""
    words = _sentence(said)
    match EXIT_CODES.get(code, Meaning.ENGINE):
        case Meaning.CANCELLED:
            return Cancelled(f"{subject}: Ansible was interrupted.")
        case Meaning.INPUT:
            place = _place(said, root)
            if place is not None or _WORDS_OF_INPUT.search(said):
                return InputError(
                    f"{subject}: Ansible cannot read its input.",
                    diagnostics=[Diagnostic(summary=words, position=place)],
                )
            return _failed(code, words, said, subject)
        case Meaning.ENGINE:
            return _failed(code, words, said, subject)


def _failed(code: int, words: str, said: str, subject: str) -> EngineError:
    full = bool(re.search(r"No space left on device|Errno 28|Disk quota exceeded", said))
    return EngineFailed(
        f"{subject}: Ansible ended with code {code} and no results: {words}",
        engine=ENGINE,
        subject=subject,
        next_step="Free space in the work folder and run again." if full else "Its own words are below.",
        detail="\n".join(said.splitlines()[-40:]),
    )


def _sentence(said: str) -> str:
    """Ansible's own error as one line (with the line after it, which often names the file), or the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        found = _ERROR.match(line)
        if found:
            after = lines[number + 1 : number + 2]
            more = "" if not after or after[0].startswith(("Origin:", "[", "Traceback")) else f" {after[0]}"
            return (found["words"] + more).strip()[:500]
    return (lines or ["it printed nothing"])[-1][:500]


def _place(said: str, root: Path) -> Position | None:
    for shape in _PLACES:
        found = shape.search(said)
        if found:
            column = found.groupdict().get("column")
            return Position(shown(found["path"], root), int(found["line"]), int(column or 1))
    return None


def shown(path: str, root: Path) -> str:
    """A path as people of the estate know it: relative to its root where it lies inside.

    >>> shown("/estate/play.yml", Path("/estate"))
    'play.yml'
    """
    here = Path(path)
    return str(here.relative_to(root)) if here.is_relative_to(root) else path
