"""Work in threads: in order, a few items ahead, over at once when nobody takes more."""

from __future__ import annotations

import threading
import time
import warnings

import pytest

from urd.system.threads import map_ahead, without_warnings


def test_results_come_in_order():
    def slow_first(item):
        time.sleep(0.05 if item == 0 else 0)
        return 2 * item

    assert list(map_ahead(slow_first, range(20), depth=5)) == [2 * i for i in range(20)]
    assert list(map_ahead(slow_first, [], depth=5)) == []


def test_no_more_than_the_depth_is_taken_ahead():
    taken = []

    def items():
        for item in range(50):
            taken.append(item)
            yield item

    results = map_ahead(lambda item: item, items(), depth=4)
    assert next(results) == 0
    assert len(taken) <= 5
    results.close()
    assert len(taken) <= 5


def test_an_error_reaches_who_takes_the_results():
    def broken(item):
        if item == 3:
            raise ValueError("three")
        return item

    results = map_ahead(broken, range(10), depth=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_at_most_so_many_threads():
    names = set(map_ahead(lambda _: threading.current_thread().name, range(50), depth=8))
    assert 1 <= len(names) <= 4
    assert (
        len(set(map_ahead(lambda _: threading.get_ident(), range(9), depth=9, most_threads=1))) == 1
    )


def test_warnings_are_off_inside_only():
    with without_warnings():
        warnings.warn("unseen", stacklevel=1)
    with pytest.warns(UserWarning, match="seen"):
        warnings.warn("seen", stacklevel=1)
