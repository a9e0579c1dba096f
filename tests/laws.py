"""The laws that every layer obeys, each a function of a bench: one row of the table on one backend.

A law returns its errors as shares of their tolerance and raises AssertionError, naming what differs.
"""

import contextlib
import copy
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch

import xplayers as xpl
from tests.backends import Backend
from tests.cases import Case, in_spread, make, seeded
from tests.oracle import Answer, Drawn, draw_state, flat, rounded, run_module, share_of_tolerance
from xplayers.arrays import array_namespace, size

LAWS: dict[str, Callable[["Bench"], None]] = {}

WITH_KERNELS = ("numpy", "cupy")  # the libraries that have kernels


def law(f: Callable[["Bench"], None]) -> Callable[["Bench"], None]:
    LAWS[f.__name__] = f
    return f


@functools.lru_cache(maxsize=512)
def _drawn(case: "Frozen", dtype: str) -> Drawn:
    rng = seeded(str(case.case))
    xpl.manual_seed(0)  # the spread of the initial values is the scale of the drawn ones: the same in every process
    state = draw_state({k: np.asarray(v) for k, v in case.case_layer().state_dict().items()}, rng)
    inputs = tuple(make(s, rng) for s in case.case.inputs)
    arrays = {k: make(s, rng) for k, s in case.case.arrays.items()}
    return Drawn(rounded(state, dtype), rounded(inputs, dtype), rounded(arrays, dtype))


@functools.lru_cache(maxsize=512)
def _judged(case: "Frozen", dtype: str, training: bool, device: str) -> Answer:
    return run_module(case.case, _drawn(case, dtype), training, device)


class Frozen:
    """A case as a key of a cache: cases hold dictionaries, so they are told apart by their text."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def __hash__(self) -> int:
        return hash(str(self.case))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and str(self.case) == str(other.case)

    def case_layer(self) -> xpl.Layer:
        build = self.case.build or getattr(xpl, self.case.layer)
        return build(*self.case.args, **self.case.kwargs)


class Bench:
    """A case on a backend in one dtype: fresh layers and arrays, and comparisons that are asserted and counted."""

    def __init__(self, case: Case, backend: Backend, dtype: str = "float64") -> None:
        self.case, self.backend, self.dtype = case, backend, dtype
        self.key = Frozen(case)
        self.drawn = _drawn(self.key, dtype)
        self.worst = 0.0
        self.checks = 0

    # -- making --

    def layer(self, training: bool = True) -> xpl.Layer:
        layer = self.key.case_layer()
        if layer._settled:  # built from arrays
            layer.to(like=self.backend.asarray(0.0, self.dtype))
        if self.drawn.state:
            layer.load_state_dict(self.backend.tree(self.drawn.state, self.dtype))
        return layer.train(training)

    def inputs(self, drawn: Drawn | None = None) -> tuple:
        return self.backend.tree((drawn or self.drawn).inputs, self.dtype)

    def arrays(self) -> dict:
        return {**self.case.call, **self.backend.tree(self.drawn.arrays, self.dtype)}

    def upstream(self, answer: Answer) -> Any:
        return self.backend.tree(answer.dy, self.dtype)

    @property
    def devices(self) -> tuple[str, ...]:
        """Where torch judges: on the matching device, for CuPy on the CPU as well."""
        if self.backend.name not in ("cupy", "torch-cuda") or not torch.cuda.is_available():
            return ("cpu",)
        return ("cuda:0", "cpu") if self.backend.name == "cupy" else ("cuda:0",)

    def judged(self, training: bool, device: str | None = None) -> Answer:
        return _judged(self.key, self.dtype, training, device or self.devices[0])

    def targets(self, layer: xpl.Layer) -> set[int]:
        """The positions of the inputs that have no gradient in a layer's backward: a loss's targets."""
        if not layer.is_loss:
            return set()
        names = list(inspect.signature(type(layer).forward).parameters)[1:]
        return {i for i, n in enumerate(names) if n == "target"}

    def expected_inputs(self, layer: xpl.Layer, answer: Answer) -> list:
        """torch's gradients in the order of what our backward returns."""
        skip = self.targets(layer)
        kept, start = [], 0
        for i, tree in enumerate(self.drawn.inputs):
            n = len(flat(tree))
            if i not in skip:
                kept += answer.inputs[start : start + n]
            start += n
        return [g for g in kept if g is not None]

    # -- comparing --

    def close(self, got: Any, expected: Any, what: str) -> None:
        """One array of ours against torch's: at home, of the right dtype and shape, and equal to rounding."""
        away = self.backend.at_home(got)
        assert away is None, f"{what} {away}"
        host = self.backend.numpy(got)
        if expected.dtype.kind == "f":
            assert str(host.dtype) == self.dtype, f"{what}: dtype {host.dtype}, expected {self.dtype}"
        share = share_of_tolerance(host, np.asarray(expected), self.dtype, self.case.tolerance)
        self.checks += 1
        self.worst = max(self.worst, share)
        assert share <= 1, f"{what}: shape {host.shape} against {expected.shape}, error {share:.3g} of its tolerance"

    def close_trees(self, got: Any, expected: Any, what: str) -> None:
        gots, wants = flat(got), flat(expected)
        assert len(gots) == len(wants), f"{what}: {len(gots)} parts, expected {len(wants)}"
        for i, (g, w) in enumerate(zip(gots, wants, strict=True)):
            if w is None:
                assert g is None, f"{what}[{i}]: expected None"
            else:
                assert g is not None, f"{what}[{i}]: None"
                self.close(g, w, f"{what}[{i}]" if len(wants) > 1 else what)

    def close_gradients(self, layer: xpl.Layer, dx: Any, answer: Answer) -> None:
        got = [g for g in flat(dx) if g is not None]
        wants = self.expected_inputs(layer, answer)
        assert len(got) == len(wants), f"backward returned {len(got)} gradients, expected {len(wants)}"
        for i, (g, w) in enumerate(zip(got, wants, strict=True)):
            self.close(g, w, f"gradient of input {i}")
        for name, w in answer.parameters.items():
            if name in layer.grads:
                self.close(layer.grads[name], w, f"gradient of {name}")
            else:
                assert not np.any(w), f"no gradient of {name}"
        assert set(layer.grads) <= set(answer.parameters), f"gradients of {set(layer.grads) - set(answer.parameters)}"


