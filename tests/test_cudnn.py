"""The twins through cuDNN without a card: a host computes what each graph is asked for, from the request alone.

Whole twins are compared in numbers with the agnostic functions, fake CuPy arrays show that the dispatch reaches them,
and where libcudnn is there, plans are made for an H100 that need not be.
"""

import numpy as np
import pytest
import torch

import xplayers as xpl
import xplayers.functional as F
from tests.cases import seeded
from xplayers.kernels import registry
from xplayers.kernels.on_cudnn import graphs  # registers the twins, which needs no card
from xplayers.kernels.on_cudnn.graphs import Operand, Refused, Request

MEANS = {m.name: m for m in registry._MEANS["cupy"]}
HELD = {k: tuple(t for t in held if t.means == "cudnn") for k, held in registry._state.twins.items() if k[0] == "cupy"}
TWINS = {reference.__name__: twins[0] for (_, reference), twins in HELD.items() if twins}


@pytest.fixture(autouse=True, scope="module")
def _registered_here_alone():
    """Nobody else's fake CuPy arrays are to meet these twins."""
    yield
    for _, reference in HELD:
        registry.unregister("cupy", reference, "cudnn")


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


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(graphs, "executor", Host())
    return graphs.executor


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
    answer = twin.forward(*given, **kwargs)
    assert answer is not NotImplemented
    y, cache = answer
    got = (y, *twin.backward(dy, cache))
    for a, b in zip(given, before, strict=True):
        assert a is None or np.array_equal(a, b), "an argument was written to"
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
def test_convolutions_are_the_agnostic_ones(host, name, arrays, kwargs, dtype):
    got, expected, _ = both(name, arrays, dtype, **kwargs)
    close(got, expected, {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}[dtype])
    assert len(host.requests) == 3
    assert got[0].dtype == dtype
    assert {o.dtype for r in host.requests for o in r.operands} == {dtype}


@every_convolution
def test_channels_last_stays_so(host, name, arrays, kwargs):
    change = lambda a: last(a) if a.ndim > 1 else a  # noqa: E731
    got, expected, _ = both(name, arrays, change=change, **kwargs)
    close(got, expected, 1e-12)
    if len(arrays[0]) == len(arrays[1]):
        forward, *backward = host.requests
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
    assert TWINS["conv_transpose2d_forward"].forward(x, w, output_padding=1, dilation=2) is NotImplemented
    assert not host.requests


def test_errors_are_those_of_the_agnostic_functions(host):
    x, w = np.ones((1, 2, 4, 4)), np.ones((2, 3, 3, 3))
    for arguments in ((x, w), (x, w[:, :2], np.ones(5)), (x, w[:, :2], None, 0), (x[:, :, :2], w[:, :2])):
        with xpl.use_kernels("off"), pytest.raises(ValueError) as expected:
            F.conv2d(*arguments)
        with pytest.raises(ValueError) as got:
            TWINS["conv2d_forward"].forward(*arguments)
        assert str(got.value) == str(expected.value)
