"""CUDA C++ without a card: every kernel compiles, and every twin gives the right numbers when a host runs its threads.

The checks of numbers are those of test_twins.py, on arrays of NumPy.
"""

import re
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

import xplayers as xpl
import xplayers.functional as F
from tests.cards import answering_for, taken_out
from tests.cases import Function, floats, integers, make, positive, rows, seeded
from tests.host_cuda import Host, compile_for, lacks_compiler, lacks_nvrtc
from tests.oracle import TOLERANCE
from tests.test_twins import (  # noqa: F401  (their tests are run here too)
    Bench,
    over,
    test_an_empty_batch,
    test_each_gradient_alone,
    test_float64_has_all_its_digits,
    test_it_answers_and_is_as_exact,
    test_layouts_do_not_matter,
    test_nan_and_infinities_stay_what_they_are,
)
from xplayers.kernels.on_cuda import launching

FLOATS = [np.dtype(t) for t in ("float32", "float64", "float16", ml_dtypes.bfloat16)]
HALVES = ("float16", "bfloat16")


TWINS, UPDATES = taken_out("cuda")
_LARGEST = 20_000  # numbers: what a host runs in a moment


def _claimed(row):
    """Whether a row of the tables is for these twins, and small."""
    if row.name not in TWINS:
        return False
    spec = row.arrays["x"]
    x = np.empty(spec) if isinstance(spec, tuple) else make(spec, seeded(""))
    shape = x.shape
    if np.prod(shape) > _LARGEST or row.kwargs.get("return_indices"):
        return False
    if not isinstance(spec, tuple) and not np.isfinite(x).all():
        return False  # a check of its own
    if row.name.endswith("softmax"):
        return row.kwargs["dim"] in (-1, len(shape) - 1)
    return {"batch_norm": np.prod(shape[2:]) >= 16, "cross_entropy": len(shape) == 2}.get(row.name, True)