def same(a: Any, b: Any, bench: Bench, what: str) -> None:
    """Two results of ours, to rounding."""
    bench.close_trees(a, tuple(None if v is None else bench.backend.numpy(v) for v in flat(b)), what)


def snapshot(tree: Any, bench: Bench) -> list:
    return [None if v is None else bench.backend.numpy(v).copy() for v in flat(tree) if not isinstance(v, int | str)]


def leaves_equal(before: list, after: list) -> bool:
    return all(
        (a is None and b is None) or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(before, after, strict=True)
    )


# -- the laws --


def _agrees(bench: Bench) -> None:
    for training, device in itertools.product((True, False), bench.devices):
        answer = bench.judged(training, device)
        layer = bench.layer(training)
        tape = xpl.Tape()
        y = layer(*bench.inputs(), tape=tape, **bench.arrays())
        bench.close_trees(y, answer.y, f"output, training={training}")
        if any(d is not None for d in flat(answer.dy)):
            dx = layer.backward(bench.upstream(answer), tape=tape)
            bench.close_gradients(layer, dx, answer)
            assert len(tape) == 0, f"{len(tape)} records left on the tape"
        names = set(layer.state_dict()) - set(layer.params)
        assert names == {k for k in answer.buffers if k in names}, f"buffers {names}"
        for name in names:
            bench.close(layer.state_dict()[name], answer.buffers[name], f"buffer {name}, training={training}")


@law
def agrees_in_float64(bench: Bench) -> None:
    """Outputs, gradients of inputs and parameters, and buffers are torch's, in training and in evaluation."""
    _agrees(bench)


def _in(bench: Bench, dtype: str) -> None:
    other = Bench(bench.case, bench.backend, dtype)
    _agrees(other)
    bench.worst, bench.checks = max(bench.worst, other.worst), bench.checks + other.checks


