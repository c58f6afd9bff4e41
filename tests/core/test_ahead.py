import threading
import time

import pytest

from coview.core.ahead import map_ahead


@pytest.mark.parametrize("workers", [0, 1, 3, 20])
def test_map_ahead_keeps_the_order(workers):
    def slow(item):
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(map_ahead(slow, range(12), workers)) == [item * item for item in range(12)]
    assert list(map_ahead(slow, [], workers)) == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_map_ahead_reads_at_most_that_far_ahead(workers):
    taken = []

    def items():
        for item in range(20):
            taken.append((item, threading.current_thread()))
            yield item

    for done, _ in enumerate(map_ahead(str, items(), workers)):
        assert len(taken) <= done + 1 + (workers + 1 if workers else 0)
    assert {thread for _, thread in taken} == {threading.current_thread()}


@pytest.mark.parametrize("workers", [0, 2])
def test_map_ahead_raises_an_error_at_its_item(workers):
    outputs = map_ahead(lambda item: 1 // item, [1, 1, 0, 1], workers)
    assert [next(outputs), next(outputs)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(outputs)


def test_map_ahead_ends_its_threads_when_closed():
    outputs = map_ahead(str, range(100), 3)
    next(outputs)
    outputs.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("coview-ahead")]
