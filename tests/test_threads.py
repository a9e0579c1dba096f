"""The threads that kernels part their work over: every part once, errors raised, nested calls and forks safe."""

import multiprocessing
import sys
import threading

import numpy as np
import pytest

from xplayers.kernels import set_threads, threads
from xplayers.kernels.threads import in_parts, one_blas_thread, products_in_parts, runs


@pytest.fixture(autouse=True)
def _four(use_threads):
    use_threads(4)


def test_every_part_is_worked_on_once():
    seen = []
    in_parts(seen.append, range(1000))
    assert sorted(seen) == list(range(1000))


def test_several_threads_work():
    here, met = set(), threading.Barrier(4, timeout=20)

    def work(_):
        here.add(threading.get_ident())
        met.wait()

    in_parts(work, range(4))
    assert len(here) == 4


def test_each_part_sees_the_callers_errstate():
    met, seen = threading.Barrier(4, timeout=20), []

    def work(_):
        met.wait()
        seen.append(np.geterr()["over"])

    with np.errstate(over="raise"):
        in_parts(work, range(4))
    assert seen == ["raise"] * 4


def test_an_error_is_raised_and_the_pool_lives_on():
    def work(i):
        if i == 7:
            raise KeyError("seven")

    with pytest.raises(KeyError, match="seven"):
        in_parts(work, range(20))
    test_every_part_is_worked_on_once()


def test_after_an_error_the_other_parts_are_still_worked_on():
    seen = []

    def work(i):
        seen.append(i)
        if i % 2:
            raise KeyError(i)

    with pytest.raises(KeyError):
        in_parts(work, range(20))
    assert sorted(seen) == list(range(20))


def test_a_call_does_not_wait_for_threads_that_others_keep_busy():
    go, busy = threading.Event(), threading.Barrier(5, timeout=20)

    def hold(_):
        busy.wait()
        go.wait(60)

    other = threading.Thread(target=in_parts, args=(hold, range(4)))
    other.start()
    try:
        busy.wait()
        caller = threading.Thread(target=in_parts, args=(lambda _: None, range(10)))
        caller.start()
        caller.join(10)
        assert not caller.is_alive()
    finally:
        go.set()
        other.join(20)
        caller.join(20)


def test_what_a_part_calls_is_not_parted_again():
    seen = []
    in_parts(lambda i: in_parts(lambda j: seen.append((i, j)), range(3)), range(5))
    assert sorted(seen) == [(i, j) for i in range(5) for j in range(3)]


def test_many_callers_at_once():
    totals = []

    def call():
        seen = []
        in_parts(seen.append, range(200))
        totals.append(sum(seen))

    callers = [threading.Thread(target=call) for _ in range(8)]
    for c in callers:
        c.start()
    for c in callers:
        c.join(30)
    assert totals == [sum(range(200))] * 8


def _in_child(answer):
    seen = []
    in_parts(seen.append, range(10))
    answer.put(sorted(seen))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")  # Python's, jax's
def test_a_forked_child_has_threads_of_its_own():
    in_parts(lambda i: None, range(10))
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(answer,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert answer.get() == list(range(10))


def test_runs_cover_without_overlap_and_do_not_depend_on_threads():
    for count, run in ((0, 4), (1, 4), (10, 4), (4097, 1000)):
        found = runs(count, run)
        assert [i for r in found for i in range(r.start, r.stop)] == list(range(count))
        assert all(r.stop - r.start <= run for r in found)


def test_numbers_of_threads_are_checked():
    assert threads() == 4
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="set_threads"):
            set_threads(wrong)


def blas_counts():
    """How many threads NumPy's own BLAS has: SciPy brings another."""
    found = pytest.importorskip("threadpoolctl").threadpool_info()
    return [p["num_threads"] for p in found if p["user_api"] == "blas" and "scipy.libs" not in p["filepath"]]


def test_few_products_have_one_blas_thread():
    """Fewer parts than threads are BLAS's to share out, unless that takes longer than the products."""
    threadpoolctl, seen = pytest.importorskip("threadpoolctl"), []
    with threadpoolctl.threadpool_limits(2, "blas"):
        for multiplications in (1 << 10, 1 << 30):
            products_in_parts(lambda part: seen.append(set(blas_counts())), [0], multiplications)
    assert seen == [{1}, {2}]


def test_blas_gets_its_threads_back(monkeypatch):
    before = blas_counts()
    with one_blas_thread() as alone, one_blas_thread():
        assert alone
        assert set(blas_counts()) == {1}
    assert blas_counts() == before
    monkeypatch.setattr(sys.modules[one_blas_thread.__module__], "_blas", lambda: None)
    with one_blas_thread() as alone:
        assert not alone
        assert blas_counts() == before
