"""The fused kernels of CuPy without a card: fuse traces the dtypes that are expected, and the numbers are right.

`cupy.fuse` calls a function as it is where no array is CuPy's, so whole twins run on NumPy's arrays by the checks of
test_twins.py; and the C++ that fuse writes is compiled by a host's compiler and compared as well.
"""

import ctypes
import itertools
import shutil
import subprocess

import numpy as np
import pytest

import xplayers as xpl
import xplayers.functional as F
from tests.cards import answering_for, taken_out
from tests.cases import Function, rows
from tests.test_twins import (  # noqa: F401  (their tests are run here too)
    Bench,
    test_an_empty_batch,
    test_each_gradient_alone,
    test_float64_has_all_its_digits,
    test_it_answers_and_is_as_exact,
    test_layouts_do_not_matter,
    test_nan_and_infinities_stay_what_they_are,
)
from xplayers.kernels import registry

cupy = pytest.importorskip("cupy", reason="NOT RUN: CuPy is not installed")

from cupy._core import fusion  # noqa: E402
from cupy.cuda.memory import MemoryPointer, UnownedMemory  # noqa: E402

from xplayers.kernels.on_cupy import activation, dropout, fusing, products  # noqa: E402

TWINS, _ = taken_out("cupy")
ROWS = [row for row in rows("TWINS") if row.name in TWINS] + [
    Function("tanhshrink", {"x": (5, 7)}),
    Function("threshold", {"x": (5, 7)}, {"threshold": 0.3, "value": -2.0}),
    Function("hardshrink", {"x": (5, 7)}, {"lambd": 0.4}),
    Function("softshrink", {"x": (5, 7)}, {"lambd": 0.4}),
]
ACTIVATIONS = [row for row in ROWS if row.name in activation.NAMES]


@pytest.fixture
def on_host(monkeypatch):
    """The twins answer for arrays of NumPy."""
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
        benches[key] = Bench(request.param, "cupy")
    return benches[key]


def pytest_generate_tests(metafunc):
    if "bench" in metafunc.fixturenames:
        chosen = ACTIVATIONS if metafunc.function.__module__ == __name__ else ROWS
        metafunc.parametrize("bench", [pytest.param(r, id=str(r)) for r in chosen], indirect=True)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_halves_are_rounded_once(bench, half):
    """As near to the exact answer as rounding allows: the chain between is computed in float32."""
    pytest.importorskip("ml_dtypes")
    x = bench.arrays["x"].astype(half)
    y, cache = bench.forward(x, **bench.row.kwargs)
    dx = bench.backward(bench.dy.astype(half), cache)
    exact, kept = bench.forward.reference(x.astype("f8"), **bench.row.kwargs)
    slope = bench.backward.reference(bench.dy.astype(half).astype("f8"), kept)
    eps = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[half]
    floor = {"y": 0.1, "dx": 4.0 * np.abs(bench.dy) + 0.1}  # dx may come from the y that has been rounded
    for name, got, expected in (("y", y, exact), ("dx", dx, slope)):
        assert got.dtype.name == half
        error = np.abs(got.astype("f8") - expected)
        assert (error <= 1.1 * eps * np.maximum(np.abs(expected), floor[name])).all(), f"{name}: {error.max()}"


# -- what fuse traces, on arrays that point to nothing --


def fake(shape, dtype):
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = UnownedMemory(0x7F0000000000, nbytes, None, 0)
    return cupy.ndarray(shape, dtype, memptr=MemoryPointer(memory, 0))


def traced(function, *arrays):
    """The kernel that fuse makes of a function, which nothing launches."""
    history = fusion._FusionHistory()
    fusion._thread_local.history, fusion._thread_local.is_old_fusing = history, True
    try:
        return history.get_fusion(function, arrays, "traced")[0]
    finally:
        fusion._thread_local.history, fusion._thread_local.is_old_fusing = None, False


