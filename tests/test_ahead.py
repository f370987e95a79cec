"""Work ahead of time: ordered, bounded, and each error is raised at its item."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nfbench.core.ahead import in_order


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_results_come_in_order_and_no_more_is_begun_than_asked_for(ahead):
    begun, finished = [], []

    def begin(item):
        begun.append(item)
        assert len(begun) - len(finished) <= ahead + 1

        def end():
            finished.append(item)
            return 10 * item

        return end

    assert list(in_order(begin, range(20), ahead)) == [10 * item for item in range(20)]
    assert begun == finished == list(range(20))


def test_nothing_is_begun_before_the_first_is_asked_for():
    results = in_order(lambda item: pytest.fail("begun"), [1], 1)
    results.close()


def test_an_error_is_raised_in_its_own_turn():
    with ThreadPoolExecutor(2) as pool:
        results = in_order(lambda item: pool.submit(lambda: 6 // item).result, [3, 2, 0, 1], 3)
        assert [next(results), next(results)] == [2, 3]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_a_slow_reader_has_few_results_waiting():
    done, lock = [], threading.Lock()

    def work(item):
        with lock:
            done.append(item)
        return item

    with ThreadPoolExecutor(4) as pool:
        for number, _ in enumerate(in_order(lambda item: pool.submit(work, item).result, range(200), 6)):
            with lock:
                assert len(done) <= number + 7
