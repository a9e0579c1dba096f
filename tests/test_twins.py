"""Every kernel against its reference: the rows TWINS of the tables of cases, on every means that is registered.

A row is a `Function` of a size and with arguments that the kernels claim. Each means is asked alone, must answer, and
is compared with the agnostic function: no more than twice the error of the direct computation in float32, whatever the
layout of the arrays and the size of blocks; NaN and infinities where the reference has them; the same bits for any
number of threads. A row's `skip` maps a means to the reason why it does not claim the row, or one of the checks below
to why it does not hold.
"""

import sys

import numpy as np
import pytest

import xplayers as xpl
import xplayers.functional as F
from tests.cases import Function, make, rows, seeded
from tests.oracle import flat
from xplayers.kernels import registry
from xplayers.kernels.threads import one_blas_thread

registry.load("numpy")
ROWS = rows("TWINS")
FACTOR = 2.0  # of the error of the direct computation that a kernel's may reach
FLOOR = 8 * 2.0**-23  # of the largest magnitude: where the direct computation happens to be exact


def twins_of(name):
    return registry._state.twins.get(("numpy", getattr(F, f"{name}_forward")), ())


PAIRS = [
    pytest.param(row, twin.means, id=f"{twin.means}-{row}")
    for row in ROWS
    for twin in twins_of(row.name)
    if twin.means not in row.skip
]
EVERY_MEANS = {twin.means for held in registry._state.twins.values() for twin in held}


def over(f, tree):
    """f of every array of a nest of tuples."""
    if isinstance(tree, tuple):
        return tuple(over(f, t) for t in tree)
    return tree if tree is None else f(tree)


class Bench:
    """A row on one means: the same call in any dtype and layout, with the means or without."""

    def __init__(self, row: Function, means: str) -> None:
        self.row, self.means = row, means
        self.held: dict[str, list] = {}
        self.forward, self.backward = (getattr(F, f"{row.name}_{half}") for half in ("forward", "backward"))
        rng = seeded(str(row))
        self.arrays = {
            k: over(lambda a: a.astype("f4").astype("f8") if a.dtype.kind == "f" else a, make(s, rng))
            for k, s in row.arrays.items()
        }
        y, _ = self.forward(**self.cast("float32"), **row.kwargs)
        draw = lambda a: rng.standard_normal(np.shape(a)).astype("f4").astype("f8") if a.dtype.kind == "f" else None  # noqa: E731
        self.dy = over(draw, y)
        self.outputs = sum(a is not None for a in flat(y))

    def cast(self, dtype, change=None, arrays=None):
        """Fresh arrays: floats of `dtype`, changed by `change`."""
        fresh = lambda a: np.array(a, dtype if a.dtype.kind == "f" else a.dtype)  # noqa: E731
        done = fresh if change is None else lambda a: change(fresh(a))
        return {k: over(done, a) for k, a in (arrays or self.arrays).items()}

    def run(self, dtype="float32", change=None, arrays=None, dy=None, **wanted):
        """Output and gradients, a flat list."""
        given = self.cast(dtype, change, arrays)
        before = [None if a is None else a.copy() for a in flat(given)]
        y, cache = self.forward(**given, **self.row.kwargs)
        out = [np.array(a) for a in flat(y) if a is not None]
        some = [d for d in flat(self.dy if dy is None else dy) if d is not None]
        if some:
            dy = self.cast(dtype, change, {"dy": self.dy if dy is None else dy})["dy"]
            d = self.backward(dy, cache, **wanted)
            again = self.backward(dy, cache, **wanted)
            for a, b in zip(flat(d), flat(again), strict=True):
                assert a is None or np.array_equal(a, b, equal_nan=True), "a second backward gives something else"
            out += flat(d)
        for a, b in zip(flat(given), before, strict=True):
            assert b is None or np.array_equal(a, b, equal_nan=b.dtype.kind == "f"), "an argument was written to"
        return out

    def alone(self):
        """The context in which this means is asked alone, and every size is worth it."""
        return xpl.use_kernels("require", without=tuple(EVERY_MEANS - {self.means}))

    def reference(self, dtype="float32", **given):
        """What the agnostic code gives; without further arguments computed once."""
        if given:
            return self._reference(dtype, **given)
        if dtype not in self.held:
            self.held[dtype] = self._reference(dtype)
        return self.held[dtype]

    def _reference(self, dtype, **given):
        with xpl.use_kernels("off"), np.errstate(all="ignore"):
            return self.run(dtype, **given)

    def kernel(self, dtype="float32", **given):
        with self.alone(), np.errstate(all="ignore"):
            return self.run(dtype, **given)

    def close(self, got, direct, exact, what):
        """`got` is as near to the exact numbers as `direct` is, within FACTOR."""
        assert len(got) == len(direct)
        for i, (g, d, e) in enumerate(zip(got, direct, exact, strict=True)):
            assert (g is None) == (d is None), f"{what}: part {i}"
            if g is None:
                continue
            assert g.dtype == d.dtype, f"{what}: part {i} is {g.dtype}, the reference's is {d.dtype}"
            assert g.shape == d.shape, f"{what}: part {i} has shape {g.shape}, the reference's {d.shape}"
            if g.dtype.kind != "f":
                assert np.array_equal(g, d), f"{what}: part {i}"
                continue
            finite = np.isfinite(d)
            assert np.array_equal(g[~finite], d[~finite], equal_nan=True), f"{what}: NaN or inf of part {i}"
            assert np.isfinite(g[finite]).all(), f"{what}: NaN or inf in part {i} where the reference has none"
            if not finite.any():
                continue
            g, d, e = (np.asarray(a, np.float64)[finite] for a in (g, d, e))
            allowed = FACTOR * np.abs(d - e).max() + FLOOR * np.abs(e).max() * self.row.tolerance
            error = np.abs(g - e).max()
            assert error <= allowed, f"{what}: part {i} is off by {error:.3g}, allowed are {allowed:.3g}"