@law
def agrees_in_float32(bench: Bench) -> None:
    """The same in float32, from the same rounded numbers."""
    _in(bench, "float32")


@law
def agrees_in_float16(bench: Bench) -> None:
    """The same in float16."""
    _in(bench, "float16")


@law
def agrees_in_bfloat16(bench: Bench) -> None:
    """The same in bfloat16, on the libraries that have it."""
    if hasattr(bench.backend.xp, "bfloat16"):
        _in(bench, "bfloat16")


@law
def agrees_without_kernels(bench: Bench) -> None:
    """The agnostic code alone, where kernels have answered in the laws above."""
    if bench.backend.name in WITH_KERNELS:
        with xpl.use_kernels("off"):
            _agrees(bench)
            _in(bench, "float32")


@law
def agrees_with_kernels_required(bench: Bench) -> None:
    """Kernels alone wherever they claim the call, however small it is."""
    if bench.backend.name in WITH_KERNELS:
        with xpl.use_kernels("require"):
            _agrees(bench)
            _in(bench, "float32")
            _in(bench, "float16")


@law
def derivative_along_a_direction(bench: Bench) -> None:
    """<w, f(p + hv) - f(p - hv)> / 2h is <gradient, v> for random w and v over all inputs and parameters."""
    layer, answer = bench.layer(), bench.judged(True)
    if not any(d is not None for d in flat(answer.dy)):
        return
    rng = seeded("direction" + str(bench.case))
    skip = bench.targets(layer)
    direction = lambda a: rng.standard_normal(a.shape) if a is not None and a.dtype.kind == "f" else None  # noqa: E731
    inputs = bench.drawn.inputs
    along = tuple(_map(direction, t) if i not in skip else _map(lambda a: None, t) for i, t in enumerate(inputs))
    state_along = {k: direction(v) if k in layer.params else None for k, v in bench.drawn.state.items()}

    def value(step: float) -> float:
        moved = _add(inputs, along, step)
        other = bench.layer()
        if bench.drawn.state:
            state = {
                k: v if state_along[k] is None else v + step * state_along[k] for k, v in bench.drawn.state.items()
            }
            other.load_state_dict(bench.backend.tree(state))
        y = other.forward(*bench.backend.tree(moved), tape=None, **bench.arrays())
        pairs = zip(flat(y), flat(answer.dy), strict=True)
        return sum(float(np.sum(bench.backend.numpy(a) * d)) for a, d in pairs if d is not None)

    h = 1e-5
    numeric = (value(h) - value(-h)) / (2 * h)
    tape = xpl.Tape()
    layer(*bench.inputs(), tape=tape, **bench.arrays())
    dx = [g for g in flat(layer.backward(bench.upstream(answer), tape=tape)) if g is not None]
    moved = [v for v in flat(along) if v is not None]
    assert len(dx) == len(moved), f"{len(dx)} gradients for {len(moved)} inputs"
    terms = [float(np.sum(bench.backend.numpy(g) * v)) for g, v in zip(dx, moved, strict=True)]
    terms += [float(np.sum(bench.backend.numpy(g) * state_along[k])) for k, g in layer.grads.items()]
    scale = max(1.0, abs(numeric), *map(abs, terms)) if terms else 1.0
    bench.checks += 1
    error = abs(sum(terms) - numeric) / scale
    assert error < 1e-6, f"along a direction {sum(terms)}, by differences {numeric}"


