"""Threads whose failures fail the test."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest


@pytest.fixture
def in_threads() -> Callable[[Callable[[int], None], int], None]:
    """Run a function in so many threads, with the thread's number; the first failure is raised here."""

    def run(work: Callable[[int], None], count: int) -> None:
        failures: list[BaseException] = []

        def guarded(number: int) -> None:
            try:
                work(number)
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    return run