@pytest.fixture(scope="module")
def bench(request):
    return Bench(*request.param)


def pytest_generate_tests(metafunc):
    if "bench" in metafunc.fixturenames:  # by module, so that all tests of one stand together
        means = getattr(metafunc.function, "means", None)
        given = [pytest.param(p.values, id=p.id) for p in PAIRS if means in (None, p.values[1])]
        metafunc.parametrize("bench", given, indirect=True, scope="module")


def skip_if_excepted(bench, check):
    if check in bench.row.skip:
        pytest.skip(bench.row.skip[check])


def test_it_answers_and_is_as_exact(bench):
    twin = next(t for t in twins_of(bench.row.name) if t.means == bench.means)
    before = twin.answered
    got = bench.kernel()
    assert twin.answered > before, f"the kernel has not been called: {twin.name}"
    bench.close(got, bench.reference(), bench.reference("float64"), "float32")


def test_float64_has_all_its_digits(bench):
    got, expected = bench.kernel("float64"), bench.reference("float64")
    for i, (g, e) in enumerate(zip(got, expected, strict=True)):
        assert (g is None) == (e is None)
        if g is not None and g.dtype.kind == "f":
            assert g.dtype == np.float64, f"part {i} is {g.dtype}"
            finite = np.isfinite(e)
            assert np.array_equal(g[~finite], e[~finite], equal_nan=True)
            if finite.any():
                error = np.abs(g[finite] - e[finite]).max()
                assert error <= 64 * 2.0**-52 * max(1.0, np.abs(e[finite]).max()) * bench.row.tolerance, f"part {i}"


def unaligned(a):
    held = np.frombuffer(bytearray(a.nbytes + 1), dtype=np.uint8)[1:].view()
    out = held[: a.nbytes].view(a.dtype).reshape(a.shape) if a.size else a
    if a.size:
        out[...] = a
    return out


def frozen(a):
    a.flags.writeable = False
    return a


