"""Work that threads do ahead of the loop that uses it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Output = TypeVar("Output")


def map_ahead(
    function: Callable[[Item], Output], items: Iterable[Item], workers: int, *,
    most: int | None = None, name: str = "ahead",
) -> Generator[Output, None, None]:  # fmt: skip
    """``function`` of every item, in the order of the items, computed ahead by threads.

    At most ``most`` items (None: ``workers`` + 1) are computed or wait at any time; with 0 workers
    each is computed when the caller takes it. ``items`` is read in the caller's thread. An error of
    ``function`` is raised at its item. Closing the generator stops the threads, "coview-<name>".

    >>> list(map_ahead(lambda x: x * x, [1, 2, 3], workers=2))
    [1, 4, 9]
    """
    if workers == 0:
        yield from map(function, items)
        return
    iterator = iter(items)
    pool = ThreadPoolExecutor(workers, f"coview-{name}")
    try:
        waiting: deque[Future[Output]] = deque(
            pool.submit(function, item) for item in islice(iterator, most or workers + 1)
        )
        while waiting:
            output = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(iterator, 1))
            yield output
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
