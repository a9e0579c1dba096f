"""The kernels of optimizers against the optimizers' own mathematics: every option, odd sizes, what is left alone."""

import numpy as np
import pytest

import xplayers as xpl
from xplayers.kernels import registry
from xplayers.optim.optimizer import Optimizer

MEANS = ("numba", "numpy")
OPTIONS = [
    ("SGD", {}),
    ("SGD", {"weight_decay": 0.1, "maximize": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {}),
    ("Adam", {"weight_decay": 0.1, "betas": (0.8, 0.9), "eps": 1e-3}),
    ("Adam", {"amsgrad": True, "maximize": True}),
    ("AdamW", {"weight_decay": 0.1}),
    ("RMSprop", {"weight_decay": 0.1}),
    ("RMSprop", {"centered": True, "momentum": 0.9}),
]
LEFT_BY_NUMBA = [o for name, o in OPTIONS if name == "RMSprop" or "amsgrad" in o]


class Net(xpl.Layer):
    """Parameters of many sizes: none, one, odd ones, and one of several blocks."""

    def __init__(self, dtype="float32"):
        super().__init__()
        rng = np.random.default_rng(3)
        for i, shape in enumerate([(), (0, 3), (1,), (7, 5), (70_001,), (3, 100_003)]):
            self.parameter(f"p{i}", rng.standard_normal(shape).astype(dtype))


def stepped(name, options, dtype="float32", change=None, steps=3):
    net = Net(dtype)
    if change is not None:
        for key in net.params:
            net.put(key, change(net.params[key]))
    optimizer = getattr(xpl.optim, name)(net, lr=0.01, **options)
    rng = np.random.default_rng(4)
    for _ in range(steps):
        for key, x in net.params.items():
            net.grads[key] = rng.standard_normal(x.shape).astype(dtype)
        optimizer.step()
    return {k: np.array(v) for k, v in net.params.items()}, optimizer.state_dict()


def alone(means):
    return xpl.use_kernels("auto", without=tuple(m for m in MEANS if m != means))


def counts(means):
    return {u.means: (u.answered, u.declined) for u in registry._state.updates}[means]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
@pytest.mark.parametrize("means", MEANS)
def test_it_steps_as_the_optimizer_does(means, name, options, dtype):
    registry.load("numpy")
    with xpl.use_kernels("off"):
        expected, state = stepped(name, options, dtype)
    before = counts(means)
    with alone(means):
        got, kept = stepped(name, options, dtype)
    answered = counts(means)[0] - before[0]
    assert (answered == 0) == (means == "numba" and any(options is o for o in LEFT_BY_NUMBA)), (
        "the kernel has not been called"
    )
    eps = np.finfo(dtype).eps
    for key, value in expected.items():
        assert got[key].dtype == value.dtype
        np.testing.assert_allclose(got[key], value, rtol=8 * eps, atol=8 * eps)
    assert kept.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_allclose(kept[key], value, rtol=16 * eps, atol=16 * eps)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("means", MEANS)
def test_a_rate_of_0_moves_the_moments_alone(means, name):
    def stepped_twice(mode):
        net = Net()
        options = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(xpl.optim, name)(net, lr=0.0, **options)
        for key, x in net.params.items():
            net.grads[key] = np.zeros_like(x)
            net.grads[key].reshape(-1)[1:] = 2.0
        with mode:
            optimizer.step()
            optimizer.lr = 0.1
            optimizer.step()
        return dict(net.params)

    expected = stepped_twice(xpl.use_kernels("off"))
    for key, value in stepped_twice(alone(means)).items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("means", MEANS)
def test_the_number_of_threads_does_not_matter(means, use_threads):
    found = []
    for n in (1, 3):
        use_threads(n)
        with alone(means):
            found.append(stepped("AdamW", {})[0])
    for key, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][key])


def frozen(x):
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("change", [np.asfortranarray, frozen, lambda x: np.stack([x, x], -1)[..., 0]])
def test_arrays_of_any_layout_are_stepped(means, change):
    with xpl.use_kernels("off"):
        expected, _ = stepped("Adam", {})
    with alone(means):
        got, _ = stepped("Adam", {}, change=change)
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("means", MEANS)
def test_an_array_in_two_places_is_stepped_twice(means, name):
    def tied():
        net = Net()
        net.parameter("again", net.params["p3"])
        for key, x in net.params.items():
            net.grads[key] = np.full(x.shape, 2.0 if key == "again" else 1.0, x.dtype)
        getattr(xpl.optim, name)(net, lr=0.5, weight_decay=0.1).step()
        assert net.params["again"] is net.params["p3"]
        return {k: np.array(v) for k, v in net.params.items()}

    with xpl.use_kernels("off"):
        expected = tied()
    registry.load("numpy")
    before = counts(means)[0]
    with alone(means):
        got = tied()
    assert counts(means)[0] > before
    for key, x in expected.items():
        np.testing.assert_allclose(got[key], x, rtol=1e-6, atol=1e-6, err_msg=key)  # one step moves by 0.5


def test_an_optimizer_that_looks_at_whole_arrays_gets_them():
    seen = []

    class Normed(Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        def change(self, x, dx, state, group):
            seen.append(x.shape)
            return -group["lr"] * dx / (1 + np.sqrt(np.sum(dx * dx)))

    net = Net()
    optimizer = Normed(net)
    for key, x in net.params.items():
        net.grads[key] = np.ones_like(x)
    optimizer.step()
    assert seen == [x.shape for x in net.params.values()]


def test_a_subclass_with_a_change_of_its_own_is_not_the_compiled_one():
    class Slower(xpl.optim.Adam):
        def change(self, x, dx, state, group):
            return 0.5 * super().change(x, dx, state, group)

    net, twin = Net(), Net()
    slow, plain = Slower(net, lr=0.01), xpl.optim.Adam(twin, lr=0.005)
    for key, x in net.params.items():
        net.grads[key] = twin.grads[key] = np.ones_like(x)
    slow.step()
    plain.step()
    for key, x in net.params.items():
        np.testing.assert_allclose(x, twin.params[key], rtol=1e-6)
