"""What no row of the table says of the normalisations: tracking under threads, assigned sizes, many processes."""

import threading

import numpy as np
import pytest
import torch

import xplayers as xpl
import xplayers.functional as F
from tests.backends import load


def test_sizes_come_from_what_is_assigned():
    rng = np.random.default_rng(0)
    x, w, b, dy = rng.random((3, 5)), rng.random(5), rng.random(5), rng.random((3, 5))
    layer = xpl.BatchNorm1d()
    layer.weight, layer.bias = w, b
    y, dx = layer(x), layer.backward(dy)
    t = torch.nn.BatchNorm1d(5).double()
    t.weight.data, t.bias.data = torch.tensor(w), torch.tensor(b)
    tx = torch.tensor(x, requires_grad=True)
    ty = t(tx)
    ty.backward(torch.tensor(dy))
    for ours, theirs in (
        (y, ty.detach()),
        (dx, tx.grad),
        (layer.dw, t.weight.grad),
        (layer.db, t.bias.grad),
        (layer.running_mean, t.running_mean),
        (layer.running_var, t.running_var),
    ):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-14)
    assert layer.num_features == 5
    assert repr(layer) == "BatchNorm1d(5)"


def test_a_layer_without_sizes_takes_a_state_dict():
    layer = xpl.BatchNorm2d()
    layer.load_state_dict(torch.nn.BatchNorm2d(3).state_dict())
    assert layer(torch.ones(2, 3, 2, 2)).shape == (2, 3, 2, 2)


def test_running_statistics_count_every_thread():
    layer, n = xpl.BatchNorm1d(2, momentum=None), 40
    batches = [np.full((4, 2), float(i)) + np.arange(4.0)[:, None] for i in range(n)]
    layer(batches[0])  # settles
    layer.num_batches_tracked = np.asarray(0)
    layer.running_mean = np.zeros(2)

    def work(part):
        for x in part:
            layer(x)

    threads = [threading.Thread(target=work, args=(batches[i::4],)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert layer.num_batches_tracked == n
    np.testing.assert_allclose(layer.running_mean, np.mean([b.mean(0) for b in batches], axis=0))


def test_arrays_that_were_handed_out_stay_as_they_were():
    layer = xpl.BatchNorm1d(3)
    x = np.random.default_rng(0).random((4, 3))
    layer(x)
    held = layer.running_mean
    before = held.copy()
    layer(x)
    np.testing.assert_array_equal(held, before)
    assert layer.running_mean is not held


class _Processes:
    """Threads in step, each with its part of the batch; `reduce` adds up over all."""

    def __init__(self, n):
        self.n, self.parts = n, [None] * n
        self.barrier = threading.Barrier(n)

    def reduce_of(self, rank):
        def reduce(x):
            self.parts[rank] = x
            self.barrier.wait()
            out = sum(self.parts[1:], self.parts[0])
            self.barrier.wait()
            return out

        return reduce

    def run(self, f):
        out = [None] * self.n
        threads = [threading.Thread(target=lambda i=i: out.__setitem__(i, f(i))) for i in range(self.n)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        return out


@pytest.mark.parametrize("sizes", [(2, 3), (1, 4), (0, 5), (1, 1, 2)])
@pytest.mark.parametrize("name", ["numpy", "strict", "torch", "jax"])
def test_sync_batch_norm_of_parts_is_batch_norm_of_the_whole(sizes, name):
    backend, why = load(name)
    if backend is None:
        pytest.skip(why)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, sum(sizes), 3, 2)) + 3.0
    w, b = rng.standard_normal((2, 3))
    whole = xpl.BatchNorm1d(3)
    whole.load_state_dict({"weight": w, "bias": b, "running_mean": w, "running_var": b**2})
    y, dx = whole(x), whole.backward(dy)
    cuts = np.cumsum((0, *sizes))
    group = _Processes(len(sizes))

    def process(i):
        layer = xpl.SyncBatchNorm(3, reduce=group.reduce_of(i))
        state = {"weight": w, "bias": b, "running_mean": w, "running_var": b**2}
        layer.load_state_dict({k: backend.asarray(v, "float64") for k, v in state.items()})
        part = slice(cuts[i], cuts[i + 1])
        y = layer(backend.asarray(x[part], "float64"))
        dx = layer.backward(backend.asarray(dy[part], "float64"))
        return [backend.numpy(a) for a in (y, dx, layer.dw, layer.db, layer.running_mean, layer.running_var)]

    ys, dxs, dws, dbs, means, variances = zip(*group.run(process), strict=True)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)  # noqa: E731
    close(np.concatenate(ys), y)
    close(np.concatenate(dxs), dx)
    close(sum(dws), whole.dw)
    close(sum(dbs), whole.db)
    for mean, variance in zip(means, variances, strict=True):
        close(mean, whole.running_mean)
        close(variance, whole.running_var)


def test_moments_are_those_of_the_batch():
    x = np.random.default_rng(0).random((2, 3, 4))
    mean, var, count = F.batch_norm_moments(F.batch_norm_forward(x, None, None, training=True)[1])
    np.testing.assert_allclose(mean, x.mean((0, 2)))
    np.testing.assert_allclose(var, x.var((0, 2)))
    assert count == 8
    mean, var, count = F.instance_norm_moments(F.instance_norm_forward(x)[1])
    np.testing.assert_allclose(mean.reshape(2, 3), x.mean(2))
    np.testing.assert_allclose(var.reshape(2, 3), x.var(2))
    assert count == 4


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: F.group_norm(x, 2),
        lambda x: F.instance_norm(x),
        lambda x: F.layer_norm(x, x.shape[-1:]),
    ],
)
def test_a_mean_far_above_the_spread_does_no_harm(norm):
    x = (np.random.default_rng(0).standard_normal((4, 4, 500)) + 1e4).astype(np.float32)
    np.testing.assert_allclose(norm(x), norm(x.astype(np.float64)), rtol=0, atol=5e-3)


def test_rms_norm_takes_eps_from_the_dtype():
    for dtype in (torch.float64, torch.float32, torch.float16):
        x = torch.full((2, 3), 1e-3, dtype=dtype)
        ours = F.rms_norm(x.numpy(), (3,))
        np.testing.assert_allclose(
            ours, torch.nn.functional.rms_norm(x, (3,)).numpy(), rtol=1e-6 if dtype != torch.float16 else 1e-3
        )


@pytest.mark.parametrize("without", [(), ("numba",)])
def test_channels_of_weight_zero_take_part_in_silence(without):
    """A warning of NumPy's would be an error here."""
    x, dy = np.random.default_rng(0).standard_normal((2, 4, 8, 70, 66)).astype(np.float32)
    weight = np.arange(8, dtype=np.float32) % 3
    with xpl.use_kernels(without=without):
        y, cache = F.batch_norm_forward(x, None, None, weight, training=True)
        dx = F.batch_norm_backward(dy, cache)[0]
    assert not y[:, ::3].any()
    assert not dx[:, ::3].any()
    assert dx[:, 1::3].all()