LAYOUTS = {
    "every other": lambda a: np.stack([a, a], axis=-1)[..., 0],
    "fortran": lambda a: np.asfortranarray(a) if a.ndim else a,
    "back to front": lambda a: a[::-1].copy()[::-1] if a.ndim else a,
    "unaligned": unaligned,
    "read-only": frozen,
    "far apart": lambda a: np.repeat(a, 33, axis=0)[::33] if a.ndim else a,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(bench, layout):
    got = bench.kernel(change=LAYOUTS[layout])
    bench.close(got, bench.reference(), bench.reference("float64"), layout)


# The constants of kernels that say how much is done at a time, and from where on in parts.
SIZES = {
    **dict.fromkeys(("_BLOCK", "_BLOCK_OF_FOUR", "_FLAT", "_NUMBERS", "_PART", "_SPARED"), 600),
    "_BYTES": 20_000,
    **dict.fromkeys(("_ALONE", "WORTH_THREADS", "OF_EXPONENTIALS"), 1),
    "_WORTH_THREADS": 1,
}


def test_small_blocks_do_not_matter(bench, monkeypatch, use_threads):
    for name, module in list(sys.modules.items()):
        if name.startswith("xplayers.kernels.") and not name.startswith("xplayers.kernels.on_cu"):
            for constant in SIZES.keys() & vars(module).keys():
                small = SIZES[constant]
                held = getattr(module, constant)
                monkeypatch.setattr(module, constant, dict.fromkeys(held, small) if isinstance(held, dict) else small)
    use_threads(2)  # some shares are as many as the threads
    bench.close(bench.kernel(), bench.reference(), bench.reference("float64"), "small blocks")


test_small_blocks_do_not_matter.means = "numpy"


def test_nan_and_infinities_stay_what_they_are(bench):
    skip_if_excepted(bench, "nonfinite")
    rng = seeded("nonfinite" + str(bench.row))
    name = next(iter(bench.arrays))
    arrays = dict(bench.arrays)
    x = np.array(arrays[name])
    if x.dtype.kind != "f" or not x.size:
        pytest.skip("no floats to replace")
    places = rng.choice(x.size, min(x.size, 6), replace=False)
    x.reshape(-1)[places] = np.resize([np.nan, np.inf, -np.inf], len(places))
    arrays[name] = x
    direct = bench.reference(arrays=arrays)
    bench.close(bench.kernel(arrays=arrays), direct, bench.reference("float64", arrays=arrays), "NaN and inf")


def test_each_gradient_alone(bench):
    whole = bench.kernel()
    y = bench.outputs
    count = len(whole) - y
    if count < 2 or any(isinstance(a, tuple) for a in bench.arrays.values()):
        return
    for i in range(count):
        only = bench.kernel(wanted=tuple(j == i for j in range(count)))[y:]
        for j, part in enumerate(only):
            if j != i:
                assert part is None, f"unwanted gradient {j} was computed"
            elif part is not None:
                np.testing.assert_allclose(part, whole[y + i], rtol=1e-4, atol=1e-4 * np.abs(part).max(initial=1e-9))


def test_an_empty_batch(bench):
    skip_if_excepted(bench, "empty")
    n = next(a.shape[0] for a in flat(tuple(bench.arrays.values())) if a is not None and a.ndim)
    cut = lambda a: a[:0] if a.ndim and a.shape[0] == n else a  # noqa: E731
    arrays = {k: over(cut, a) for k, a in bench.arrays.items()}
    dy = over(cut, bench.dy)
    try:
        expected = bench.reference(arrays=arrays, dy=dy)
    except (ValueError, TypeError, IndexError):
        return  # refused, or not cut along a batch
    got = bench.kernel(arrays=arrays, dy=dy)
    bench.close(got, expected, expected, "empty batch")


def test_the_number_of_threads_does_not_matter(bench, use_threads):
    """Of ours: BLAS, which rounds in another way on each number of its own, is held to one throughout."""
    found = []
    with one_blas_thread():
        for n in (1, 2, 3):
            use_threads(n)
            found.append(bench.kernel())
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a is None or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def test_every_kernel_has_rows():
    covered = {(p.values[0].name, p.values[1]) for p in PAIRS}
    for (library, reference), twins in registry._state.twins.items():
        for twin in twins if library == "numpy" else ():
            name = reference.__name__.removesuffix("_forward")
            assert (name, twin.means) in covered, f"no row in TWINS for {twin.name}"
            assert twin.rule, f"{twin.name} does not say when it answers"


def test_rows_have_names_of_their_own():
    names = [str(r) for r in ROWS]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
