"""torch's own table of samples, run whole: each module of `module_db` with each of its samples, ours against torch's.

Outputs, gradients of inputs and parameters, and buffers in float64, in training and in evaluation, on every backend.
"""

import dataclasses
import functools
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.testing._internal.common_modules import module_db

import xplayers as xpl
from tests import backends
from tests.cases import seeded
from tests.oracle import _differentiate, flat, share_of_tolerance, to_torch
from xplayers.arrays import is_array

MODULES = {m.name.removeprefix("nn."): m for m in module_db if not m.is_lazy}

SPREAD = {"LinearCrossEntropyLoss": 60}  # of 857 samples; all others are run whole

FACTORS = {"CTCLoss": 12.0}  # logarithms near -130 are added up over 50 steps: torch's rounding is as large as ours

LOOSER = {"MultiheadAttention": 16.0}  # scores of 44: their rounding, times keys and inputs of 9, is 500 eps of dweight

EXCEPTIONS: dict[tuple[str, int], str] = {
    # (module, number of the sample): reason. Strict: one that passes fails the run.
}


@dataclass(frozen=True)
class Sample:
    number: int
    args: tuple
    kwargs: dict
    inputs: tuple
    named: dict
    wants: tuple  # one a leaf of inputs: whether torch asks for its gradient
    sequences: tuple  # positions of packed sequences, padded here, with their lengths


def _host(tree: Any) -> Any:
    """torch's tensors as NumPy arrays, each its own; everything else as it is."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().numpy().copy()
    if isinstance(tree, PackedSequence):
        raise TypeError("a packed sequence stands among the arguments alone")
    if isinstance(tree, tuple | list):
        return tuple(_host(v) for v in tree)
    if isinstance(tree, dict):
        return {k: _host(v) for k, v in tree.items()}
    return tree


@functools.cache
def samples(name: str) -> tuple[Sample, ...]:
    module = MODULES[name]
    torch.manual_seed(zlib_seed(name))
    found = module.module_inputs_func(module, device="cpu", dtype=torch.float64, requires_grad=True, training=True)
    if name in SPREAD:
        step = len(found) / SPREAD[name]
        chosen = [int(i * step) for i in range(SPREAD[name])]
    else:
        chosen = list(range(len(found)))
    out = []
    for i in chosen:
        forward, constructor = found[i].forward_input, found[i].constructor_input
        inputs, named = list(forward.args), dict(forward.kwargs)
        if "input" in named:
            inputs = [named.pop("input"), *inputs]
        sequences = ()
        if inputs and isinstance(inputs[0], PackedSequence):
            batch_first = constructor.kwargs.get("batch_first", False)
            padded, lengths = pad_packed_sequence(inputs[0], batch_first=batch_first)
            inputs[0] = padded.detach().requires_grad_()
            sequences = (tuple(lengths.tolist()), batch_first)
        wants = tuple(isinstance(t, torch.Tensor) and t.requires_grad for t in flat(tuple(inputs)))
        out.append(
            Sample(
                i,
                _host(constructor.args),
                _host(constructor.kwargs),
                _host(tuple(inputs)),
                _host(named),
                wants,
                sequences,
            )
        )
    return tuple(out)


def zlib_seed(text: str) -> int:
    return int(seeded(text).integers(2**31))


def build_torch(name: str, sample: Sample) -> torch.nn.Module:
    torch.manual_seed(sample.number)
    cast = lambda v: torch.tensor(v) if isinstance(v, np.ndarray) else v  # noqa: E731
    args = [cast(a) for a in sample.args]
    kwargs = {k: cast(v) for k, v in sample.kwargs.items()}
    return MODULES[name].module_cls(*args, **kwargs).double()


def _leaves(tree: Any, wants: list) -> Any:
    """torch tensors of a nest of NumPy arrays; `wants` says in order which are leaves with a gradient."""
    if isinstance(tree, tuple):
        return tuple(_leaves(v, wants) for v in tree)
    want = wants.pop(0)
    if isinstance(tree, np.ndarray):
        return torch.tensor(tree, requires_grad=want)
    return tree


def judge(name: str, sample: Sample, module: torch.nn.Module, training: bool) -> Any:
    torch.manual_seed(sample.number)
    module.train(training)
    inputs = _leaves(sample.inputs, list(sample.wants))
    named = {k: to_torch(v, "cpu") if isinstance(v, np.ndarray) else v for k, v in sample.named.items()}
    leaves = flat(inputs)
    if sample.sequences:
        lengths, batch_first = sample.sequences
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            inputs[0], torch.tensor(lengths), batch_first=batch_first, enforce_sorted=False
        )
        y, h = module(packed, *inputs[1:], **named)
        y = pad_packed_sequence(y, batch_first=batch_first)[0], h
    else:
        y = module(*inputs, **named)
    y = tuple(y) if isinstance(y, list | tuple) else y
    tensors = [t for t in leaves if isinstance(t, torch.Tensor)]
    buffers = {k: v for k, v in module.state_dict().items() if k in dict(module.named_buffers())}
    answer = _differentiate(y, tensors, dict(module.named_parameters()), buffers, f"{name}{sample.number}")
    answer.inputs = [g for g in answer.inputs if g is not None]
    return answer


def ours_of(layer: torch.nn.TransformerEncoderLayer) -> xpl.TransformerEncoderLayer:
    """The one module of torch's that stands among constructor arguments, with our layers in its place."""
    heads, wide = layer.self_attn, layer.linear1
    options = (layer.activation, layer.norm1.eps, heads.batch_first, layer.norm_first, wide.bias is not None)
    return xpl.TransformerEncoderLayer(heads.embed_dim, heads.num_heads, wide.out_features, layer.dropout.p, *options)


