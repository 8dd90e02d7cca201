"""Several engines at once, results in the order of the questions. No engine is left running when this returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def each(items: Sequence[Item], work: Callable[[Item], Answer], *, workers: int) -> tuple[Answer, ...]:
    """Answers for all items. When one raises, the others finish first; then the first error (in order) is raised."""
    if not items:
        return ()
    with ThreadPoolExecutor(max_workers=max(1, min(workers, len(items))), thread_name_prefix="ismgr") as pool:
        futures = [pool.submit(work, item) for item in items]
    return tuple(future.result() for future in futures)
