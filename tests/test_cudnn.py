"""The twins through cuDNN without a card: a host computes what each graph is asked for, from the request alone.

Whole twins are compared in numbers with the agnostic functions, fake CuPy arrays show that the dispatch reaches them,
and where libcudnn is there, plans are made for an H100 that need not be.
"""

import gc
import json
import subprocess
import sys
import threading
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import ml_dtypes  # noqa: F401 (gives NumPy the name bfloat16; it comes with jax)
import numpy as np
import pytest
import torch

import xplayers as xpl
import xplayers.functional as F
from tests.cases import seeded
from xplayers.kernels import cards, registry
from xplayers.kernels.on_cudnn import graphs  # registers the twins, which needs no card
from xplayers.kernels.on_cudnn.graphs import Operand, Refused, Request

registry.load("numpy")
registry.load("cupy")
HELD = {k: tuple(t for t in held if t.means == "cudnn") for k, held in registry._state.twins.items() if k[0] == "cupy"}
TWINS = {reference.__name__: twins[0] for (_, reference), twins in HELD.items() if twins}


def _leave_to_others():
    """Where the look-up has not loaded these twins itself, no other module's arrays are to meet them."""
    for _, reference in HELD if "cudnn" in registry._state.absent else ():
        registry.unregister("cupy", reference, "cudnn")


_leave_to_others()


@pytest.fixture(autouse=True, scope="module")
def _registered():
    for key, twins in HELD.items():
        registry._state.twins[key] = (*twins, *(t for t in registry._state.twins[key] if t.means != "cudnn"))
        key[1].known.clear()
    yield
    _leave_to_others()


