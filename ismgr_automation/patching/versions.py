"""Which of two versions of a Debian package is newer. The rules are python-debian's, asked once for each pair."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cmp_to_key, lru_cache


@lru_cache(maxsize=1 << 16)
def compare(one: str, other: str) -> int:
    """Below 0 when ``one`` is older, above 0 when it is newer, 0 when they are the same version written differently.

    Raises ``ValueError`` for what is no version.

    >>> compare("1:0.9-1", "2.0-1") > 0
    True
    >>> compare("1.0~rc1-1", "1.0-1") < 0
    True
    """
    # the pure class: apt's own is there or not, as the machine happens to be
    from debian.debian_support import NativeVersion

    first, second = NativeVersion(one), NativeVersion(other)
    return -1 if first < second else int(first > second)


def at_least(version: str, wanted: str) -> bool:
    """Whether a version is ``wanted`` or newer. What is no version never is: nothing is mended by what nobody can
    read."""
    try:
        return compare(version, wanted) >= 0
    except ValueError:
        return False


def newer(version: str, than: str) -> bool:
    """Whether a version is newer; what is no version never is."""
    try:
        return compare(version, than) > 0
    except ValueError:
        return False


def ordered(versions: Iterable[str]) -> list[str]:
    """The oldest first; what is no version is left out."""
    return sorted((one for one in versions if at_least(one, one)), key=cmp_to_key(compare))