def both(row, dtype, shape=(4, 6)):
    """Forward and backward of a row as traced kernels, and the layout of the cache between them."""
    whole, back = (getattr(F, f"{row.name}_{half}").reference for half in ("forward", "backward"))
    x = fake(shape, dtype)
    made = fusing._Forward(whole, (), row.kwargs)
    first = traced(made.kernel.func, x)
    layout = tuple(part if type(part) is tuple else None for part in made.layout)
    arrays = [x for part in layout if part is None]
    return first, traced(fusing._backward(back, layout).func, x, *arrays), made.layout


def parameters(kernel):
    """Names and dtypes of what a kernel reads and of what it writes."""
    arrays = [p for p in kernel.params if p.dtype is not None]
    return [[(p.name, p.dtype) for p in arrays if p.is_const == const] for const in (True, False)]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("row", ACTIVATIONS, ids=str)
def test_one_kernel_of_one_dtype(row, dtype):
    for kernel in both(row, dtype)[:2]:
        reads, writes = parameters(kernel)
        assert {t.name for _, t in reads} == {dtype}
        assert {t.name for _, t in writes} == {dtype}, "a constant has widened the answer"


SHIM = """
#include <algorithm>
#include <cmath>
#include <type_traits>
using namespace std;
#define __device__ static inline
"""


