"""Reading one item ahead of the writer."""

import threading

import pytest
from patience import PATIENCE_SECONDS

from codemix_megatron.conversion.read_ahead import read_ahead


def test_items_come_in_order_and_the_next_is_made_while_one_is_used():
    made = [threading.Event() for _ in range(5)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    found = []
    for number in read_ahead(items()):
        found.append(number)
        assert number == len(made) - 1 or made[number + 1].wait(PATIENCE_SECONDS)
    assert found == [0, 1, 2, 3, 4]


def test_what_reading_raises_is_raised_after_the_items_before_it():
    def items():
        yield 1
        raise OSError("the disk is gone")

    found = []
    with pytest.raises(OSError, match="the disk is gone"):
        found.extend(read_ahead(items()))
    assert found == [1]


def test_a_writer_that_fails_leaves_no_thread_behind():
    before = threading.active_count()
    reading = read_ahead(iter(range(10)))
    next(reading)
    reading.close()
    assert threading.active_count() == before
