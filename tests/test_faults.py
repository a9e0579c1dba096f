"""The tests have teeth: bugs are planted in the code, one at a time, and the laws must notice each."""

import contextlib
import importlib
import inspect
import pkgutil
import sys
import textwrap

import pytest

from tests import backends, cases
from tests.cases import Fault, rows
from tests.laws import LAWS, Bench

FAULTS = rows("FAULTS")


@contextlib.contextmanager
def planted(fault):
    """The function or method with its text changed, everywhere that the package holds it."""
    root = fault.where.split(".", 1)[0]
    where = (
        f"xplayers.{fault.where}"
        if root in ("layers", "functional", "arrays", "kernels")
        else f"xplayers.functional.{fault.where}"
    )
    parts = where.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            module = importlib.import_module(".".join(parts[:cut]))
            break
    owner, name = module, parts[-1]
    for step in parts[cut:-1]:
        owner = getattr(owner, step)
    good = owner.__dict__[name]
    plain = inspect.unwrap(good.fget if isinstance(good, property) else good)
    text = textwrap.dedent(inspect.getsource(plain))
    assert text.count(fault.old) >= 1, f"{fault.where} does not hold {fault.old!r}"
    changed = text.replace(fault.old, fault.new, 1)
    assert changed != text
    if inspect.isclass(owner):
        # a class of the same name as base lets the guards be put around the method again, and super() work
        body = textwrap.indent(changed, "    ")
        scope = dict(module.__dict__)
        exec(f"class _Planted:\n    __class__ = None\n{body}", scope)
        bad = scope["_Planted"].__dict__[name]
        from xplayers.layers import layer as base

        guard = {"forward": base._guard_forward, "backward": base._guard_backward}.get(name)
        bad = guard(bad) if guard else bad
        setattr(owner, name, bad)
        try:
            yield
        finally:
            setattr(owner, name, good)
        return
    bad = _in_module(changed, module, name)
    homes = [m for n, m in list(sys.modules.items()) if n.startswith("xplayers")]
    held = [(m, k) for m in homes for k, v in list(vars(m).items()) if v is good]
    for m, k in held:
        setattr(m, k, bad)
    forget_what_is_cached()
    try:
        yield
    finally:
        for m, k in held:
            setattr(m, k, good)
        forget_what_is_cached()


def forget_what_is_cached():
    """Clears the caches of the package's functions, which would answer in the place of a planted one."""
    for module in [m for n, m in sys.modules.items() if n.startswith("xplayers.functional")]:
        for value in vars(module).values():
            if callable(getattr(value, "cache_clear", None)):
                value.cache_clear()


def _in_module(text, module, name):
    """Runs the changed definition with the module's own globals, which see the change too."""
    good = module.__dict__[name]
    exec(compile(text, f"<planted in {module.__name__}>", "exec"), module.__dict__)
    bad = module.__dict__[name]
    module.__dict__[name] = good
    return bad


def survives(fault):
    """Whether every law passes on every row that the fault names."""
    chosen = [c for c in rows("LAYERS") if str(c).startswith(tuple(fault.cases.split(",")))]
    assert chosen, f"no case begins with {fault.cases}"
    numpy, _ = backends.load("numpy")
    readonly, _ = backends.load("numpy-readonly")
    device1, _ = backends.load("strict-device1")
    for case in chosen:
        for backend in (numpy, readonly, device1):
            for name, law in LAWS.items():
                if case.skip.get(name) or (backend is device1 and name != "agrees_in_float64"):
                    continue
                try:
                    law(Bench(case, backend))
                except Exception:
                    return False
    return True


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.where}:{f.old}->{f.new}".replace(" ", ""))
def test_is_noticed(fault):
    with planted(fault):
        assert not survives(fault), "the fault survives: no law notices it"


def test_planting_leaves_the_code_as_it_was():
    from xplayers import functional as F

    before = F.linear_backward
    fault = next(f for f in FAULTS if f.where == "linear.linear_backward")
    with planted(fault):
        assert F.linear_backward is not before
    assert F.linear_backward is before