def function_of(name, kernel):
    """A loop over flat arrays of float with a kernel's own text inside."""
    (reads, writes), text = parameters(kernel), kernel.preamble.replace('#include "cupy/float16.cuh"', "")
    given = ", ".join([*(f"const float* _{n}" for n, _ in reads), *(f"float* _{n}" for n, _ in writes), "long size"])
    first = " ".join(
        [*(f"const float {n} = _{n}[i];" for n, _ in reads), *(f"float& {n} = _{n}[i];" for n, _ in writes)]
    )
    loop = f"for (long i = 0; i < size; i++) {{ {first} {kernel.operation}; }}"
    return f'namespace {name} {{ {text} }}\nextern "C" void run_{name}({given}) {{ using namespace {name}; {loop} }}\n'


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The forwards and backwards of all rows in one library."""
    if not shutil.which("g++"):
        pytest.skip("NOT RUN: g++ is not installed")
    made = {str(row): both(row, "float32") for row in ACTIVATIONS}
    place = tmp_path_factory.mktemp("fused")
    text = SHIM + "".join(function_of(f"k{i}_{j}", m[j]) for i, m in enumerate(made.values()) for j in range(2))
    (place / "fused.cpp").write_text(text)
    command = ["g++", "-O1", "-shared", "-fPIC", "-w", "-o", str(place / "fused.so"), str(place / "fused.cpp")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(place / "fused.so")), {name: (i, m[2]) for i, (name, m) in enumerate(made.items())}, made


def run(library, name, kernel, *arrays):
    outputs = [np.empty_like(arrays[0]) for _ in parameters(kernel)[1]]
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, *outputs)]
    getattr(library, f"run_{name}")(*pointers, ctypes.c_long(arrays[0].size))
    return outputs


@pytest.mark.parametrize("row", ACTIVATIONS, ids=str)
def test_what_fuse_writes_computes_the_same(row, compiled):
    library, places, made = compiled
    (i, layout), (first, second, _) = places[str(row)], made[str(row)]
    x = np.concatenate([np.linspace(-9, 9, 181), [0.0, -0.0, 60, -60, 1e4, -1e4, np.inf, -np.inf, np.nan]])
    x, dy = x.astype(np.float32), np.linspace(-1, 2, 190).astype(np.float32)
    outputs = run(library, f"k{i}_0", first, x)
    kept = {"x": x, "y": outputs[0]}
    arrays = [outputs[p] if type(p) is int else kept[p] for p in layout if type(p) is not tuple]
    (dx,) = run(library, f"k{i}_1", second, dy, *arrays)
    whole, back = (getattr(F, f"{row.name}_{half}").reference for half in ("forward", "backward"))
    with np.errstate(all="ignore"):
        y, cache = whole(x, **row.kwargs)
        expected = back(dy, cache)
    np.testing.assert_allclose(outputs[0], y, rtol=2e-6, atol=1e-6)  # 1/2 + tanh/2 cancels in GELU
    np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-6)


def test_every_activation_has_rows():
    assert set(activation.NAMES) <= {row.name for row in ROWS}


# -- products --


class HostBLAS:
    """cuBLAS' strided batch on NumPy's arrays: matrices by columns, from the first number of each array."""

    xp = np

    def __init__(self):
        self.batches = []

    def run(self, batch, b, a, c, compute):
        self.batches.append((batch, compute))
        n, m, k = batch.sizes
        shapes = ((n, k), (k, m), (n, m))
        held = []
        ways = zip((b, a, c), shapes, (*batch.transposes, 0), batch.leads, batch.steps, strict=True)
        for x, (down, across), transposed, lead, step in ways:
            assert lead >= max(1, across if transposed else down), "a column does not fit between two columns"
            strides = (step, lead, 1) if transposed else (step, 1, lead)
            strides = tuple(s * x.itemsize for s in strides)
            held.append(np.lib.stride_tricks.as_strided(x, (batch.matrices, down, across), strides))
        wide = np.float64 if compute == products._IN_DOUBLE else np.float32
        held[2][...] = (held[0].astype(wide) @ held[1].astype(wide)).astype(c.dtype)


@pytest.fixture
def blas(monkeypatch):
    monkeypatch.setattr(products, "cublas", HostBLAS())
    return products.cublas


def _stacks():
    """Pairs of operands in every way that they may lie."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    heads = draw(2, 5, 3, 4).swapaxes(1, 2)  # (N, H, L, E) of (N, L, H, E)
    lefts = {
        "plain": draw(2, 3, 5, 4),
        "transposed": draw(2, 3, 4, 5).swapaxes(-1, -2),
        "heads": heads,
        "one for all": draw(5, 4),
        "broadcast": draw(2, 1, 5, 4),
        "broadcast outside": draw(3, 5, 4),
        "cut": draw(2, 3, 9, 7)[..., 2:7, 1:5],
        "every other": draw(2, 3, 5, 8)[..., ::2],
        "backwards": draw(2, 3, 5, 4)[..., ::-1, :],
        "one row": draw(2, 3, 1, 4),
        "strided row": draw(2, 3, 4, 6)[..., :1].swapaxes(-1, -2),
    }
    rights = {
        "plain": draw(2, 3, 4, 6),
        "transposed": draw(2, 3, 6, 4).swapaxes(-1, -2),
        "one for all": draw(1, 1, 4, 6),
        "one column": draw(2, 3, 4, 1),
        "strided column": draw(2, 3, 4, 8)[..., 2:3],
    }
    return [pytest.param(a, b, id=f"{p}-{q}") for (p, a), (q, b) in itertools.product(lefts.items(), rights.items())]


@pytest.mark.parametrize(("a", "b"), _stacks())
def test_stacks_are_multiplied_as_they_lie(a, b, blas):
    y = products.matmul(a, b)
    expected = np.matmul(a, b)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_operands_that_lie_well_are_not_copied():
    a, b = np.ones((2, 3, 5, 4), np.float32), np.ones((2, 3, 6, 4), np.float32).swapaxes(-1, -2)
    batch, got_b, got_a = products.plan(a, b, np)
    assert np.shares_memory(a, got_a)
    assert np.shares_memory(b, got_b)
    assert batch == products.Batch((1, 0), (6, 5, 4), (4, 4, 6), (24, 20, 30), 6)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("precision", ["exact", "torch", "fast"])
