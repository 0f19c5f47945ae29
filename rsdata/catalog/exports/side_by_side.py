"""Work that several threads share, its results in the order it was given.

What an export does beside waiting for the disk is to compress and to take digests, and neither holds Python's lock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Results in the order of the jobs; at most two jobs per worker are under way or wait to be taken."""
    if workers <= 1:
        yield from map(work, jobs)
        return
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, "rsdata-export") as pool:
        try:
            for job in jobs:
                running.append(pool.submit(work, job))
                if len(running) >= 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for each in running:
                each.cancel()