@law
def calls_are_independent(bench: Bench) -> None:
    """Two passes in flight, undone in either order, give what each gives alone, and the gradients add up."""
    answer = bench.judged(True)
    if not any(d is not None for d in flat(answer.dy)):
        return
    arrays = bench.arrays()
    other = Drawn({}, _map_tree(lambda a: a * 0.5 if a.dtype.kind == "f" else a, bench.drawn.inputs), {})
    dy = bench.upstream(answer)
    alone, sums = [], {}
    for inputs in (bench.inputs(), bench.inputs(other)):
        layer = bench.layer()
        y = layer(*inputs, **arrays)
        alone.append((y, layer.backward(dy)))
        for k, g in layer.grads.items():
            sums[k] = bench.backend.numpy(g) + sums.get(k, 0.0)
    layer = bench.layer()
    for order in ((0, 1), (1, 0)):
        layer.zero_grad()
        layer.load_state_dict(bench.backend.tree(bench.drawn.state, bench.dtype))
        tapes = [xpl.Tape(), xpl.Tape()]
        ys = [layer(*i, tape=t, **arrays) for i, t in zip((bench.inputs(), bench.inputs(other)), tapes, strict=True)]
        dxs = {i: layer.backward(dy, tape=tapes[i]) for i in order}
        for i in order:
            if not layer.state_dict().keys() - layer.params.keys():  # buffers move between the passes
                same(ys[i], alone[i][0], bench, f"output of pass {i}")
            same(dxs[i], alone[i][1], bench, f"gradient of pass {i}")
        assert layer.grads.keys() == sums.keys()
        for k, g in layer.grads.items():
            bench.close(g, np.asarray(sums[k]), f"sum of the gradients of {k}")


@law
def inference_keeps_nothing(bench: Bench) -> None:
    """Without a tape the answer is the same and the layer holds no more than before; a second backward is refused."""
    arrays = bench.arrays()
    layer = bench.layer(False)
    held = {k for k in layer.__dict__ if k not in ("_place", "_own")}
    y = layer(*bench.inputs(), **arrays)
    answer = bench.judged(False)
    bench.close_trees(y, answer.y, "output in evaluation")
    again = layer(*bench.inputs(), **arrays)
    same(again, y, bench, "second call in evaluation")
    more = {k for k in layer.__dict__ if k not in ("_place", "_own")} - held
    assert not more, f"the layer holds {more} after calls without a tape"
    assert not vars(layer._own), "a call in evaluation left something on the layer's own tape"
    training = bench.layer()
    training.forward(*bench.inputs(), tape=None, **arrays)
    assert not vars(training._own), "forward without a tape left something behind"
    try:
        training.backward(None if training.is_loss else bench.upstream(bench.judged(True)))
    except ValueError as e:
        assert "nothing recorded" in str(e), e
    else:
        raise AssertionError("a backward without a forward was not refused")


@law
def nothing_is_written_to(bench: Bench) -> None:
    """Inputs, upstream gradients, parameters and the caches are the same, bit for bit, after both passes."""
    layer, inputs, arrays = bench.layer(), bench.inputs(), bench.arrays()
    tape = xpl.Tape()
    before = snapshot(inputs, bench), snapshot(list(layer.state_dict().values()), bench)
    buffers = layer.state_dict().keys() - layer.params.keys()
    layer(*inputs, tape=tape, **arrays)
    answer = bench.judged(True)
    kept = tape.copy()
    if any(d is not None for d in flat(answer.dy)):
        dy = bench.upstream(answer)
        dys = snapshot(dy, bench)
        first = layer.backward(dy, tape=tape)
        assert leaves_equal(dys, snapshot(dy, bench)), "dy was written to"
        results = snapshot(first, bench)
        again = layer.backward(dy, tape=kept)  # the caches survive their first use
        same(again, first, bench, "a second backward from the same caches")
        assert leaves_equal(results, snapshot(first, bench)), "the first gradient was written to by the second backward"
    assert leaves_equal(before[0], snapshot(inputs, bench)), "an input was written to"
    if not buffers:
        state = snapshot(list(layer.state_dict().values()), bench)
        assert leaves_equal(before[1], state), "a parameter was written to"
    bench.checks += 1


@law
def strides_do_not_matter(bench: Bench) -> None:
    """Non-contiguous inputs and upstream gradients give the same."""
    if not bench.backend.name.startswith(("numpy", "torch", "cupy")):
        return
    answer = bench.judged(True)
    layer = bench.layer()
    tape = xpl.Tape()
    y = layer(*_map_tree(_spread, bench.inputs()), tape=tape, **bench.arrays())
    bench.close_trees(y, answer.y, "output of spread inputs")
    if any(d is not None for d in flat(answer.dy)):
        dx = layer.backward(_map_tree(_spread, bench.upstream(answer)), tape=tape)
        bench.close_gradients(layer, dx, answer)


