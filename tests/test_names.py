"""Every public name of torch.nn and torch.nn.functional is ours, or stands among the exceptions with its reason."""

import collections
import inspect

import pytest
import torch
from torch.testing._internal.common_modules import module_db

import xplayers as xpl
import xplayers.functional as F
from tests.cases import rows

BASES = "a base, no layer"
LAZY = "lazy: a layer built without sizes does the same"
NO_LAYER = {
    "Module": BASES,
    "Container": BASES,
    "Parameter": "layers hold plain arrays",
    "UninitializedParameter": LAZY,
    "Buffer": "layers hold plain arrays",
    "UninitializedBuffer": LAZY,
    "DataParallel": "splits a batch over devices; belongs to training, not to layers",
    "ParameterList": "a layer names its parameters",
    "ParameterDict": "a layer names its parameters",
    "CrossMapLRN2d": "an old form of LocalResponseNorm, kept in torch for old files",
    "RNNBase": BASES,
    "RNNCellBase": BASES,
}
INDICES = "`return_indices=True` of the function without this ending"
PRODUCTS = "a product of float8 or grouped matrices that only some GPUs compute, not a layer's function"
NO_FUNCTION = {
    **{f"{kind}_max_pool{n}d_with_indices": INDICES for kind in ("adaptive", "fractional") for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": INDICES for n in (1, 2, 3)},
    "native_channel_shuffle": "channel_shuffle under an internal name",
    "grouped_mm": PRODUCTS,
    "scaled_mm": PRODUCTS,
    "scaled_grouped_mm": PRODUCTS,
    "assert_int_or_pair": "a check, no operation",
    "boolean_dispatch": "a decorator",
    "handle_torch_function": "torch's own dispatch",
    "has_torch_function": "torch's own dispatch",
    "has_torch_function_unary": "torch's own dispatch",
    "has_torch_function_variadic": "torch's own dispatch",
}


def torch_layers():
    return sorted(n for n, c in vars(torch.nn).items() if inspect.isclass(c) and not n.startswith("_"))


def torch_functions():
    found = []
    for name, f in vars(torch.nn.functional).items():
        if name.startswith("_") or name.endswith("_") or not callable(f) or inspect.isclass(f):
            continue
        if getattr(f, "__module__", "").startswith(("typing", "torch._jit_internal", "torch.overrides", "collections")):
            continue
        found.append(name)
    return sorted(found)


@pytest.mark.parametrize("name", torch_layers())
def test_layer_is_ours(name):
    if name.startswith("Lazy"):
        assert not hasattr(xpl, name)
        return
    if name in NO_LAYER:
        assert not hasattr(xpl, name), f"{name} is ours now: take it out of the exceptions"
        return
    ours, theirs = getattr(xpl, name), getattr(torch.nn, name)
    a, b = (list(inspect.signature(c.__init__).parameters.values())[1:] for c in (ours, theirs))
    for given in b:
        if given.name in ("size_average", "reduce", "args", "kwargs") or given.kind is given.VAR_KEYWORD:
            continue
        mine = next((p for p in a if p.name == given.name), None)
        if mine is None and any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in a):
            continue
        assert mine is not None, f"{name} takes no argument {given.name}"
        if given.default is not given.empty and isinstance(given.default, int | float | bool | str | None):
            assert mine.default == given.default, f"{name}({given.name}={mine.default!r}), torch {given.default!r}"


@pytest.mark.parametrize("name", torch_functions())
def test_function_is_ours(name):
    if name in NO_FUNCTION:
        assert not hasattr(F, name), f"{name} is ours now: take it out of the exceptions"
        return
    base = name.removesuffix("_forward")  # of multi_head_attention_forward, which is torch's own name for our forward
    for part in (base, f"{base}_forward", f"{base}_backward"):
        assert callable(getattr(F, part, None)), f"no {part}"
    try:
        theirs = list(inspect.signature(getattr(torch.nn.functional, name)).parameters.values())
    except ValueError:  # a builtin without a signature
        return
    ours = list(inspect.signature(getattr(F, f"{base}_forward")).parameters.values())
    names = [p.name for p in ours]
    wanted = [p for p in theirs if p.name not in ("inplace", "size_average", "reduce", "args", "kwargs", "out")]
    for i, given in enumerate(wanted):
        if given.name.startswith("_") or (i == 0 and names[0] == "x"):
            continue
        assert given.name in names, f"{name} takes no argument {given.name}"


@pytest.mark.parametrize("name", sorted(n for n in F.__dict__ if n.endswith("_forward")))
def test_pairs_are_whole(name):
    base = name.removesuffix("_forward")
    forward, backward = getattr(F, name), getattr(F, f"{base}_backward")
    assert "wanted" in inspect.signature(backward).parameters
    assert list(inspect.signature(backward).parameters)[:2] == ["dy", "cache"]
    assert callable(getattr(F, base))
    text = inspect.getdoc(forward) or ""
    assert "Twin: " in text, "the docstring names no twin"
    assert "_forward`" in text or ("Source: " in text and "Errors: " in text), "no source or no errors in the docstring"
    assert inspect.getdoc(backward), "no docstring"


def departs(row, parameter):
    """Whether a row gives a parameter another value than its default."""
    if row.arrays.get(parameter.name) is not None:
        return True
    return parameter.name in row.kwargs and row.kwargs[parameter.name] != parameter.default


@pytest.mark.parametrize("name", sorted(n for n in F.__dict__ if n.endswith("_forward")))
def test_every_pair_is_in_the_table(name):
    base = name.removesuffix("_forward")
    found = [r for r in rows("FUNCTIONS") if r.name == base]
    assert len(found) >= 3, f"{base} has {len(found)} rows"
    used = {k for r in found for k in (*r.arrays, *r.kwargs)}
    parameters = inspect.signature(getattr(F, name)).parameters.values()
    unused = [p.name for p in parameters if p.name not in used and p.name not in ("rng", "mask")]
    assert not unused, f"no row of {base} gives {unused}"
    same = [p.name for p in parameters if p.default is not p.empty and not any(departs(r, p) for r in found)]
    assert not set(same) - {"rng", "mask"}, f"no row of {base} gives {same} away from the default"


def public_layers():
    return sorted(
        n for n, c in vars(xpl).items() if inspect.isclass(c) and issubclass(c, xpl.Layer) and n not in NOT_IN_THE_TABLE
    )


NOT_IN_THE_TABLE = {"Layer", "Sequential", "Residual", "Concat", "ModuleList", "ModuleDict"}  # tests/test_layer.py


@pytest.mark.parametrize("name", public_layers())
def test_every_layer_is_in_the_table(name):
    found = [c for c in rows("LAYERS") if c.layer == name]
    assert len(found) >= 2, f"{name} has {len(found)} rows"
    assert inspect.getdoc(getattr(xpl, name)), "no docstring"


def test_layers_that_torch_has_no_samples_of_have_three_rows():
    counts = collections.Counter(case.layer for case in rows("LAYERS"))
    sampled = {m.name.removeprefix("nn.") for m in module_db}
    few = {name: n for name, n in counts.items() if n < (2 if name in sampled else 3)}
    assert not few, f"layers with too few rows: {few}"
