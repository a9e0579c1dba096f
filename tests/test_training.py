"""Recorded steps, the scale of losses and master weights: the numbers of the eager step, on every library."""

import numpy as np
import pytest

import xplayers as xpl
from tests.cases import seeded
from xplayers.arrays import array_namespace, to_numpy
from xplayers.training.capture import Captured


def network(seed=0):
    rng = np.random.default_rng(seed)
    return xpl.Sequential(
        xpl.Conv2d(2, 4, 3, rng=rng), xpl.BatchNorm2d(4), xpl.ReLU(), xpl.Flatten(), xpl.Linear(4 * 16, 3, rng=rng)
    )


def batches(count):
    rng = seeded("batches")
    return [(rng.standard_normal((5, 2, 6, 6)).astype("f4"), rng.integers(0, 3, 5)) for _ in range(count)]


def stepping(net, optimizer):
    loss = xpl.CrossEntropyLoss()

    def step(x, labels):
        net.zero_grad()
        value = loss(net(x), labels)
        net.backward(loss.backward(), input_grad=False)
        optimizer.step()
        return value

    return step


OPTIMIZERS = {
    "SGD": lambda net: xpl.optim.SGD(net, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda net: xpl.optim.Adam(net, lr=0.01, capturable=True),
    "AdamW": lambda net: xpl.optim.AdamW(net, lr=0.01, capturable=True),
    "amsgrad": lambda net: xpl.optim.Adam(net, lr=0.01, amsgrad=True, capturable=True),
    "RMSprop": lambda net: xpl.optim.RMSprop(net, lr=0.01, centered=True, momentum=0.5),
}


class HostGraphs:
    """In the place of CUDA graphs: a recording leaves the numbers as they were, and a launch runs the step again.

    Like a graph it works on the arrays that it met: what it is launched on lies in their memory, and so do its answers.
    """

    def __init__(self, *states):
        self.states, self.launches = states, 0

    @staticmethod
    def takes(x):
        return isinstance(x, np.ndarray)

    def run(self, work):
        return work()

    def arrays(self):
        for state in self.states:
            yield from (v for v in state().values() if isinstance(v, np.ndarray))

    def record(self, work):
        held = [(x, x.copy()) for x in self.arrays()]
        answer = work()
        assert {id(x) for x, _ in held} == {id(x) for x in self.arrays()}, "a state lies elsewhere after a recording"
        for x, before in held:
            x[...] = before
        return (work, answer), answer

    def is_about_recording(self, error):
        return "StreamCapture" in str(error)

    def launch(self, graph):
        work, answer = graph
        self.launches += 1
        answer[...] = work()


def flat(optimizer):
    return {(k, n): v for k, s in optimizer.state.items() for n, v in s.items()}


def captured(net, optimizer):
    made = xpl.training.capture(stepping(net, optimizer))
    made.graphs = HostGraphs(net.state_dict, lambda: flat(optimizer))
    return made


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_recorded_step_gives_the_numbers_of_the_eager_one(name):
    here, there = network(), network()
    eager = stepping(here, OPTIMIZERS[name](here))
    with xpl.use_kernels("off"):  # kernels for NumPy look at the count
        recorded = captured(there, OPTIMIZERS[name](there))
        for x, labels in batches(7):
            expected, got = eager(x, labels), recorded(x, labels)
            np.testing.assert_allclose(got, expected, rtol=1e-6)
            for key, value in here.state_dict().items():
                np.testing.assert_allclose(there.state_dict()[key], value, rtol=1e-5, atol=1e-7, err_msg=key)
            for key, value in here.grads.items():
                np.testing.assert_allclose(there.grads[key], value, rtol=1e-5, atol=1e-6, err_msg=key)
    assert recorded.graphs.launches == 5  # two calls warm up


def test_every_shape_has_a_graph_of_its_own():
    net = network()
    recorded = captured(net, xpl.optim.SGD(net))
    whole, rest = batches(2)
    for _ in range(3):
        recorded(*whole)
        recorded(rest[0][:3], rest[1][:3])
    assert len(recorded._recorded) == 2


def test_clipped_gradients_are_what_a_recorded_step_leaves():
    here, there = network(), network()

    def clipping(net):
        optimizer, loss = xpl.optim.SGD(net, lr=0.1), xpl.CrossEntropyLoss()

        def step(x, labels):
            net.zero_grad()
            value = loss(net(x), labels)
            net.backward(loss.backward(), input_grad=False)
            xpl.optim.clip_grad_norm(net, 0.01)
            optimizer.step()
            return value

        return step, optimizer

    eager, _ = clipping(here)
    step, optimizer = clipping(there)
    recorded = xpl.training.capture(step)
    recorded.graphs = HostGraphs(there.state_dict, lambda: flat(optimizer))
    for x, labels in batches(5):
        eager(x, labels)
        recorded(x, labels)
    for key, value in here.grads.items():
        np.testing.assert_allclose(there.grads[key], value, rtol=1e-4, atol=1e-7)


def test_gradients_stand_where_the_step_left_them():
    net = network()
    recorded = captured(net, xpl.optim.SGD(net))
    for x, labels in batches(4):
        recorded(x, labels)
        net.zero_grad()
    recorded(x, labels)
    assert set(net.grads) == set(net.params)


def test_on_other_libraries_the_step_is_called(backend):
    net = network().to(like=backend.asarray(np.zeros(1, "f4")))
    recorded = xpl.training.capture(stepping(net, xpl.optim.SGD(net, lr=0.1)))
    if backend.name == "cupy":
        pytest.skip("it is recorded there")
    losses = [float(recorded(backend.asarray(x), backend.asarray(t))) for x, t in batches(1) * 4]
    assert losses[-1] < losses[0]


def refused(net, optimizer, match, step=None):
    recorded = captured(net, optimizer)
    recorded.step = step or recorded.step
    (batch,) = batches(1)
    for _ in range(2):
        recorded(*batch)
    before = dict(net.state_dict())
    with pytest.raises(RuntimeError, match=match):
        recorded(*batch)
    assert all(v is before[k] for k, v in net.state_dict().items())


def test_a_count_of_the_host_is_refused():
    net = network()
    refused(net, xpl.optim.Adam(net), "'capturable': got False in a step that is recorded.*capturable=True")


def test_draws_of_the_host_are_refused():
    net = xpl.Sequential(xpl.Flatten(), xpl.Dropout(0.5, rng=xpl.random.Key(0)), xpl.Linear(72, 3))
    optimizer = xpl.optim.SGD(net)
    mask = np.ones((5, 72), np.float32)

    def step(x, labels):
        optimizer.zero_grad()
        xpl.random.Key(0).uniform((3,), mask)
        return net(x)

    refused(net, optimizer, "a draw in a step that is recorded.*pass the mask in", step)


def test_a_gradient_from_outside_is_refused():
    net = network()
    optimizer, loss = xpl.optim.SGD(net), xpl.CrossEntropyLoss()

    def step(x, labels):
        value = loss(net(x), labels)
        net.backward(loss.backward())
        return value

    refused(net, optimizer, "a gradient from before the step.*net.zero_grad", step)


def test_waiting_for_the_card_is_refused_in_words():
    net = network()
    optimizer, calls = xpl.optim.SGD(net), []

    def step(x, labels):
        calls.append(net(x))
        if len(calls) > 2:
            raise OSError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
        return calls[-1].sum()

    refused(
        net, optimizer, r"waits for the card \(OSError: cudaErrorStreamCaptureUnsupported.*Mend: move float\(\)", step
    )


def test_other_errors_of_a_step_are_its_own():
    net = network()
    recorded = captured(net, xpl.optim.SGD(net))
    with pytest.raises(ValueError, match="Conv2d"):
        recorded(np.ones((5, 3, 6, 6), "f4"), np.zeros(5, int))
    with pytest.raises(TypeError, match=r"'args': got ndarray, int.*close over all else"):
        recorded(np.ones((5, 2, 6, 6), "f4"), 3)
    assert isinstance(recorded, Captured)


# -- counts on the device --


@pytest.mark.parametrize("options", [{}, {"amsgrad": True, "weight_decay": 0.1}, {"betas": (0.0, 0.9)}])
def test_a_count_on_the_device_changes_nothing(backend, options):
    nets = [xpl.Linear(3, 2, rng=np.random.default_rng(0)).to(like=backend.asarray(np.zeros(1))) for _ in range(2)]
    optimizers = [xpl.optim.Adam(n, lr=0.1, capturable=c, **options) for n, c in zip(nets, (False, True), strict=True)]
    rng = seeded("counts")
    for i in range(4):
        dx = rng.standard_normal((2, 3))
        for net, optimizer in zip(nets, optimizers, strict=True):
            net.grads["weight"] = backend.asarray(dx)
            optimizer.step()
        np.testing.assert_allclose(to_numpy(nets[1].weight), to_numpy(nets[0].weight), rtol=1e-12)
        step = optimizers[1].state["weight"]["step"]
        assert backend.at_home(step) is None
        assert float(step) == i + 1
        if i == 1:  # a state taken and given back goes on
            again = xpl.optim.Adam(nets[1], lr=0.1, capturable=True, **options)
            again.load_state_dict(optimizers[1].state_dict())
            optimizers[1] = again


# -- half precision --

HALVES = ["float16", "bfloat16"]


def half_like(backend, dtype):
    if not hasattr(backend.xp, dtype):
        pytest.skip(f"this library has no {dtype}")
    return backend.xp.astype(backend.asarray(np.zeros(1, "f4")), getattr(backend.xp, dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_master_weights_are_the_weights_of_float32_rounded(backend, dtype):
    like = half_like(backend, dtype)
    xp = array_namespace(like)
    half, whole = (xpl.Linear(3, 2, rng=np.random.default_rng(0)).to(like=like) for _ in range(2))
    whole.to(dtype=xp.float32)
    optimizers = [xpl.optim.AdamW(net, lr=1e-4, master_weights=True) for net in (half, whole)]
    rng = seeded("master")
    for _ in range(20):
        dx = xp.astype(backend.asarray(rng.standard_normal((2, 3)).astype("f4")), like.dtype)
        half.grads["weight"], whole.grads["weight"] = dx, xp.astype(dx, xp.float32)
        for optimizer in optimizers:
            optimizer.step()
    rounded = xp.astype(whole.weight, like.dtype)
    np.testing.assert_array_equal(
        to_numpy(xp.astype(half.weight, xp.float32)), to_numpy(xp.astype(rounded, xp.float32))
    )
    again = xpl.optim.AdamW(half, lr=1e-4, master_weights=True)
    again.load_state_dict(optimizers[0].state_dict())
    assert "master" in again.state["weight"]
    half.weight = xp.zeros_like(half.weight)  # values of another's
    half.grads["weight"] = dx
    optimizers[0].step()
    assert float(xp.max(xp.abs(xp.astype(half.weight, xp.float32)))) < 1e-2


def states(optimizer):
    """The numbers of an optimizer's states."""
    return {key: to_numpy(v).tolist() for key, v in flat(optimizer).items() if not isinstance(v, int)}


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_steps_that_overflow_are_left_out(backend, name):
    """The scale, parameters and states of torch.amp.GradScaler, written out."""
    like = half_like(backend, "float16")
    xp = array_namespace(like)
    net = xpl.Linear(3, 2, rng=np.random.default_rng(0)).to(like=like)
    options = {"SGD": {"momentum": 0.9}, "Adam": {"capturable": True}}[name]
    optimizer = getattr(xpl.optim, name)(net, lr=0.1, master_weights=True, **options)
    scaler = xpl.training.LossScaler(init_scale=2.0**14, growth_interval=2)
    wide = xpl.Linear(3, 2, rng=np.random.default_rng(0)).to(like=like).to(dtype=xp.float32)
    reference = getattr(xpl.optim, name)(wide, lr=0.1, **options)
    x = xp.astype(backend.asarray(np.asarray([[1.0, -2.0, 0.5]], "f4")), like.dtype)
    scale = 2.0**14
    good = 0
    for size in (1.0, 0.5, 1e3, 1e-7, 1.0):  # 1e3 times the scale is more than float16 holds
        before = {k: to_numpy(v).copy() for k, v in net.state_dict().items()}
        held = states(optimizer)
        net.zero_grad()
        tape = xpl.Tape()
        y = net.forward(x, tape=tape)
        dy = xp.astype(backend.asarray(np.full(y.shape, size, "f4")), like.dtype)
        with np.errstate(all="ignore"):
            net.backward(scaler.scale(dy), tape=tape)
            scaler.step(optimizer)
        scaler.update()
        if size == 1e3:
            scale, good = scale / 2, 0
            assert all(np.array_equal(to_numpy(v), before[k]) for k, v in net.state_dict().items())
            assert held == states(optimizer)
        else:
            for key in ("weight", "bias"):
                wide.grads[key] = net.grads[key]
            reference.step()
            good += 1
            if good == 2:
                scale, good = scale * 2, 0
        assert scaler.get_scale() == scale
        for key, value in wide.state_dict().items():
            got = to_numpy(net.state_dict()[key]).astype("f4")
            np.testing.assert_allclose(got, to_numpy(value), rtol=2e-3, atol=1e-3)


def test_a_first_step_that_overflows_leaves_the_master_weights(backend):
    like = half_like(backend, "float16")
    xp = array_namespace(like)
    net = xpl.Linear(3, 2, rng=np.random.default_rng(0)).to(like=like)
    optimizer = xpl.optim.Adam(net, lr=1e-3, capturable=True, master_weights=True)
    scaler, before = xpl.training.LossScaler(), to_numpy(net.weight).astype("f4")
    for size in (np.inf, 1.0):
        scaler.scale(like)
        net.grads["weight"] = xp.astype(backend.asarray(np.full((2, 3), size, "f4")), like.dtype)
        with np.errstate(all="ignore"):
            scaler.step(optimizer)
        scaler.update()
    assert float(optimizer.state["weight"]["step"]) == 1
    np.testing.assert_allclose(to_numpy(net.weight).astype("f4"), before - 1e-3, atol=1e-3)


def test_a_count_from_a_file_is_kept_where_a_step_is_left_out():
    net = xpl.Linear(3, 2)
    optimizer = xpl.optim.Adam(net, capturable=True)
    net.grads["weight"] = np.ones((2, 3), np.float32)
    optimizer.step()
    state = {k: 7 if k.endswith("step") else v for k, v in optimizer.state_dict().items()}
    optimizer.load_state_dict(state)
    scaler = xpl.training.LossScaler()
    scaler.scale(net.weight)
    net.grads["weight"] = np.full((2, 3), np.inf, np.float32)
    with np.errstate(all="ignore"):
        scaler.step(optimizer)
    assert float(optimizer.state["weight"]["step"]) == 7


def test_every_optimizers_gradients_are_divided_once():
    nets = [xpl.Linear(3, 2, rng=np.random.default_rng(i)) for i in range(2)]
    optimizers = [xpl.optim.SGD(net, lr=1.0) for net in nets]
    before = [net.weight.copy() for net in nets]
    scaler = xpl.training.LossScaler(init_scale=4.0)
    for net in nets:
        net.grads["weight"] = scaler.scale(np.ones((2, 3), np.float32))
    for optimizer in optimizers:
        scaler.unscale(optimizer)
        scaler.step(optimizer)
    for net, weight in zip(nets, before, strict=True):
        np.testing.assert_allclose(net.weight, weight - 1.0, rtol=1e-6)


def test_a_scaler_is_used_in_order():
    net = xpl.Linear(2, 2)
    with pytest.raises(RuntimeError, match=r"before any scale\(dy\).*scaler.scale"):
        xpl.training.LossScaler().step(xpl.optim.SGD(net))
    with pytest.raises(RuntimeError, match="no step since the last one"):
        xpl.training.LossScaler().update()
    with pytest.raises(ValueError, match=r"'growth_factor': got 0.5"):
        xpl.training.LossScaler(growth_factor=0.5)
    with pytest.raises(ValueError, match=r"'backoff_factor': got 2"):
        xpl.training.LossScaler(backoff_factor=2)
