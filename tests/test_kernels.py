"""The look-up of faster twins: found, declined, switched off, required; a pair is replaced whole."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import xplayers as xpl
import xplayers.functional as F
from tests.cases import make, rows, seeded
from xplayers.kernels import registry
from xplayers.kernels.registry import kernel


@pytest.fixture
def twin():
    """A twin of `linear` on NumPy that answers only float64, and says in its answer that it was called."""
    held = registry._state.twins.get(("numpy", F.linear_forward), ())

    def backward(dy, cache, *, wanted=None):
        return tuple(f"twin {part}" for part in cache)

    @kernel("numpy", F.linear_forward, backward, supports=lambda x, *rest: x.dtype == np.float64, rule="in float64")
    def forward(x, weight, bias=None):
        if x.dtype != np.float64 or x.ndim == 3:
            return NotImplemented
        return "twin", ("a", "b")

    yield
    registry.unregister("numpy", F.linear_forward)
    registry._state.twins["numpy", F.linear_forward] = held
    F.linear_forward.known.clear()


X, W = np.ones((2, 3)), np.ones((4, 3))


def counts():
    found = xpl.kernels.status()["kernels"]["numpy:linear_forward"]
    return {k: found[k] for k in ("answered", "declined")}


def test_a_twin_answers_and_its_backward_follows_the_cache(twin):
    y, cache = F.linear_forward(X, W)
    assert y == "twin"
    with xpl.use_kernels("off"):  # the cache decides, whatever the switch says by then
        assert F.linear_backward(X, cache) == ("twin a", "twin b")
    assert counts() == {"answered": 1, "declined": 0}


def test_the_agnostic_cache_keeps_to_the_agnostic_backward(twin):
    with xpl.use_kernels("off"):
        y, cache = F.linear_forward(X, W)
    np.testing.assert_array_equal(y, X @ W.T)
    dx, _, db = F.linear_backward(np.ones((2, 4)), cache)
    assert dx.shape == X.shape
    assert db is None
    assert counts()["answered"] == 0


def test_what_a_twin_declines_falls_back_and_is_counted(twin):
    y, _ = F.linear_forward(X.astype(np.float32), W.astype(np.float32))
    assert y.dtype == np.float32
    assert counts() == {"answered": 0, "declined": 1}


def test_require_makes_a_broken_promise_an_error(twin):
    with xpl.use_kernels("require"):
        F.linear_forward(X.astype(np.float32), W.astype(np.float32))  # not claimed: falls back
        with pytest.raises(RuntimeError, match="linear_forward declined"):
            F.linear_forward(np.ones((2, 2, 3)), W)


def test_other_libraries_and_keywords(twin):
    import array_api_strict as strict

    y, _ = F.linear_forward(strict.asarray(X), strict.asarray(W))
    assert y.shape == (2, 4)
    assert F.linear_forward(x=X, weight=W)[0] == "twin"


def test_the_means_in_front_is_asked_first_and_can_be_left_out(twin):
    @kernel("numpy", F.linear_forward, lambda dy, cache, *, wanted=None: cache, means="numba")
    def forward(x, weight, bias=None):
        return ("compiled", ()) if x.ndim == 2 else NotImplemented

    assert F.linear(X, W) == "compiled"
    assert F.linear(X[0], W) == "twin"  # the next one, where the first declines
    with xpl.use_kernels(without=("numba",)):
        assert F.linear(X, W) == "twin"
    registry.unregister("numpy", F.linear_forward, "numba")
    assert F.linear(X, W) == "twin"


def test_precision_is_exact_unless_asked():
    assert xpl.kernels.precision() == "exact"
    with xpl.use_kernels(precision="fast"):
        assert xpl.kernels.precision() == "fast"
        with xpl.use_kernels("off"):
            assert xpl.kernels.status()["precision"] == "fast"
            assert xpl.kernels.status()["mode"] == "off"
    assert xpl.kernels.precision() == "exact"
    with pytest.raises(ValueError, match=r"precision': got 'tf32'.*exact, torch, fast"):
        xpl.use_kernels(precision="tf32")


def test_under_require_every_size_is_worth_it():
    assert not registry.worth(10, 100)
    assert registry.worth(100, 100)
    with xpl.use_kernels("require"):
        assert registry.worth(10, 100)


def test_rules_are_shown(twin):
    assert xpl.kernels.status()["kernels"]["numpy:linear_forward"]["rule"] == "in float64"


def test_the_module_prints_what_is_active():
    done = subprocess.run(
        [sys.executable, "-m", "xplayers.kernels"],
        env={**os.environ, "XPLAYERS_KERNELS": "off", "XPLAYERS_THREADS": "3"},
        capture_output=True,
        text=True,
    )
    first, *rest = done.stdout.splitlines()
    assert first == "mode off, precision exact, 3 threads", done.stderr
    names = [line.split()[0] for line in rest if not line.startswith("absent")]
    assert sorted(names) == sorted(n for n in xpl.kernels.status()["kernels"])


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"got 'fast'.*auto, off, require"):
        xpl.use_kernels("fast")
    environment = {**os.environ, "XPLAYERS_KERNELS": "sometimes"}
    done = subprocess.run([sys.executable, "-c", "import xplayers"], env=environment, capture_output=True, text=True)
    assert "XPLAYERS_KERNELS" in done.stderr


def test_the_mode_of_a_thread_is_its_own():
    import threading

    seen = []
    with xpl.use_kernels("off"):
        thread = threading.Thread(target=lambda: seen.append(xpl.kernels.status()["mode"]))
        thread.start()
        thread.join()
        assert xpl.kernels.status()["mode"] == "off"
    assert seen == ["auto"]


def test_absent_means_are_named_and_required_ones_are_an_error(monkeypatch):
    monkeypatch.setitem(registry._state.absent, "numba", "not installed")
    assert xpl.kernels.status()["absent"]["numba"] == "not installed"
    with pytest.raises(RuntimeError, match="numba: not installed"):
        xpl.use_kernels("require")


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "GELU", "Tanh", "Softplus"])
@pytest.mark.parametrize("without", [(), ("numba",)], ids=["numba", "numpy"])
def test_a_number_is_a_dy_where_the_answer_is_0d(name, without):
    layer = getattr(xpl, name)()
    x, found = np.asarray(0.5, np.float32), []
    for mode in ("off", "auto", "require"):
        with xpl.use_kernels(mode, without=without):
            xpl.manual_seed(0)
            tape = xpl.Tape()
            layer.forward(x, tape=tape)
            found.append(layer.backward(1.0, tape=tape))
    for dx in found:
        assert dx.shape == () and dx.dtype == np.float32
        np.testing.assert_allclose(dx, found[0], rtol=1e-6)


def test_only_accelerable_functions_take_a_twin():
    with pytest.raises(ValueError, match="accelerable"):
        kernel("numpy", F.flatten_forward, None)


def test_processes_compile_in_turn():
    """numba's files of a loop are read and written without a lock: two processes could swap their code."""
    fcntl = pytest.importorskip("fcntl")
    compiling = pytest.importorskip("xplayers.kernels.on_numba.compiling")
    entered = threading.Event()

    def enter():
        with compiling._alone(), compiling._alone():
            entered.set()

    with (Path(compiling.__file__).parent / "__pycache__" / "compiling.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as another process would
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.2)
    thread.join(timeout=20)
    assert entered.is_set()


