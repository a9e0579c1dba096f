"""Whole networks on NumPy: training is the same bit for bit a second time, and the same to rounding whatever the
kernels, the threads and the precision; many threads may use one network; nothing is kept after inference."""

import gc
import threading
import tracemalloc

import numpy as np
import pytest

import xplayers as xpl


def convolutional(seed):
    """A network large enough for the kernels of its layers, its images and their labels."""
    rng = np.random.default_rng(seed)
    net = xpl.Sequential(
        xpl.Conv2d(3, 32, 3, padding=1, rng=rng),
        xpl.BatchNorm2d(32),
        xpl.ReLU(),
        xpl.MaxPool2d(2),
        xpl.Conv2d(32, 32, 3, padding=1, groups=32, rng=rng),
        xpl.GELU(),
        xpl.Conv2d(32, 48, 1, rng=rng),
        xpl.Dropout(0.1, rng=rng),
        xpl.Conv2d(48, 48, 3, padding=1, stride=2, rng=rng),
        xpl.SiLU(),
        xpl.AdaptiveAvgPool2d(1),
        xpl.Flatten(),
        xpl.Linear(48, 10, rng=rng),
    )
    x = rng.standard_normal((8, 3, 32, 32)).astype(np.float32)
    return net, x, rng.integers(0, 10, 8)


def transforming(seed):
    rng = np.random.default_rng(seed)
    net = xpl.Sequential(
        xpl.Embedding(500, 64, rng=rng),
        xpl.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True, rng=rng),
        xpl.LayerNorm(64),
        xpl.Linear(64, 500, rng=rng),
        xpl.Flatten(0, 1),
    )
    return net, rng.integers(0, 500, (8, 64)), rng.integers(0, 500, 8 * 64)


def trained(build, steps=3, **kernels):
    """Losses and parameters after a few steps."""
    net, x, labels = build(5)
    loss, optimizer = xpl.CrossEntropyLoss(), xpl.optim.AdamW(net, lr=1e-3)
    losses = []
    with xpl.use_kernels(**kernels):
        for _ in range(steps):
            losses.append(float(loss(net(x), labels)))
            net.backward(loss.backward(), input_grad=False)
            optimizer.step()
            net.zero_grad()
    return losses, {k: np.array(v) for k, v in net.state_dict().items()}


BUILDS = pytest.mark.parametrize("build", [convolutional, transforming])


@BUILDS
def test_a_second_run_is_the_same_bit_for_bit(build):
    (losses, first), (again, second) = trained(build), trained(build)
    assert losses == again
    for k, v in first.items():
        np.testing.assert_array_equal(v, second[k])


@BUILDS
@pytest.mark.parametrize(
    "kernels",
    [{"mode": "off"}, {"mode": "require"}, {"without": ("numba",)}, {"precision": "fast"}],
    ids=["off", "require", "without numba", "fast"],
)
def test_kernels_change_rounding_alone(build, kernels):
    losses, _ = trained(build)
    others, _ = trained(build, **kernels)
    np.testing.assert_allclose(losses, others, rtol=2e-4)


@BUILDS
def test_threads_change_nothing(build, use_threads):
    found = []
    for n in (1, 2, 4):
        use_threads(n)
        found.append(trained(build, steps=2))
    for losses, state in found[1:]:
        np.testing.assert_allclose(losses, found[0][0], rtol=1e-6)
        for k, v in state.items():
            np.testing.assert_allclose(v, found[0][1][k], rtol=1e-3, atol=1e-5)


@BUILDS
def test_eight_threads_use_one_network(build):
    net, x, _ = build(7)
    net.eval()  # no dropout, and the statistics stand still
    parts = [x[i : i + 4] for i in range(0, 8, 4)] * 4
    wanted = []
    for part in parts:
        tape = xpl.Tape()
        y = net.forward(part, tape=tape)
        net.backward(np.ones_like(y), tape=tape, input_grad=False)
        wanted.append(y)
    sums = {k: g.copy() for k, g in net.grads.items()}
    net.zero_grad()
    got, errors = [None] * len(parts), []

    def work(i):
        try:
            own = xpl.Tape()
            got[i] = net.forward(parts[i], tape=own)
            net.backward(np.ones_like(got[i]), tape=own, input_grad=False)
        except Exception as e:
            errors.append(e)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert not errors
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5)
    for k, s in sums.items():
        np.testing.assert_allclose(net.grads[k], s, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(s).max()))


@BUILDS
def test_nothing_is_kept_after_inference(build):
    net, x, _ = build(7)
    net.eval()
    net(x)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            net(x)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept < 50_000, f"{kept} bytes are held after three calls in evaluation"