@law
def batches_of_none_and_one(bench: Bench) -> None:
    """An empty batch and a batch of one give what torch gives; what torch refuses is not asked for."""
    sizes = {t.shape[0] for t in flat(bench.drawn.inputs) if t is not None and t.ndim}
    if len(sizes) != 1 or bench.drawn.arrays or bench.case.skip.get("batch"):
        return
    (n,) = sizes
    for few in (0, 1):
        if few >= n:
            continue
        cut = Drawn(bench.drawn.state, _map_tree(lambda a, s=few: a[:s], bench.drawn.inputs), {})
        for training in (True, False):
            try:
                answer = run_module(bench.case, cut, training)
            except (RuntimeError, ValueError, IndexError, AssertionError, AttributeError, ZeroDivisionError):
                continue
            layer = bench.layer(training)
            tape = xpl.Tape()
            y = layer(*bench.inputs(cut), tape=tape)
            bench.close_trees(y, answer.y, f"output of a batch of {few}")
            if any(d is not None for d in flat(answer.dy)):
                dx = layer.backward(bench.upstream(answer), tape=tape)
                got = [g for g in flat(dx) if g is not None]
                skip = bench.targets(layer)
                first = [a for i, t in enumerate(cut.inputs) if i not in skip for a in flat(t)]
                wants = [a.shape for a in first if a is not None and a.dtype.kind == "f"]
                assert [g.shape for g in got] == wants, f"gradient of a batch of {few}"
                if few:
                    flat_inputs = [i for i, t in enumerate(cut.inputs) for _ in flat(t)]
                    torch_gradients = [
                        g for i, g in zip(flat_inputs, answer.inputs, strict=True) if i not in skip and g is not None
                    ]
                    for g, w in zip(got, torch_gradients, strict=True):
                        bench.close(g, w, f"gradient of a batch of {few}")


@law
def jit_of_a_pair(bench: Bench) -> None:
    """One jitted function that calls forward and backward gives the same and leaves no tracer behind."""
    if bench.backend.name != "jax":
        return
    import jax

    for training in (True, False):
        answer = bench.judged(training)
        layer = bench.layer(training)
        forward, backward = xpl.pure(layer)
        state = bench.backend.tree(bench.drawn.state, bench.dtype)
        static, arrays = bench.case.call, bench.backend.tree(bench.drawn.arrays, bench.dtype)
        if arrays or static:
            return
        y = jax.jit(forward)(state, *bench.inputs())
        bench.close_trees(y, answer.y, f"output under jit, training={training}")
        if any(d is not None for d in flat(answer.dy)):
            dx, grads = jax.jit(backward)(state, *bench.inputs(), bench.upstream(answer))
            got = [g for g in flat(dx) if g is not None]
            for g, w in zip(got, bench.expected_inputs(layer, answer), strict=True):
                bench.close(g, w, "gradient of an input under jit")
            for k, g in grads.items():
                bench.close(g, answer.parameters[k], f"gradient of {k} under jit")
        assert not layer.grads, "a jitted call left gradients behind"


_LOOKS = ("__bool__", "__float__", "__int__", "__index__", "__complex__", "__array__", "__buffer__", "__dlpack__")
_OF_VALUES = ("nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values")  # their shapes are values