_TRAINING = {"training": True}
_STATISTICS = {"running_mean": (3,), "running_var": positive(3)}
ROWS = [row for row in rows("TWINS") if _claimed(row)] + [
    Function("softmax", {"x": (3, 700)}, {"dim": 1}),
    Function("log_softmax", {"x": (2, 3000)}, {"dim": -1}),
    Function("cross_entropy", {"x": (9, 33), "target": integers((9,), 33), "weight": (33,)}, {"label_smoothing": 0.1}),
    Function(
        "cross_entropy",
        {"x": (5, 2500), "target": integers((5,), 2500), "weight": (2500,)},
        {"reduction": "none", "ignore_index": 3, "label_smoothing": 0.3},
    ),
    Function("cross_entropy", {"x": (9, 4), "target": integers((9,), 4)}, {"label_smoothing": 0.2, "ignore_index": 2}),
    Function("layer_norm", {"x": (40, 2100), "weight": (2100,), "bias": (2100,)}, {"normalized_shape": (2100,)}),
    Function("layer_norm", {"x": (9, 40), "weight": None, "bias": (40,)}, {"normalized_shape": (40,)}),
    Function("rms_norm", {"x": floats(3, 700, shift=5.0)}, {"normalized_shape": (700,)}),
    Function("batch_norm", {"x": (3, 3, 4, 5), **_STATISTICS, "weight": None, "bias": (3,)}, _TRAINING),
    Function("batch_norm", {"x": floats(2, 3, 8200, shift=50.0), "running_mean": None, "running_var": None}, _TRAINING),
    Function("batch_norm", {"x": (3, 3, 400), **_STATISTICS, "weight": (3,), "bias": (3,)}),
    *(
        Function(f"{way}_pool{n}d", {"x": (2, 3, *(7, 6, 9)[:n])}, {"kernel_size": k, **kwargs})
        for way in ("max", "avg")
        for n, k in ((1, 2), (1, 3), (2, (3, 2)), (3, (2, 3, 3)))
        for kwargs in ({}, {"stride": 2, "padding": 1, "ceil_mode": True})
    ),
    Function(
        "max_pool2d", {"x": (3, 9, 9)}, {"kernel_size": (3, 2), "dilation": (2, 3), "stride": 1, "padding": (1, 0)}
    ),
    Function("avg_pool2d", {"x": (3, 9, 9)}, {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
    Function("avg_pool3d", {"x": (3, 4, 5, 6)}, {"kernel_size": 3, "stride": 1, "padding": 1, "divisor_override": 5}),
    Function("embedding", {"x": integers((4, 9), 7), "weight": (7, 5)}, {"padding_idx": -2}),
    Function("cross_entropy", {"x": (5, 300), "target": integers((5,), 300)}, {"label_smoothing": 1.0}),
]


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    return Host(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def on_host(host, monkeypatch):
    """The twins answer for arrays of NumPy, and a host runs their kernels."""
    if lacks_compiler():
        pytest.skip(lacks_compiler())
    monkeypatch.setattr(launching, "machine", host)
    with answering_for("numpy", TWINS, monkeypatch):
        yield


@pytest.fixture(scope="module")
def benches():
    return {}


@pytest.fixture
def bench(request, benches, on_host):
    key = str(request.param)
    if key not in benches:
        benches.clear()
        benches[key] = Bench(request.param, "cuda")
    return benches[key]


def pytest_generate_tests(metafunc):
    if "bench" in metafunc.fixturenames:
        metafunc.parametrize("bench", [pytest.param(r, id=str(r)) for r in ROWS], indirect=True)


# -- numbers --


@pytest.mark.parametrize("half", HALVES)
def test_halves_are_rounded_once(bench, half):
    """Close to float64's numbers of the same halves: sums are taken in float32."""
    rounded = lambda a: a.astype(half).astype("f8") if a.dtype.kind == "f" else a  # noqa: E731
    near, dy = {k: over(rounded, a) for k, a in bench.arrays.items()}, over(rounded, bench.dy)
    with bench.alone():
        got = bench.run(half, arrays=near, dy=dy)
    exact = bench.reference("float64", arrays=near, dy=dy)
    for i, (g, e) in enumerate(zip(got, exact, strict=True)):
        assert (g is None) == (e is None), f"part {i}"
        if g is None:
            continue
        assert g.dtype == np.dtype(half), f"part {i} is {g.dtype}"
        g, error = g.astype("f8"), TOLERANCE[half] * max(1.0, np.abs(e).max())
        assert np.abs(g - e).max() <= error, f"part {i} is off by {np.abs(g - e).max():.3g}, allowed are {error:.3g}"


def test_a_label_out_of_range_gives_nan_and_reads_nothing(on_host):
    x, target = np.ones((4, 3), "f4"), np.array([0, 3, -1, 2])
    y, cache = F.cross_entropy_forward(x, target, reduction="none")
    dx = F.cross_entropy_backward(np.ones(4, "f4"), cache)[0]
    assert np.array_equal(np.isnan(y), [False, True, True, False])
    assert np.array_equal(np.isnan(dx).any(1), [False, True, True, False])


def test_a_number_as_dy_is_spread(on_host):
    x = seeded("dy").standard_normal((3, 5)).astype("f4")
    _, cache = F.layer_norm_forward(x, (5,), np.ones(5, "f4"), np.ones(5, "f4"))
    dx, _, db = F.layer_norm_backward(np.float32(1), cache)
    np.testing.assert_allclose(dx, 0, atol=1e-6)
    np.testing.assert_array_equal(db, 3)
    with pytest.raises(ValueError, match="broadcast"):
        F.layer_norm_backward(np.ones((3, 4), "f4"), cache)
    _, cache = F.cross_entropy_forward(x, np.array([0, 1, 2]))
    once, twice = (F.cross_entropy_backward(dy, cache)[0] for dy in (None, 2.0))
    np.testing.assert_array_equal(2 * once, twice)


def test_the_mean_of_no_rows_is_nan(on_host):
    y, cache = F.cross_entropy_forward(np.ones((2, 3), "f4"), np.array([1, 1]), ignore_index=1)
    assert np.isnan(y)
    assert (F.cross_entropy_backward(None, cache)[0] == 0).all()


@pytest.mark.parametrize("half", HALVES)
def test_weights_of_float32_beside_halves(half, on_host):
    rng = seeded(half)
    x, dy = (rng.standard_normal((3, 4, 20)).astype(half) for _ in range(2))
    w, b = (rng.standard_normal(4).astype("f4") for _ in range(2))
    y, cache = F.group_norm_forward(x, 2, w, b)
    dx, dw, db = F.group_norm_backward(dy, cache)
    with xpl.use_kernels("off"):
        expected, cache = F.group_norm_forward(x.astype("f8"), 2, w.astype("f8"), b.astype("f8"))
        exact = F.group_norm_backward(dy.astype("f8"), cache)
    assert (y.dtype, dx.dtype, dw.dtype, db.dtype) == (half, half, "f4", "f4")
    for got, e in zip((y, dx), (expected, exact[0]), strict=True):
        assert np.abs(got.astype("f8") - e).max() <= TOLERANCE[half] * np.abs(e).max()
    for got, e in zip((dw, db), exact[1:], strict=True):
        assert np.abs(got - e).max() <= TOLERANCE["float32"] * np.abs(e).max()


def test_moments_are_those_of_the_agnostic_cache(on_host):
    x = seeded("moments").standard_normal((3, 4, 20)).astype("f2")
    mean, var, count = F.batch_norm_moments(F.batch_norm_forward(x, None, None, training=True)[1])
    wide = x.astype("f8")
    assert count == 60
    assert mean.dtype == var.dtype == np.float32
    np.testing.assert_allclose(mean, wide.mean((0, 2)), atol=1e-6)
    np.testing.assert_allclose(var, wide.var((0, 2)), rtol=1e-6)


def test_every_twin_has_rows_and_a_rule():
    assert {row.name for row in ROWS} == set(TWINS)
    assert all(found.rule for found in (*TWINS.values(), *UPDATES))


# -- look-ups of arrays that look like CuPy's, of which nothing can be computed or read --


class Paper:
    """In the place of `launching.Card`: arrays without memory, launches that are noted."""

    threads = 256

    def __init__(self):
        self.xp, self.launches = SimpleNamespace(empty=fake, zeros=fake, asarray=lambda a, dtype: a), []

    def contiguous(self, x, dtype=None):
        return x if x.flags.c_contiguous and dtype in (None, x.dtype) else fake(x.shape, dtype or x.dtype)

    def address(self, x):
        return x.data.ptr

    def is_here(self, x):
        return x.data.device_id == 0

    def kernel(self, family, name, types):
        return lambda grid, block, arguments: self.launches.append((family, name, types, grid, block, arguments))


def fake(shape, dtype="float32"):
    cupy = pytest.importorskip("cupy", reason="NOT RUN: cupy is not installed")
    memory = cupy.cuda.UnownedMemory(0x7F0000000000, int(np.prod(shape)) * np.dtype(dtype).itemsize, None, 0)
    return cupy.ndarray(shape, dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))


@pytest.fixture
def paper(monkeypatch):
    found = Paper()
    monkeypatch.setattr(launching, "machine", found)
    with answering_for("cupy", TWINS, monkeypatch):
        yield found


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_answers_without_looking_at_the_numbers(row, paper):
    """No array has memory: to read one, or to compute anything but by these kernels, would be an error."""
    if "hx" in row.arrays:
        pytest.skip("the agnostic code around the scan computes with CuPy")
    drawn = {k: make(s, seeded(str(row))) for k, s in row.arrays.items()}
    arrays = {k: over(lambda a: fake(a.shape, "f4" if a.dtype.kind == "f" else a.dtype), a) for k, a in drawn.items()}
    y, cache = getattr(F, f"{row.name}_forward")(**arrays, **row.kwargs)
    assert paper.launches
    dy = over(lambda a: fake(a.shape), y)
    getattr(F, f"{row.name}_backward")(dy, cache)
    for *_, grid, block, _arguments in paper.launches:
        assert block[0] * block[1] <= 1024
        assert block[0] % 32 == 0
        assert 0 < grid[0] < 2**31
        assert 0 < grid[1] < 2**16


DECLINED = [
    ("softmax", [((3, 4), "f4"), 0], {}),
    ("softmax", [((3, 0), "f4"), 1], {}),
    ("softmax", [((3, 4), "i4"), 1], {}),
    ("log_softmax", [((), "f4"), -1], {}),
    ("layer_norm", [((3, 4), "f4"), (3,)], {}),
    ("layer_norm", [((3, 4), "f4"), (4,), ((4,), "f4"), ((4,), "f8")], {}),
    ("rms_norm", [((3, 4), "f4"), (4,), ((4,), "f2")], {}),
    ("batch_norm", [((30, 4), "f4"), None, None], {"training": True}),
    ("batch_norm", [((3, 4, 50), "f4"), None, None], {}),
    ("batch_norm", [((3, 4, 50), "f4"), None, None, ((5,), "f4")], {"training": True}),
    ("instance_norm", [((3, 4, 1), "f4")], {}),
    ("group_norm", [((3, 4, 5), "f4"), 3], {}),
    ("max_pool2d", [((3, 4), "f4"), 2], {"return_indices": True}),
    ("max_pool3d", [((3, 4), "f4"), 2], {}),
    ("avg_pool2d", [((3, 4), "f4"), 2], {"divisor_override": 0}),
    ("avg_pool1d", [((3, 4), "i4"), 2], {}),
    ("embedding", [((3,), "i8"), ((3, 4), "f4")], {"max_norm": 1.0}),
    ("embedding", [((3,), "i8"), ((3, 4), "f4")], {"scale_grad_by_freq": True}),
    ("embedding", [((3,), "i8"), ((3, 4), "f4"), 3], {}),
    ("embedding", [((3,), "u1"), ((3, 4), "f4")], {}),
    ("gru", [((5, 3, 4), "f4"), None, ()], {}),
    ("lstm", [((5, 3, 4), "f4"), None, ()], {"num_layers": 0, "lengths": (5, 5, 5)}),
    ("cross_entropy", [((3, 4), "f4"), ((3, 4), "f4")], {}),
    ("cross_entropy", [((3, 4, 5), "f4"), ((3, 5), "i8")], {}),
    ("cross_entropy", [((3, 4), "f4"), ((3,), "i8"), ((4,), "f8")], {}),
    ("cross_entropy", [((3, 4), "f4"), ((3,), "i2")], {}),
]


@pytest.mark.parametrize(("name", "arguments", "kwargs"), DECLINED)
def test_it_declines_what_it_does_not_claim(name, arguments, kwargs, paper):
    given = [fake(*a) if isinstance(a, tuple) and len(a) == 2 and isinstance(a[1], str) else a for a in arguments]
    assert TWINS[name].forward(*given, **kwargs) is NotImplemented
    assert not TWINS[name].supports(*given, **kwargs)
    assert not paper.launches


# -- NVRTC --

WEIGHTED = [launching.types(t, W=w) for t in FLOATS for w in {t, np.dtype(launching.accumulator(t))}]
PLAIN = [launching.types(t) for t in FLOATS]
LABELLED = [launching.types(t, I=np.dtype("int64")) for t in FLOATS] + [launching.types(FLOATS[0], I=np.dtype("int32"))]
FAMILIES = {
    "softmax": PLAIN,
    "trailing_norm": WEIGHTED,
    "sets_norm": WEIGHTED,
    "pooling": PLAIN,
    "recurrent": PLAIN,
    "embedding": LABELLED,
    "cross_entropy": LABELLED,
    "update": PLAIN[:2],
}


with_nvrtc = pytest.mark.skipif(bool(lacks_nvrtc()), reason=str(lacks_nvrtc()))


@with_nvrtc
@pytest.mark.parametrize("arch", ("sm_80", "sm_90"))
@pytest.mark.parametrize(("family", "types"), [(f, t) for f, many in FAMILIES.items() for t in many])
def test_it_compiles(family, types, arch):
    assert len(compile_for(arch, family, types)) > 1000


@with_nvrtc
def test_bfloat16_compiles_for_a_card_that_does_not_know_it():
    assert len(compile_for("sm_75", "softmax", PLAIN[-1])) > 1000


@with_nvrtc
@pytest.mark.parametrize("family", FAMILIES)
def test_floats_are_not_computed_in_double(family):
    """A stray constant or a wrong overload costs a card 64 times: doubles are read and rounded, and that is all."""
    text = str(compile_for("compute_80", family, FAMILIES[family][0]))
    assert ".visible .entry" in text
    assert not re.findall(r"\b(?:add|sub|mul|div|fma|rcp|sqrt|ex2|lg2)[.a-z]*\.f64", text)


def test_what_is_launched_is_compiled_above(host):
    assert {(family, types) for family, _, types in host.launched} <= {(f, t) for f, ts in FAMILIES.items() for t in ts}