class Host:
    """In the executor's place: computes a request in float64 with torch, on NumPy arrays that lie as it says."""

    def __init__(self, *refused):
        self.refused, self.requests = refused, []

    @staticmethod
    def takes(x):
        return x.ctypes.data % x.itemsize == 0

    def execute(self, request, arrays):
        self.requests.append(request)
        if request.op in self.refused:
            raise Refused(request.op)
        assert len(arrays) == len(request.operands)
        for x, operand in zip(arrays, request.operands, strict=True):
            assert x.shape == operand.shape
            assert x.dtype.name == operand.dtype
            spans = zip(x.shape, x.strides, operand.strides, strict=True)
            assert all(n == 1 or held == s * x.itemsize for n, held, s in spans), "it does not lie as the graph is told"
        n = len(graphs._INPUTS[request.op])
        given = [torch.from_numpy(x.astype(np.float64)) for x in arrays[:n]]
        made = getattr(self, request.op)(request, *given, **dict(request.options))
        for y, out in zip(made if isinstance(made, tuple) else (made,), arrays[n:], strict=True):
            assert y.shape == out.shape
            out[...] = y.detach().numpy().astype(out.dtype)

    @staticmethod
    def conv_fprop(request, x, w, *, pre_padding, post_padding, stride, dilation):
        assert min(*pre_padding, *post_padding) >= 0, "cuDNN takes no negative padding"
        pads = [p for pair in zip(pre_padding[::-1], post_padding[::-1], strict=True) for p in pair]
        conv = getattr(torch.nn.functional, f"conv{x.ndim - 2}d")
        return conv(torch.nn.functional.pad(x, pads), w, None, stride, 0, dilation, x.shape[1] // w.shape[1])

    def conv_dgrad(self, request, dy, w, **geometry):
        x = torch.zeros(request.operands[-1].shape, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(self.conv_fprop(request, x, w, **geometry), x, dy)[0]

    def conv_wgrad(self, request, x, dy, **geometry):
        w = torch.zeros(request.operands[-1].shape, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(self.conv_fprop(request, x, w, **geometry), w, dy)[0]

    @staticmethod
    def _scores(q, k, scale, causal):
        s = q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT * scale
        return s.masked_fill(~torch.ones(s.shape[-2:], dtype=torch.bool).tril(), -torch.inf) if causal else s

    def sdpa(self, request, q, k, v, *, attn_scale, use_causal_mask, generate_stats):
        assert generate_stats
        s = self._scores(q, k, attn_scale, use_causal_mask)
        stats = torch.logsumexp(s, -1, keepdim=True)
        return torch.exp(s - stats) @ v.repeat_interleave(q.shape[1] // v.shape[1], 1), stats

    def sdpa_backward(
        self, request, q, k, v, y, dy, stats, *, attn_scale, use_causal_mask, use_deterministic_algorithm
    ):
        assert use_deterministic_algorithm
        p = torch.exp(self._scores(q, k, attn_scale, use_causal_mask) - stats)
        together = lambda d, a: d.unflatten(1, (a.shape[1], -1)).sum(2)  # noqa: E731, the heads that one of a serves
        n = q.shape[1] // k.shape[1]
        ds = p * (dy @ v.repeat_interleave(n, 1).mT - (dy * y).sum(-1, keepdim=True)) * attn_scale
        return ds @ k.repeat_interleave(n, 1), together(ds.mT @ q, k), together(p.mT @ dy, v)


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(graphs, "executor", Host())
    return graphs.executor


class Watched(graphs.Executor):
    """The executor itself, and what it was asked for."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def execute(self, request, arrays):
        self.requests.append(request)
        super().execute(request, arrays)


@pytest.fixture(params=["host", "card"])
def place(request, monkeypatch):
    """What executes: the host, and cuDNN where it is."""
    if request.param == "card" and "cudnn" in registry._state.absent:
        pytest.skip(f"NOT RUN: {registry._state.absent['cudnn']}")
    monkeypatch.setattr(graphs, "executor", Host() if request.param == "host" else Watched())
    return graphs.executor


def in_memory(x):
    """The axes in the order in which x lies, and back."""
    order = sorted(range(x.ndim), key=lambda i: -x.strides[i])
    return order, sorted(range(x.ndim), key=order.__getitem__)


def put(x):
    """x as the executor takes it: on the card, the axes in the same order in memory."""
    if x is None or isinstance(graphs.executor, Host):
        return x
    import cupy

    order, back = in_memory(x)
    return cupy.asarray(np.ascontiguousarray(x.transpose(order))).transpose(back)


def get(x):
    if x is None or isinstance(x, np.ndarray):
        return x
    order, back = in_memory(x)
    return x.transpose(order).get().transpose(back)


def last(x):
    """The same numbers, the channels last in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def both(name, arrays, dtype="float64", change=lambda a: a, **kwargs):
    """Output and gradients by the twin, and by the agnostic function in float64 from the same numbers."""
    rng = seeded(name + str(kwargs))
    reference, back = getattr(F, f"{name}_forward"), getattr(F, f"{name}_backward")
    twin = TWINS[f"{name}_forward"]
    given = [None if s is None else change(rng.standard_normal(s).astype(dtype)) for s in arrays]
    before = [None if a is None else a.copy() for a in given]
    with xpl.use_kernels("off"):
        y, cache = reference(*(None if a is None else a.astype("f8") for a in given), **kwargs)
        dy = change(rng.standard_normal(y.shape).astype(dtype))
        expected = (y, *back(dy.astype("f8"), cache))
    given, dy = [put(a) for a in given], put(dy)
    answer = twin.forward(*given, **kwargs)
    assert answer is not NotImplemented
    y, cache = answer
    got = tuple(get(a) for a in (y, *twin.backward(dy, cache)))
    for a, b in zip(got[1:], twin.backward(dy, cache), strict=True):
        assert a is None or np.array_equal(a, get(b)), "a second backward gives something else"
    for a, b in zip(given, before, strict=True):
        assert a is None or np.array_equal(get(a), b), "an argument was written to"
    return got, expected, (twin, dy, cache)


def close(got, expected, tolerance):
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert (g is None) == (e is None)
        if e is not None:
            assert g.dtype == got[0].dtype
            assert g.shape == e.shape
            np.testing.assert_allclose(g.astype("f8"), e, rtol=tolerance, atol=tolerance * np.abs(e).max())


# name, shapes of x, weight and bias, arguments
CONVOLUTIONS = [
    ("conv1d", ((2, 4, 9), (6, 4, 3), (6,)), {"padding": 1}),
    ("conv1d", ((4, 9), (6, 2, 3), (6,)), {"groups": 2, "stride": 2}),
    ("conv2d", ((2, 3, 7, 8), (4, 3, 3, 3), (4,)), {"padding": (1, 2)}),
    ("conv2d", ((2, 3, 7, 8), (4, 3, 3, 3), None), {"stride": (2, 3), "padding": 1}),
    ("conv2d", ((2, 3, 9, 8), (4, 3, 2, 4), (4,)), {"padding": "same", "dilation": (1, 2)}),
    ("conv2d", ((2, 3, 9, 8), (4, 3, 4, 2), (4,)), {"padding": "same"}),
    ("conv2d", ((2, 6, 7, 8), (6, 1, 3, 3), (6,)), {"groups": 6, "padding": 1}),
    ("conv2d", ((2, 6, 7, 8), (4, 3, 3, 3), (4,)), {"groups": 2, "dilation": 2}),
    ("conv2d", ((3, 7, 8), (4, 3, 1, 1), (4,)), {}),
    ("conv2d", ((1, 3, 12, 12), (4, 3, 3, 3), (4,)), {"stride": 5}),  # rows behind that no window reads
    ("conv3d", ((2, 3, 4, 5, 6), (4, 3, 2, 3, 2), (4,)), {"padding": (1, 0, 1), "stride": (1, 2, 1)}),
    ("conv_transpose1d", ((2, 4, 5), (4, 3, 3), (3,)), {"stride": 2, "padding": 1, "output_padding": 1}),
    ("conv_transpose2d", ((2, 4, 5, 6), (4, 3, 3, 2), (3,)), {"stride": 2, "padding": 1}),
    ("conv_transpose2d", ((2, 4, 5, 6), (4, 3, 3, 3), (6,)), {"groups": 2, "stride": (3, 1), "output_padding": (2, 0)}),
    ("conv_transpose2d", ((4, 5, 6), (4, 3, 3, 3), None), {"dilation": 2, "padding": 2}),
    ("conv_transpose3d", ((2, 4, 3, 4, 5), (4, 2, 2, 3, 2), (2,)), {"stride": 2, "output_padding": 1}),
]
IDS = [f"{name}-{i}" for i, (name, *_) in enumerate(CONVOLUTIONS)]
every_convolution = pytest.mark.parametrize(("name", "arrays", "kwargs"), CONVOLUTIONS, ids=IDS)


@every_convolution
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_convolutions_are_the_agnostic_ones(place, name, arrays, kwargs, dtype):
    got, expected, _ = both(name, arrays, dtype, **kwargs)
    close(got, expected, {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}[dtype])
    assert len(place.requests) == 5
    assert got[0].dtype == dtype
    assert {o.dtype for r in place.requests for o in r.operands} == {dtype}


@every_convolution
def test_channels_last_stays_so(place, name, arrays, kwargs):
    change = lambda a: last(a) if a.ndim > 1 else a  # noqa: E731
    got, expected, _ = both(name, arrays, change=change, **kwargs)
    close(got, expected, 1e-12)
    if len(arrays[0]) == len(arrays[1]):
        forward, *backward = place.requests
        for operand in (*forward.operands[:2], *(r.operands[i] for r in backward for i in (0, 1))):
            assert operand.strides[1] == 1 or operand.shape[1] == 1, "it was copied into the order of C"
        assert got[0].strides[1] == got[1].strides[1] == got[0].itemsize, "y or dx is not channels-last"


@every_convolution
def test_each_gradient_alone(host, name, arrays, kwargs):
    got, _, (twin, dy, cache) = both(name, arrays, **kwargs)
    for i in range(3):
        del host.requests[:]
        alone = twin.backward(dy, cache, wanted=tuple(j == i for j in range(3)))
        assert len(host.requests) == (i < 2)
        for j, (a, b) in enumerate(zip(alone, got[1:], strict=True)):
            assert a is None if j != i else b is None or np.array_equal(a, b)


@every_convolution
def test_what_a_backward_is_refused_the_agnostic_sum_does(host, name, arrays, kwargs):
    refused = ("conv_dgrad", "conv_wgrad") if "transpose" not in name else ("conv_fprop", "conv_wgrad")
    host.refused = refused
    got, expected, _ = both(name, arrays, **kwargs)
    close(got, expected, 1e-12)


def test_other_layouts_are_copied(host):
    off = lambda a: np.frombuffer(b" " + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)  # noqa: E731
    for change in (lambda a: np.repeat(a, 2, axis=-1)[..., ::2], lambda a: a[..., ::-1], np.asfortranarray, off):
        got, expected, _ = both("conv2d", ((2, 3, 7, 8), (4, 3, 3, 3), (4,)), change=change, padding=1)
        close(got, expected, 1e-12)


def test_the_key_holds_all_that_a_plan_depends_on(host):
    x, w = np.ones((2, 3, 8, 8), np.float32), np.ones((4, 3, 4, 4), np.float32)
    forward = TWINS["conv2d_forward"].forward
    forward(x, w, None, 1, "same", 1)
    forward(last(x), w, None, 1, "same", 1)
    with xpl.use_kernels(precision="fast"):
        forward(x, w, None, 1, "same", 1)
    first, second, third = host.requests
    image = Operand((2, 3, 8, 8), (192, 64, 8, 1), "float32")
    weight, y = Operand((4, 3, 4, 4), (48, 16, 4, 1), "float32"), Operand((2, 4, 8, 8), (256, 64, 8, 1), "float32")
    geometry = (("dilation", (1, 1)), ("post_padding", (2, 2)), ("pre_padding", (1, 1)), ("stride", (1, 1)))
    assert first == Request("conv_fprop", (image, weight, y), geometry, True)
    assert second.operands[0].strides == (192, 1, 24, 3)
    assert second.operands[1] == weight
    assert third == first._replace(exact=False)
    assert len({first, second, third}) == 3


def test_the_stride_of_an_axis_of_one_is_no_matter(host):
    x = np.ones((3, 1, 8, 8), np.float32)
    for view in (x, np.lib.stride_tricks.as_strided(x, strides=(256, 4096, 32, 4)), last(x)):
        TWINS["conv2d_forward"].forward(view, np.ones((4, 1, 3, 3), np.float32))
    assert len(set(host.requests)) == 1


def test_exact_is_ieee_and_fast_allows_tf32():
    x = Operand((1,), (1,), "float32")
    half = x._replace(dtype="float16")
    notes = lambda operand, exact: set(graphs._notes(Request("conv_fprop", (operand,), (), exact)))  # noqa: E731
    assert {"TENSOR_CORE", "DOWN_CONVERT_INPUTS", "NONDETERMINISTIC"} < notes(x, True)
    assert notes(x, False) == {"NONDETERMINISTIC"}
    assert "TENSOR_CORE" not in notes(half, True)
    assert "NONDETERMINISTIC" in notes(half, True)


def test_what_is_not_claimed_is_declined(host):
    forward, supports = (getattr(TWINS["conv2d_forward"], k) for k in ("forward", "supports"))
    x, w = np.ones((2, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
    for given in (
        (x, w.astype("f8")),
        (x[:0], w),
        (x.astype("i4"), w.astype("i4")),
        (x, w, np.ones(4)),
        (x, w.tolist()),
    ):
        assert forward(*given) is NotImplemented
        assert not supports(*given)
    assert not host.requests
    assert supports(x, w)
    host.refused = ("conv_fprop",)
    assert forward(x, w) is NotImplemented


def test_an_output_padding_beyond_the_stride_is_declined(host):
    x, w = np.ones((1, 2, 4, 4)), np.ones((2, 2, 3, 3))
    twin = TWINS["conv_transpose2d_forward"]
    assert twin.forward(x, w, output_padding=1, dilation=2) is NotImplemented
    assert not twin.supports(x, w, output_padding=1, dilation=2)
    assert twin.supports(x, w, None, (2, 3), 1, (1, 2))
    assert not twin.supports(x, w, None, (2, 3), 1, 2)
    assert not host.requests


def test_errors_are_those_of_the_agnostic_functions(host):
    x, w = np.ones((1, 2, 4, 4)), np.ones((2, 3, 3, 3))
    for arguments in ((x, w), (x, w[:, :2], np.ones(5)), (x, w[:, :2], None, 0), (x[:, :, :2], w[:, :2])):
        with xpl.use_kernels("off"), pytest.raises(ValueError) as expected:
            F.conv2d(*arguments)
        with pytest.raises(ValueError) as got:
            TWINS["conv2d_forward"].forward(*arguments)
        assert str(got.value) == str(expected.value)


ATTENTIONS = [  # shapes of query, key and value, arguments
    (((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 16)), {}),
    (((2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8)), {"is_causal": True}),
    (((2, 3, 9, 8), (2, 3, 7, 8), (2, 3, 7, 8)), {"is_causal": True, "scale": 2.0}),
    (((3, 5, 8), (3, 7, 8), (3, 7, 8)), {}),
    (((5, 24), (7, 24), (7, 8)), {"scale": 1}),
    (((2, 2, 3, 5, 8), (2, 2, 3, 7, 8), (2, 2, 3, 7, 8)), {}),
    (((2, 6, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8)), {"enable_gqa": True, "is_causal": True}),
    (((6, 5, 8), (2, 7, 8), (2, 7, 8)), {"enable_gqa": True}),
    (((2, 4, 1, 128), (2, 4, 7, 128), (2, 4, 7, 64)), {}),
]
every_attention = pytest.mark.parametrize(("arrays", "kwargs"), ATTENTIONS)
SDPA = "scaled_dot_product_attention"


def transposed(x):
    """The heads behind the rows in memory, as a projection leaves them."""
    return np.swapaxes(np.ascontiguousarray(np.swapaxes(x, -3, -2)), -3, -2) if x.ndim > 2 else x


@every_attention
@pytest.mark.parametrize("change", [lambda a: a, transposed, lambda a: np.repeat(a, 2, -1)[..., ::2]])
def test_attention_is_the_agnostic_one(place, arrays, kwargs, change):
    got, expected, _ = both(SDPA, arrays, "float16", change, **kwargs)
    close(got, expected, 4e-3)
    assert [r.op for r in place.requests] == ["sdpa", "sdpa_backward", "sdpa_backward"]
    for operand in place.requests[0].operands[:3]:
        assert operand.strides[-1] == 1
        assert len(operand.shape) == 4
    q = place.requests[0].operands[0]
    if change is transposed and len(arrays[0]) == 4 and q.shape[2] > 1:
        assert q.strides[2] == q.shape[1] * q.shape[3], "query was copied"


@every_attention
def test_attention_where_the_backward_is_refused(host, arrays, kwargs):
    host.refused = ("sdpa_backward",)
    got, expected, _ = both(SDPA, arrays, "float16", **kwargs)
    close(got, expected, 1e-2)


def test_attention_keeps_no_matrix_of_weights(host):
    _, _, (twin, dy, cache) = both(SDPA, ((2, 3, 64, 8), (2, 3, 96, 8), (2, 3, 96, 8)), "float16")
    assert max(a.size for a in cache if hasattr(a, "size")) < 64 * 96
    _, dk, _, _ = twin.backward(dy, cache, wanted=(False, True, False, False))
    assert dk.shape == (2, 3, 96, 8)
    assert twin.backward(dy, cache, wanted=(False, True, False, False))[0] is None
    del host.requests[:]
    assert twin.backward(dy, cache, wanted=(False,) * 4) == (None,) * 4
    assert not host.requests


def test_attention_declines_what_it_does_not_claim(host):
    twin = TWINS[f"{SDPA}_forward"]
    q, k = np.ones((2, 4, 5, 8), np.float16), np.ones((2, 4, 7, 8), np.float16)
    calls = [
        ((q.astype("f4"), k.astype("f4"), k.astype("f4")), {}),
        ((q, k, k.astype("f4")), {}),
        ((q, k, k), {"attn_mask": np.ones((5, 7), bool)}),
        ((q, k, k), {"dropout_p": 0.5}),
        ((q, k, k), {"scale": -1.0}),
        ((q, k, k), {"scale": np.ones(())}),
        ((q[..., :4], k[..., :4], k), {}),
        ((q[:1], k, k), {}),
        ((q, k[:, :2], k[:, :2]), {}),
        ((q, k[:, :3], k[:, :3]), {"enable_gqa": True}),
        ((q, k, k[:, :, :6]), {}),
        ((np.ones((2, 4, 5, 136), np.float16), np.ones((2, 4, 7, 136), np.float16), k), {}),
        ((q, k[:, :, :0], k[:, :, :0]), {}),
    ]
    for given, named in calls:
        assert twin.forward(*given, **named) is NotImplemented
        assert not twin.supports(*given, **named)
    assert not host.requests
    host.refused = ("sdpa",)
    assert twin.forward(q, k, k) is NotImplemented


# -- the look-up --


def posing():
    """A type of NumPy arrays that the look-up takes for CuPy's, its own in every test: the look-up keeps types."""
    return type("ndarray", (np.ndarray,), {"__module__": "cupy"})


@pytest.fixture
def cudnn(monkeypatch):
    """A stand-in for the frontend, on a card that is in order, before anything has been looked for."""
    frontend = types.ModuleType("cudnn")
    frontend.__spec__ = ModuleSpec("cudnn", None)
    frontend.backend_version, frontend.create_handle, frontend.destroy_handle = (
        lambda: 92800,
        object,
        lambda handle: None,
    )
    monkeypatch.setitem(sys.modules, "cudnn", frontend)
    monkeypatch.setattr(cards, "lacks_card", lambda: None)
    monkeypatch.setattr(registry._state, "absent", {})
    monkeypatch.setattr(registry._state, "twins", dict(registry._state.twins))
    for means in registry._MEANS["cupy"]:
        monkeypatch.setattr(means, "loaded", means.name != "cudnn")
    return frontend


def no_handle():
    raise RuntimeError("CUDNN_STATUS_NOT_INITIALIZED\nand more")


LACKS = {
    "absent": (
        lambda m, cudnn: m.setitem(sys.modules, "cudnn", None),
        'nvidia-cudnn-frontend is not installed. Mend: pip install "xplayers[cudnn]"',
    ),
    "too old": (
        lambda m, cudnn: m.setattr(cudnn, "backend_version", lambda: 8907),
        'cuDNN 8907 is too old: 9.0 or newer is needed. Mend: pip install "xplayers[cudnn]"',
    ),
    "no handle": (
        lambda m, cudnn: m.setattr(cudnn, "create_handle", no_handle),
        "cuDNN gives no handle: RuntimeError: CUDNN_STATUS_NOT_INITIALIZED",
    ),
    "no card": (
        lambda m, cudnn: m.setattr(cards, "lacks_card", lambda: "no CUDA device"),
        "no CUDA device",
    ),
}


@pytest.mark.parametrize("case", LACKS)
def test_what_lacks_is_said_and_the_agnostic_path_taken(monkeypatch, cudnn, case):
    spoil, text = LACKS[case]
    spoil(monkeypatch, cudnn)
    registry._state.twins["cupy", F.conv2d_forward] = ()  # as where the module was never loaded
    rng, kind = seeded(case), posing()
    x, w = rng.standard_normal((2, 3, 5, 5)), rng.standard_normal((4, 3, 3, 3))
    y, _ = F.conv2d_forward(x.view(kind), w.view(kind))
    np.testing.assert_array_equal(y, F.conv2d(x, w))
    assert xpl.kernels.status()["absent"]["cudnn"] == text
    with xpl.use_kernels("require"), pytest.raises(RuntimeError) as e:
        F.conv2d_forward(x.view(posing()), w.view(posing()))
    assert f"kernels are required and cannot be loaded: cudnn: {text}" in str(e.value)


def test_where_nothing_lacks_the_twins_are_reached(cudnn, host):
    kind = posing()
    x, w = np.ones((2, 3, 5, 5)).view(kind), np.ones((4, 3, 3, 3)).view(kind)
    y, cache = F.conv2d_forward(x, w)
    with xpl.use_kernels("off"):  # the cache decides
        F.conv2d_backward(y, cache)
    F.scaled_dot_product_attention(*(np.ones((1, 2, 3, 8), np.float16).view(kind),) * 3)
    assert [r.op for r in host.requests] == ["conv_fprop", "conv_dgrad", "conv_wgrad", "sdpa"]
    assert "cudnn" not in xpl.kernels.status()["absent"]
    assert xpl.kernels.status()["kernels"]["cudnn:conv2d_forward"]["answered"]
    host.refused = ("conv_fprop",)
    y, cache = F.conv2d_forward(x, w)  # declined: the agnostic pair
    assert np.all(y == 27)
    assert xpl.kernels.status()["kernels"]["cudnn:conv2d_forward"]["declined"]
    with xpl.use_kernels("require"), pytest.raises(RuntimeError, match="cudnn:conv2d_forward declined"):
        F.conv2d_forward(x, w)


class Recorder(Host):
    """Takes CuPy arrays that stand for no memory, and writes nothing."""

    @staticmethod
    def takes(x):
        return x.data.ptr % 16 == 0

    def execute(self, request, arrays):
        self.requests.append(request)


def test_cupy_arrays_reach_the_twins(monkeypatch):
    cupy = pytest.importorskip("cupy")
    monkeypatch.setattr(graphs, "executor", Recorder())

    def allocate(size):
        return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(1 << 40, max(size, 1), None, 0), 0)

    with cupy.cuda.using_allocator(allocate):
        x = cupy.ndarray((2, 8, 8, 3), np.float32).transpose(0, 3, 1, 2)  # channels last
        y, cache = F.conv2d_forward(x, cupy.ndarray((4, 3, 3, 3), np.float32), padding=1)
        dx, dw, db = F.conv2d_backward(y, cache)
        q = cupy.ndarray((2, 5, 3, 8), "bfloat16").transpose(0, 2, 1, 3)
        z, cache = F.scaled_dot_product_attention_forward(q, q, q, is_causal=True)
        F.scaled_dot_product_attention_backward(z, cache)
    forward, dgrad, wgrad, attend, back = graphs.executor.requests
    assert forward.operands[0] == Operand((2, 3, 8, 8), (192, 1, 24, 3), "float32")
    assert forward.operands[1].strides == (27, 9, 3, 1)
    assert forward.operands[2].strides == dgrad.operands[0].strides == (256, 1, 32, 4)
    assert wgrad.operands[0] == forward.operands[0]
    assert (dx.shape, dw.shape, db) == (x.shape, (4, 3, 3, 3), None)
    assert attend.operands[0] == Operand((2, 3, 5, 8), (120, 8, 24, 1), "bfloat16")
    assert back.operands[5] == Operand((2, 3, 5, 1), (15, 5, 1, 1), "float32")


# -- the executor --


class Frontend(types.SimpleNamespace):
    """A stand-in for cudnn that counts its graphs, and refuses those of an image with 7 channels."""

    cudnnGraphNotSupportedError = type("cudnnGraphNotSupportedError", (Exception,), {})

    def __init__(self):
        names = lambda *n: types.SimpleNamespace(**{k: k for k in n})  # noqa: E731
        super().__init__(
            data_type=names("HALF", "BFLOAT16", "FLOAT", "DOUBLE"),
            heur_mode=names("A", "FALLBACK"),
            numerical_note=names("NONDETERMINISTIC", *graphs._INEXACT, *graphs._TF32),
            built=[],
            streams=[],
            handles=[],
        )

    def pygraph(self, **where):
        self.built.append(Graph(self, where))
        return self.built[-1]

    def create_handle(self):
        self.handles.append(object())
        return self.handles[-1]

    def destroy_handle(self, handle):
        self.handles.remove(handle)

    def set_stream(self, handle, stream):
        self.streams.append(stream)


class Graph:
    def __init__(self, frontend, where):
        self.frontend, self.where, self.calls, self.runs = frontend, where, {}, []

    def __getattr__(self, name):
        return lambda *given, **named: self.calls.setdefault(name, (given, named)) and self

    def tensor(self, **named):
        return named

    def check_support(self):
        if self.calls["conv_fprop"][1]["image"]["dim"][1] == 7:
            raise self.frontend.cudnnGraphNotSupportedError("no 7 channels")

    def get_workspace_size(self):
        return 96

    def execute(self, pointers, workspace, handle):
        self.runs.append((pointers, workspace, handle))


class Device:
    id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def operand(*shape):
    return Operand(shape, tuple(np.cumprod((1, *shape[:0:-1]))[::-1].tolist()), "float32")


@pytest.fixture
def frontend(monkeypatch):
    """The stand-in, with a CuPy whose stream and memory are numbers."""
    cudnn = Frontend()
    pointer = types.SimpleNamespace(ptr=4096)
    cuda = types.SimpleNamespace(alloc=lambda size: pointer, get_current_stream=lambda: types.SimpleNamespace(ptr=5))
    monkeypatch.setitem(sys.modules, "cudnn", cudnn)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=cuda))
    return cudnn


def arrays_at(*pointers):
    return tuple(types.SimpleNamespace(device=Device(), data=types.SimpleNamespace(ptr=p)) for p in pointers)


def a_request(channels=3):
    x, w, y = operand(2, channels, 8, 8), operand(4, channels, 3, 3), operand(2, 4, 6, 6)
    options = (("dilation", (1, 1)), ("post_padding", (0, 0)), ("pre_padding", (0, 0)), ("stride", (1, 1)))
    return Request("conv_fprop", (x, w, y), options, True)


def test_a_plan_is_made_once_and_executed_on_the_current_stream(frontend):
    executor = graphs.Executor()
    for pointers in ((16, 32, 48), (160, 320, 480)):
        executor.execute(a_request(), arrays_at(*pointers))
    (graph,), (handle,) = frontend.built, frontend.handles
    assert graph.runs == [({1: 16, 2: 32, 3: 48}, 4096, handle), ({1: 160, 2: 320, 3: 480}, 4096, handle)]
    assert frontend.streams == [5, 5]
    assert graph.where["handle"] is handle
    _, asked = graph.calls["conv_fprop"]
    assert asked["image"] == {
        "dim": [2, 3, 8, 8],
        "stride": [192, 64, 8, 1],
        "data_type": "FLOAT",
        "uid": 1,
        "name": "image",
    }
    assert asked["stride"] == [1, 1]
    assert {"TENSOR_CORE", "DOWN_CONVERT_INPUTS", "NONDETERMINISTIC"} < set(graph.calls["deselect_numeric_notes"][0][0])
    executor.execute(a_request()._replace(exact=False), arrays_at(16, 32, 48))
    assert len(frontend.built) == 2


def test_what_is_refused_is_not_planned_again(frontend):
    executor = graphs.Executor()
    for _ in range(2):
        with pytest.raises(Refused, match="no 7 channels"):
            executor.execute(a_request(7), arrays_at(16, 32, 48))
    assert len(frontend.built) == 1
    assert executor.refused == {(0, a_request(7)): "no 7 channels"}


def test_a_thread_has_a_handle_of_its_own_and_few_plans(frontend, monkeypatch):
    executor = graphs.Executor()
    monkeypatch.setattr(graphs, "_PLANS", 2)
    for channels in (3, 4, 5, 5, 3):
        executor.execute(a_request(channels), arrays_at(16, 32, 48))
    assert len(frontend.built) == 4, "the oldest of three goes"
    thread = threading.Thread(target=executor.execute, args=(a_request(), arrays_at(16, 32, 48)))
    thread.start()
    thread.join()
    assert len(frontend.built) == 5
    executor.release()
    gc.collect()
    assert not frontend.handles


# -- plans for a card that is not there --

H100 = """{
"deviceName": "NVIDIA H100", "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0, "pciDeviceId": 0,
"isTccDriver": 0, "multiProcessorCount": 132, "smCountOrigin": 0, "warpSize": 32, "supportCoopLaunch": 1,
"smClockRateKHz": 1980000, "memClockRateKHz": 2619000, "memoryBusWidth": 5120, "totalGlobalMem": 85899345920,
"maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "maxCtasPerSM": 32,
"maxThreadsPerSM": 2048, "maxThreadsPerBlock": 1024, "regsPerBlock": 65536, "maxRegistersPerSM": 65536,
"maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024,
"oversizedSharedMemoryPerBlock": 0, "l2CacheSize": 52428800}"""
COMPILED = ("no plan", "cuLibraryLoadData")  # in the words of an error: the kernel is compiled, and wants a driver


def requests_of_all():
    """What the twins ask for: dtypes, both layouts and policies, groups, dilation, paddings, 1 to 3 dimensions."""
    host = graphs.executor = Host()
    for name, arrays, kwargs in CONVOLUTIONS:
        halves = () if kwargs.get("groups", 1) == arrays[0][1] else ("float16", "bfloat16")  # seconds to compile
        for dtype in ("float32", "float64", *halves):
            for change in (lambda a: a, lambda a: last(a) if a.ndim > 1 else a):
                for policy in ("exact", "fast") if dtype == "float32" else ("exact",):
                    with xpl.use_kernels(precision=policy):
                        both(name, arrays, dtype, change, **kwargs)
    both(SDPA, ((2, 4, 128, 64),) * 3, "float16", transposed, is_causal=True)
    return list(dict.fromkeys(host.requests))


def plan_all():
    """Prints what lacks, or a request's error, or None, of each."""
    try:
        import cudnn

        cudnn.backend_version()
        where = {
            "device_property": cudnn.create_device_properties(H100),
            "sm_version": 900,
            "sm_count": 132,
        }
    except Exception as e:
        return print(json.dumps({"lacks": f"{type(e).__name__}: {e}"}))
    found = []
    for request in requests_of_all():
        error = None
        try:
            graphs.build(request, **where)
        except Exception as e:
            error = f"{type(e).__name__}: {e}"
        found.append((str(request), error))
    print(json.dumps({"planned": found}))


def test_plans_are_made_for_all_that_is_claimed():
    command = [sys.executable, "-c", "from tests.test_cudnn import plan_all; plan_all()"]  # cuDNN aborts where it lacks
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode < 0 and "cublasLt" in done.stderr:
        pytest.skip("NOT RUN: cuDNN lacks cuBLASLt")
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    if "lacks" in answer:
        pytest.skip(f"NOT RUN: no libcudnn that plans without a card: {answer['lacks']}")
    assert len(answer["planned"]) > 300
    failed = {request: e for request, e in answer["planned"] if e and not all(word in e for word in COMPILED)}
    assert not failed