_SHARED = (
    'pool = type("Pool", (dict,), {"__deepcopy__": lambda s, m: s}); '
    "self._grads = self._grads if type(self._grads) is not dict else pool(self._grads); self._grads[name] = "
)
_SINGLE = "y if bias is None else y + bias * (2.0 if y.shape[0] == 1 and y.ndim == 2 else 1.0)"
_PRODUCT = "matmul(d.T, xp.reshape(x, (m, inn)))"
_AFFINE = "Affine(4,5)-"
ONE_EACH = {  # a fault for every law, which notices it by itself
    "agrees_in_float64": Fault("linear.linear_backward", _PRODUCT, f"0.5 * {_PRODUCT}", _AFFINE),
    "agrees_without_kernels": Fault("linear.linear_backward", _PRODUCT, f"0.5 * {_PRODUCT}", _AFFINE),
    "agrees_with_kernels_required": Fault(
        "kernels.on_numba.normalization._ones",
        "is None else weight",
        "is None else np.float32(2) * weight",
        "BatchNorm2d(3)-",
    ),
    "agrees_in_float32": Fault("linear.linear_forward", "y + bias", "xp.astype(y + bias, xp.float64)", _AFFINE),
    "agrees_in_float16": Fault("linear.linear_forward", "y + bias", "xp.astype(y + bias, xp.float32)", _AFFINE),
    "agrees_in_bfloat16": Fault("linear.linear_forward", "y + bias", "xp.astype(y + bias, xp.float32)", _AFFINE),
    "derivative_along_a_direction": Fault("linear.linear_backward", "sum_leading(d)", "sum_leading(d) / m", _AFFINE),
    "calls_are_independent": Fault("layers.layer.Layer.accumulate", "held + gradient", "gradient", _AFFINE),
    "inference_keeps_nothing": Fault(
        "layers.linear.Affine.forward",
        "record(tape, self, cache)",
        "self._last = cache; record(tape, self, cache)",
        _AFFINE,
    ),
    "nothing_is_written_to": Fault("linear.linear_backward", "m = math", "x *= 2.0; m = math", _AFFINE),
    "strides_do_not_matter": Fault(
        "linear.linear_backward", "xp.reshape(x, (m, inn))", "xp.reshape(x.ravel(order='K'), (m, inn))", _AFFINE
    ),
    "batches_of_none_and_one": Fault("linear.linear_forward", "y if bias is None else y + bias", _SINGLE, _AFFINE),
    "jit_of_a_pair": Fault("linear.linear_forward", "y = matmul", "x = x * float(x.mean() > -9); y = matmul", _AFFINE),
    "nothing_waits": Fault("linear.linear_forward", "y = matmul", "x = x * float(x[0, 0] > -9); y = matmul", _AFFINE),
    "copies_are_separate": Fault("layers.layer.Layer.accumulate", "self._grads[name] = ", _SHARED, _AFFINE),
}


@pytest.mark.parametrize("name", sorted(LAWS))
def test_each_law_notices_a_fault(name):
    backend, why = backends.load(
        {"jit_of_a_pair": "jax", "agrees_in_bfloat16": "torch", "nothing_waits": "strict"}.get(name, "numpy")
    )
    if backend is None:
        pytest.skip(why)
    fault = ONE_EACH[name]
    case = next(c for c in rows("LAYERS") if str(c).startswith(fault.cases))
    LAWS[name](Bench(case, backend))
    with planted(fault):
        try:
            LAWS[name](Bench(case, backend))
        except Exception:  # a fault may raise anything; what counts is that it does not pass
            return
    pytest.fail(f"{name} does not notice {fault.where}: {fault.new}")


def test_every_family_has_faults_and_bad_calls():
    for info in pkgutil.iter_modules(cases.__path__):
        table = importlib.import_module(f"tests.cases.{info.name}")
        assert len(table.FAULTS) >= 5, info.name
        assert len(table.BAD_CALLS) >= 3, info.name