def test_a_loop_is_compiled_in_its_turn(monkeypatch):
    compiling = pytest.importorskip("xplayers.kernels.on_numba.compiling")
    turns = []
    monkeypatch.setattr(compiling, "_alone", lambda: contextlib.nullcontext(turns.append(1)))

    @compiling.compiled
    def twice(x):
        return x + x

    assert twice(2.0) == 4.0
    assert turns == [1]
    assert twice(3.0) == 6.0
    assert turns == [1], "a turn for what is compiled already"


def cast(tree):
    """Floats of a nest in float32, which every twin takes."""
    if isinstance(tree, tuple):
        return tuple(cast(t) for t in tree)
    return tree.astype("f4") if tree is not None and tree.dtype.kind == "f" else tree


TWINS = list({row.name: row for row in rows("TWINS")}.values())


@pytest.mark.parametrize("row", TWINS, ids=lambda row: row.name)
def test_a_call_that_the_reference_refuses_reaches_no_twin(row):
    """A name that there is not, one argument too many, and one given twice: none is passed over."""
    forward = getattr(F, f"{row.name}_forward")
    given = {k: cast(make(spec, seeded(""))) for k, spec in row.arrays.items()} | row.kwargs
    first = next(iter(row.arrays))
    for args, kwargs in (
        ((), {**given, "no_such": 1}),
        (tuple(range(40)), {}),
        ((given[first],), given),
        ((given[first],), {"no_such": 1}),
    ):
        for mode in ("off", "auto"):
            with xpl.use_kernels(mode), pytest.raises(TypeError, match=r"argument"):
                forward(*args, **kwargs)


@pytest.mark.parametrize("means", ["numba", "numpy"])
def test_arguments_may_come_by_place_and_by_name(means):
    x, w, b = (np.random.default_rng(0).standard_normal(s).astype("f4") for s in ((2, 4, 9, 9), (6, 2, 3, 3), (6,)))
    with xpl.use_kernels("require", without=tuple({"numba", "numpy"} - {means})):
        whole, _ = F.conv2d_forward(x, w, b, 2, 1, 1, 2)
        by_name, _ = F.conv2d_forward(x, w, groups=2, padding=1, stride=2, bias=b)
        assert np.array_equal(whole, by_name)
        assert np.array_equal(F.conv2d_forward(x=x, weight=w, bias=b, stride=2, padding=1, groups=2)[0], whole)