@contextlib.contextmanager
def unseen(module: Any) -> Iterator[None]:
    """No value of array-api-strict's can be looked at, as CuPy would wait for its card: a mask counts as a look."""
    kind = type(module.asarray(0.0))
    item = kind.__getitem__

    def refuse(*args: Any, **named: Any) -> Any:
        raise AssertionError("a value was looked at")

    def getitem(self: Any, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        if any(getattr(k, "dtype", None) == module.bool for k in keys):
            refuse()
        return item(self, key)

    with contextlib.ExitStack() as stack:
        for name in _LOOKS:
            stack.enter_context(mock.patch.object(kind, name, refuse))
        for name in _OF_VALUES:
            stack.enter_context(mock.patch.object(module, name, refuse))
        stack.enter_context(mock.patch.object(kind, "__getitem__", getitem))
        yield


@law
def nothing_waits(bench: Bench) -> None:
    """Neither pass looks at a value: on a card each look would wait for everything before it."""
    if not bench.backend.name.startswith("strict"):
        return
    for training in (True, False):
        layer, answer, inputs, arrays = bench.layer(training), bench.judged(training), bench.inputs(), bench.arrays()
        layer(*inputs, tape=xpl.Tape(), **arrays)  # parameters settle
        dy = bench.upstream(answer)
        with unseen(bench.backend.module):
            tape = xpl.Tape()
            layer(*inputs, tape=tape, **arrays)
            if any(d is not None for d in flat(answer.dy)):
                layer.backward(dy, tape=tape)
        bench.checks += 1


@law
def copies_are_separate(bench: Bench) -> None:
    """A deep copy answers the same and shares nothing that a backward changes."""
    if not bench.backend.name.startswith("numpy"):
        return
    layer, answer = bench.layer(), bench.judged(True)
    some = any(d is not None for d in flat(answer.dy))
    y = layer(*bench.inputs(), **bench.arrays())
    if some:
        layer.backward(bench.upstream(answer))
    layer.load_state_dict(bench.backend.tree(bench.drawn.state, bench.dtype))
    twin = copy.deepcopy(layer)
    before = {k: bench.backend.numpy(g).copy() for k, g in twin.grads.items()}
    assert before.keys() == set(layer.grads)
    layer(*bench.inputs(), **bench.arrays())
    if some:
        layer.backward(bench.upstream(answer))
    for k, g in before.items():
        assert np.array_equal(bench.backend.numpy(twin.grads[k]), g, equal_nan=True), "a backward reached the copy"
    same(twin(*bench.inputs(), **bench.arrays()), y, bench, "output of the copy")


def laws_for(backend: Backend, everything: bool, case: Case) -> Iterator[str]:
    """NumPy holds to all laws; on the others CI's spread leaves out what hardly depends on the library."""
    if everything or backend.name == "numpy":
        # array-api-strict has neither half precision, and NumPy's bfloat16 is another package's
        lacking = [f"agrees_in_{dtype}" for dtype in ("float16", "bfloat16") if not hasattr(backend.xp, dtype)]
        yield from (name for name in LAWS if name not in lacking)
        return
    yield "agrees_in_float64"
    if backend.name == "jax":
        yield from ("jit_of_a_pair",) if in_spread(case) else ()
    elif backend.name == "numpy-readonly":
        yield "nothing_is_written_to"
    elif backend.name in ("strict", "strict-device1"):
        yield from ("agrees_in_float32", "nothing_waits")
    else:
        yield from ("agrees_in_float32", "agrees_in_float16", "agrees_in_bfloat16", "strides_do_not_matter")


def _map(f: Callable[[Any], Any], tree: Any) -> Any:
    return tuple(_map(f, t) for t in tree) if isinstance(tree, tuple) else f(tree)


def _map_tree(f: Callable[[Any], Any], tree: Any) -> Any:
    return _map(lambda a: None if a is None else f(a), tree)


def _add(tree: Any, along: Any, step: float) -> Any:
    if isinstance(tree, tuple):
        return tuple(_add(t, a, step) for t, a in zip(tree, along, strict=True))
    return tree if along is None else tree + step * along


def _spread(x: Any) -> Any:
    """The same values at every other place of a larger array, the first two axes exchanged in memory."""
    if x.ndim == 0:
        return x
    xp = array_namespace(x)
    wide = xp.stack([x, x], axis=-1)
    if x.ndim > 1:
        wide = xp.permute_dims(wide, (1, 0, *range(2, wide.ndim)))
        wide = xp.reshape(xp.reshape(wide, (size(wide),)), wide.shape)  # in this order in memory
        wide = xp.permute_dims(wide, (1, 0, *range(2, wide.ndim)))
    return wide[..., 0]