def arrays(tree: Any, backend: Any) -> Any:
    if isinstance(tree, tuple):
        return tuple(arrays(v, backend) for v in tree)
    if isinstance(tree, torch.nn.TransformerEncoderLayer):
        return ours_of(tree)
    return backend.asarray(tree) if isinstance(tree, np.ndarray) else tree


def compare(name: str, sample: Sample, backend: Any, training: bool) -> float:
    """The worst error as a share of its tolerance; AssertionError, or whatever our layer raises, where it fails."""
    twin = build_torch(name, sample)
    state = {k: v.detach().numpy().copy() for k, v in twin.state_dict().items()}
    answer = judge(name, sample, twin, training)
    ours = getattr(xpl, name)
    named = {k: arrays(v, backend) for k, v in sample.kwargs.items() if k != "device"}
    if "dtype" in named:  # torch.float64: that of the backend, whose library and device go with it
        dtype = getattr(backend.xp, str(named["dtype"]).removeprefix("torch."))
        named |= {"dtype": dtype, "xp": backend.module, "device": backend.device}
    if isinstance(named.get("options"), torch.nn.LinearCrossEntropyOptions):
        options = {f.name: getattr(named["options"], f.name) for f in dataclasses.fields(named["options"])}
        if options["acc_dtype"] is not None:
            options["acc_dtype"] = getattr(backend.xp, str(options["acc_dtype"]).removeprefix("torch."))
        named["options"] = xpl.LinearCrossEntropyOptions(**options)
    layer = ours(*arrays(sample.args, backend), **named)
    layer.load_state_dict({k: backend.asarray(v) for k, v in state.items()})
    layer.train(training)
    named = {k: arrays(v, backend) for k, v in sample.named.items()}
    if sample.sequences:
        named["lengths"] = backend.asarray(np.asarray(sample.sequences[0]))
    tape = xpl.Tape()
    y = layer(*arrays(sample.inputs, backend), tape=tape, **named)
    worst = 0.0

    def close(got: Any, want: Any, what: str) -> None:
        nonlocal worst
        assert is_array(got), f"{what}: {type(got).__name__}"
        away = backend.at_home(got)
        assert away is None, f"{what} {away}"
        share = share_of_tolerance(backend.numpy(got), np.asarray(want), "float64", FACTORS.get(name, 1.0))
        worst = max(worst, share)
        assert share <= 1, f"{what}: shape {got.shape} against {want.shape}, error {share:.3g} of its tolerance"

    outs, wants = flat(y), flat(answer.y)
    assert len(outs) == len(wants), f"{len(outs)} outputs, expected {len(wants)}"
    for i, (g, w) in enumerate(zip(outs, wants, strict=True)):
        assert (g is None) == (w is None), f"output {i}"
        if w is not None:
            close(g, w, f"output {i}")
    if any(d is not None for d in flat(answer.dy)):
        dx = layer.backward(backend.tree(answer.dy), tape=tape)
        got = [g for g in flat(dx) if g is not None]
        expected = answer.inputs
        if layer.is_loss:  # a layer's backward leaves the target's gradient out; the pair has it
            wanted = [i for i, want in enumerate(sample.wants) if want]
            names = list(inspect.signature(type(layer).forward).parameters)[1:]
            expected = [g for i, g in zip(wanted, answer.inputs, strict=True) if names[i] != "target"]
        assert len(got) == len(expected), f"{len(got)} gradients of inputs, expected {len(expected)}"
        for i, (g, w) in enumerate(zip(got, expected, strict=True)):
            close(g, w, f"gradient of input {i}")
        for k, w in answer.parameters.items():
            if k in layer.grads:
                close(layer.grads[k], w, f"gradient of {k}")
            else:
                assert not np.any(w), f"no gradient of {k}"
    for k, w in answer.buffers.items():
        close(layer.state_dict()[k], w, f"buffer {k}")
    return worst


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("name", sorted(MODULES))
def test_module(name, backend, score, request):
    everything = request.config.getoption("--all")
    chosen = samples(name)
    if not everything:  # a spread of at most eight on NumPy, three elsewhere
        most = 8 if backend.name == "numpy" else 3
        chosen = chosen[:: max(1, -(-len(chosen) // most))]
    failed, matched, worst = [], 0, 0.0
    for sample in chosen:
        expected = EXCEPTIONS.get((name, sample.number))
        try:
            for training in (True, False):
                worst = max(worst, compare(name, sample, backend, training))
        except Exception as e:
            if expected is None:
                failed.append(f"sample {sample.number}: {type(e).__name__}: {str(e)[:300]}")
            continue
        if expected is not None:
            failed.append(f"sample {sample.number} passes, though it is listed: {expected}")
        matched += 1
    score(min(worst, 1e9), len(chosen))
    request.node.user_properties.append(("samples", (matched, len(chosen))))
    assert not failed, f"{matched} of {len(chosen)} samples\n" + "\n".join(failed)


def test_exceptions_are_few():
    total = sum(len(samples(name)) for name in MODULES)
    assert len(EXCEPTIONS) <= total / 100
    for name in {n for n, _ in EXCEPTIONS}:
        assert sum(1 for n, _ in EXCEPTIONS if n == name) < len(samples(name)), f"the whole of {name} is excepted"


REFUSED = sorted(n for n, m in MODULES.items() if m.module_error_inputs_func)
NOT_REFUSED: dict[tuple[str, int], str] = {
    # (module, number of the error input): reason why we take it
    ("NLLLoss", 0): "class weights settle in the dtype of the first x",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_torch_refuses_is_refused_in_our_words(name):
    module = MODULES[name]
    found = module.module_error_inputs_func(
        module, device="cpu", dtype=torch.float64, requires_grad=False, training=True
    )
    backend = backends.load("numpy")[0]
    taken = []
    for i, error in enumerate(found):
        given = error.module_error_input
        constructor, forward = given.constructor_input, given.forward_input
        kwargs = {k: _host(v) for k, v in constructor.kwargs.items() if k not in ("device", "dtype")}
        try:
            layer = getattr(xpl, name)(*arrays(_host(constructor.args), backend), **kwargs)
            if layer.params:  # settled where torch's parameters are: in float64
                layer.to(dtype=np.dtype("float64"))
            if forward is not None:
                layer(*arrays(_host(tuple(forward.args)), backend), **_host(dict(forward.kwargs)))
        except (ValueError, TypeError) as e:
            assert "Mend: " in str(e), f"error input {i}: not in words of our own: {e}"
            continue
        except IndexError:  # an index out of range is the library's to refuse: looking at values waits for a GPU
            assert "index out of range" in error.error_regex
            continue
        if (name, i) not in NOT_REFUSED:
            taken.append(f"error input {i} is taken: torch says {error.error_regex}")
    assert not taken, "\n".join(taken)
