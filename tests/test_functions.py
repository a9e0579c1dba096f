"""Every row of the table of functions against torch.nn.functional: answers, gradients, `wanted`, purity, jit."""

import inspect

import numpy as np
import pytest

import xplayers.functional as F
from tests.cases import make, rows, seeded
from tests.oracle import flat, rounded, run_function, share_of_tolerance

ROWS = rows("FUNCTIONS")


def test_rows_have_names_of_their_own():
    names = [str(c) for c in ROWS]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)


class Judge:
    def __init__(self, row, backend, score, dtype):
        self.row, self.backend, self.score, self.dtype = row, backend, score, dtype

    def close(self, got, expected, what):
        away = self.backend.at_home(got)
        assert away is None, f"{what} {away}"
        host = self.backend.numpy(got)
        if expected.dtype.kind == "f" and "dtype" not in self.row.kwargs:
            assert str(host.dtype) == self.dtype, f"{what}: dtype {host.dtype}, expected {self.dtype}"
        share = share_of_tolerance(host, np.asarray(expected), self.dtype, self.row.tolerance)
        self.score(min(share, 1e9))
        assert share <= 1, f"{what}: shape {host.shape} against {expected.shape}, error {share:.3g} of its tolerance"

    def close_trees(self, got, expected, what):
        gots, wants = flat(got), flat(expected)
        assert len(gots) == len(wants), f"{what}: {len(gots)} parts, expected {len(wants)}"
        for i, (g, w) in enumerate(zip(gots, wants, strict=True)):
            if w is None:
                assert g is None, f"{what}[{i}]"
            else:
                self.close(g, w, f"{what}[{i}]")


def check(row, backend, score, dtype):
    judge = Judge(row, backend, score, dtype)
    rng = seeded(str(row))
    drawn = rounded({k: make(s, rng) for k, s in row.arrays.items()}, dtype)
    answer = run_function(row, drawn, "cuda:0" if backend.name in ("cupy", "torch-cuda") else "cpu")
    forward = getattr(F, f"{row.name}_forward")
    arrays = backend.tree(drawn, dtype)
    before = [None if a is None else backend.numpy(a).copy() for a in flat(arrays)]
    y, cache = forward(**arrays, **row.given(backend.xp))
    assert isinstance(cache, tuple)
    judge.close_trees(y, answer.y, "answer")
    judge.close_trees(getattr(F, row.name)(**arrays, **row.given(backend.xp)), answer.y, "shorthand")
    if any(d is not None for d in flat(answer.dy)):
        backward = getattr(F, f"{row.name}_backward")
        dy = backend.tree(answer.dy, dtype)
        gradients = backward(dy, cache)
        parts = gradients if isinstance(gradients, tuple) else (gradients,)
        groups, start = {}, 0
        for name, tree in drawn.items():
            n = len(flat(tree))
            groups[name] = answer.inputs[start : start + n]
            start += n
        # one gradient an array of the signature; a row names all arrays up to the last that it uses. Masks have none
        signature = inspect.signature(forward).parameters
        keyword = {k for k, p in signature.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
        arguments = [k for k in row.arrays if k not in keyword or k in (row.gradients or ())]
        assert len(parts) >= len(arguments), f"{len(parts)} gradients for the arrays {arguments}"
        found = dict(zip(arguments, parts, strict=False))
        names = row.gradients or [k for k in arguments if any(v is not None for v in groups[k])]
        for name in names:
            judge.close_trees(found[name], groups[name], f"d{name}")
        if len(parts) > 1 and backend.name == "numpy":
            for i, part in enumerate(parts):
                only = backward(dy, cache, wanted=tuple(j == i for j in range(len(parts))))
                for j, other in enumerate(only):
                    if j != i:
                        assert all(v is None for v in flat(other)), f"unwanted gradient {j} was computed"
                host = tuple(None if v is None else backend.numpy(v) for v in flat(part))
                judge.close_trees(only[i], host, f"wanted gradient {i} alone")
    after = [None if a is None else backend.numpy(a) for a in flat(arrays)]
    for b, a in zip(before, after, strict=True):
        assert b is None or np.array_equal(a, b, equal_nan=b.dtype.kind == "f"), "an argument was written to"
    return drawn, answer, judge


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_pair(row, backend, score, request):
    if row.skip.get(backend.name):
        score(0.0, 0, 1)
        return
    drawn, answer, judge = check(row, backend, score, "float64")
    everything = request.config.getoption("--all")
    if not row.skip.get("float32") and (everything or backend.name in ("numpy", "torch", "cupy", "torch-cuda")):
        check(row, backend, score, "float32")
    if backend.name == "jax" and not row.skip.get("jit"):
        import jax

        def both(arrays, dy):
            y, cache = getattr(F, f"{row.name}_forward")(**arrays, **row.given(backend.xp))
            if dy is None:
                return y, None
            return y, getattr(F, f"{row.name}_backward")(dy, cache)

        some = any(d is not None for d in flat(answer.dy))
        y, _ = jax.jit(both)(backend.tree(drawn), backend.tree(answer.dy) if some else None)
        judge.close_trees(y, answer.y, "answer under jit")