def test_the_precision_of_products(dtype, precision, blas):
    pytest.importorskip("ml_dtypes")
    a = np.ones((2, 3, 4), dtype)
    with xpl.use_kernels(precision=precision):
        y = products.matmul(a, a.swapaxes(1, 2))
    assert y.dtype == dtype
    assert (y == 4).all()
    expected = {"float64": 70, "float32": 77 if precision == "fast" else 68}.get(dtype, 68)
    assert [compute for _, compute in blas.batches] == [expected]
    with xpl.use_kernels(precision=precision):
        flat = products.matmul(a[0], a[1].T)
    assert (flat is NotImplemented) == (precision != "fast")
    if precision == "fast":
        assert (flat == 4).all()


@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((2, 3, 4), (4,)), ((2, 0, 4), (4, 5))])
def test_products_that_are_the_librarys(shapes, blas):
    assert products.matmul(*(np.ones(s, np.float32) for s in shapes)) is NotImplemented


def test_attention_goes_by_it(blas, monkeypatch):
    product = registry._Product("cupy:matmul", "cupy", products.matmul, "")
    monkeypatch.setitem(registry._state.products, "numpy", product)
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    y, cache = F.scaled_dot_product_attention_forward(x, x, x, is_causal=True)
    grads = F.scaled_dot_product_attention_backward(x, cache)
    assert product.answered == 6
    with xpl.use_kernels("off"):
        expected, cache = F.scaled_dot_product_attention_forward(x, x, x, is_causal=True)
        others = F.scaled_dot_product_attention_backward(x, cache)
    assert product.answered == 6
    for a, b in zip((y, *grads[:3]), (expected, *others[:3]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_fake_arrays_reach_it(monkeypatch):
    seen = []

    class Recording(HostBLAS):
        xp = cupy

        def run(self, batch, b, a, c, compute):
            seen.append((batch, a.dtype.name, c.shape))

    monkeypatch.setattr(products, "cublas", Recording())
    monkeypatch.setattr(cupy, "empty", lambda shape, dtype: fake(shape, dtype))
    q = fake((2, 5, 3, 8), "float16").swapaxes(1, 2)[:1]
    products.matmul(q, fake((1, 3, 7, 8), "float16").swapaxes(-1, -2))
    ((batch, dtype, shape),) = seen
    assert (dtype, shape) == ("float16", (1, 3, 5, 7))
    assert batch.leads == (8, 24, 7)  # heads of one sequence are read where they lie
    assert batch.steps == (56, 8, 35)


# -- dropout --


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(7, 11), (70001,), ()])
def test_dropout_draws_what_the_agnostic_code_draws(dtype, shape):
    pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    key, reference = (xpl.random.Key(2**40 + 9, counter=3) for _ in range(2))
    for p in (0.1, 0.6):
        with np.errstate(over="ignore"):
            y, (mask, a) = TWINS["dropout"].forward(x, p, rng=key)
            dx = TWINS["dropout"].backward(x, (mask, a))
            expected, cache = F.dropout_forward.reference(x.astype("f8"), p, rng=reference)
        np.testing.assert_array_equal(mask, cache[0])
        assert y.dtype == dx.dtype == dtype
        eps = {"bfloat16": 2.0**-8, "float16": 2.0**-11}.get(dtype, 1e-6)
        np.testing.assert_allclose(y.astype("f8"), expected, rtol=eps, atol=2.0**-24)
        np.testing.assert_array_equal(dx, y)
    assert key.counter == reference.counter == 5


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dropout_is_one_kernel_of_one_dtype(dtype):
    x, index, mask = fake((4, 6), dtype), fake((4, 6), "int32"), fake((4, 6), "bool")
    kernel = traced(dropout._draw, x, index, 12, 0.5, 2.0, *xpl.random.Key(1).words())
    _, ((_, of_y), (_, of_mask)) = parameters(kernel)
    assert (of_y, of_mask) == (np.dtype(dtype), np.dtype(bool))
    wide = [line for line in kernel.operation.splitlines() if line.startswith("long long ")]
    assert all("bool" in line for line in wide), "the cipher's words have been widened"  # not only compared
    _, ((_, of_dx),) = parameters(traced(dropout._multiply, x, mask, 2.0))
    assert of_dx == np.dtype(dtype)
