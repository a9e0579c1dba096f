"""The steps of optimizers in CUDA C++ without a card: a host runs their threads, and paper takes their launches."""

import dataclasses

import numpy as np
import pytest

import xplayers as xpl
from tests.host_cuda import compile_for, lacks_compiler
from tests.test_cuda import FAMILIES, UPDATES, Paper, fake, host, with_nvrtc  # noqa: F401  (host is a fixture)
from xplayers.kernels import registry
from xplayers.kernels.on_cuda import launching, update

OPTIONS = [
    ("SGD", {}),
    ("SGD", {"weight_decay": 0.1, "maximize": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {}),
    ("Adam", {"weight_decay": 0.1, "betas": (0.8, 0.9), "eps": 1e-3}),
    ("Adam", {"maximize": True, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("AdamW", {"weight_decay": 0.1}),
    ("AdamW", {"betas": [0, 0.9]}),
]
SHAPES = [(), (0, 3), (1,), (7, 5), (1000,), (3, 1367), (255,), (256,), (257,), *((i, 3) for i in range(1, 60))]


class Net(xpl.Layer):
    """More parameters than two launches take: none of a number, one, odd ones, and some of several blocks."""

    def __init__(self, dtype):
        super().__init__()
        rng = np.random.default_rng(3)
        for i, shape in enumerate(SHAPES):
            self.parameter(f"p{i}", rng.standard_normal(shape).astype(dtype))


@pytest.fixture
def counted(host, monkeypatch):  # noqa: F811
    """The step answers for arrays of NumPy, and a host runs its kernels."""
    if lacks_compiler():
        pytest.skip(lacks_compiler())
    (held,) = UPDATES
    mine = dataclasses.replace(held, of_library="numpy", answered=0, declined=0)
    registry.load("numpy")
    monkeypatch.setattr(launching, "machine", host)
    monkeypatch.setattr(registry._state, "updates", [mine])
    return mine


def stepped(name, options, dtype="float32", change=None, steps=4, skip=()):
    """Parameters and state after some steps; those of `skip` have no gradient in the first."""
    net = Net(dtype)
    if change is not None:
        for key in ("p3", "p5"):
            net.put(key, change(net.params[key]))
    optimizer = getattr(xpl.optim, name)(net, lr=0.01, **options)
    rng = np.random.default_rng(4)
    for step in range(steps):
        for key, x in net.params.items():
            if step or key not in skip:
                net.grads[key] = rng.standard_normal(x.shape).astype(dtype)
        optimizer.step()
    return {k: np.array(v) for k, v in net.params.items()}, optimizer.state_dict()


def same(got, expected, dtype):
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    for mine, others in zip(got, expected, strict=True):
        assert mine.keys() == others.keys()
        for key, value in others.items():
            if isinstance(value, np.ndarray):
                assert mine[key].dtype == value.dtype
            np.testing.assert_allclose(mine[key], value, rtol=tolerance, atol=tolerance, err_msg=key)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_it_steps_as_the_optimizer_does(name, options, dtype, counted, host):  # noqa: F811
    with xpl.use_kernels("off"):
        expected = stepped(name, options, dtype)
    same(stepped(name, options, dtype), expected, dtype)
    assert counted.declined == 0
    assert counted.answered == 4 * len(SHAPES)
    assert {types for family, _, types in host.launched if family == "update"} <= set(FAMILIES["update"])


def test_parameters_at_different_steps(counted):
    with xpl.use_kernels("off"):
        expected = stepped("Adam", {}, skip=("p0", "p3", "p40"))
    same(stepped("Adam", {}, skip=("p0", "p3", "p40")), expected, "float32")
    assert counted.declined == 0


@pytest.mark.parametrize("change", [np.asfortranarray, lambda x: np.stack([x, x], -1)[..., 0]])
def test_other_layouts_are_given_back(change, counted):
    with xpl.use_kernels("off"):
        expected = stepped("AdamW", {}, change=change)
    same(stepped("AdamW", {}, change=change), expected, "float32")
    assert counted.declined == 4 * 2


@pytest.mark.parametrize(
    ("name", "options", "dtype"), [("Adam", {"amsgrad": True}, "f4"), ("RMSprop", {}, "f4"), ("SGD", {}, "f2")]
)
def test_what_it_does_not_do_is_given_back(name, options, dtype, counted):
    with xpl.use_kernels("off"):
        expected = stepped(name, options, dtype, steps=1)
    same(stepped(name, options, dtype, steps=1), expected, "float32")
    assert (counted.answered, counted.declined) == (0, len(SHAPES))


def test_an_array_in_two_places_is_stepped_twice(counted):
    def tied():
        layers = [xpl.Linear(3, 5), xpl.Linear(3, 5)]
        x = np.linspace(-1, 1, 15, dtype="f4").reshape(5, 3)
        for factor, layer in enumerate(layers, 1):
            layer.put("weight", x)
            layer.grads["weight"] = factor * np.ones((5, 3), "f4")
        xpl.optim.SGD([(layer, "weight") for layer in layers], lr=0.5, weight_decay=0.1).step()
        return x

    with xpl.use_kernels("off"):
        expected = tied()
    np.testing.assert_allclose(tied(), expected, rtol=1e-6)
    assert counted.answered == 2


# -- launches of arrays that look like CuPy's, of which nothing can be computed or read --


def of_cupy(shape, dtype="float32"):
    moments = {"exp_avg": fake(shape, dtype), "exp_avg_sq": fake(shape, dtype)}
    return fake(shape, dtype), fake(shape, dtype), {"step": 2, **moments}


@pytest.fixture
def paper(monkeypatch):
    found = Paper()
    monkeypatch.setattr(launching, "machine", found)
    return found


def adam():
    optimizer = xpl.optim.Adam(xpl.Linear(2, 2))
    return optimizer, {n: v for n, v in optimizer.param_groups[0].items() if n != "params"}


def test_launches_are_few_and_within_what_a_launch_takes(paper):
    addresses = iter(range(16, 10**6, 16))
    paper.address = lambda x: next(addresses)
    optimizer, options = adam()
    items = [of_cupy((n,)) for n in (0, 1, 1024, 1025, *[7] * 67)]
    assert update.step_many(optimizer, items, options) == []
    assert [(name, grid, block) for _, name, _, grid, block, _ in paper.launches] == [
        ("adam", (33, 1), (256, 1)),
        ("adam", (32, 1), (256, 1)),
        ("adam", (6, 1), (256, 1)),
    ]
    for *_, (packed, *numbers) in paper.launches:
        assert packed.size == 1
        assert packed.nbytes == 44 * 32  # as update.cu asserts of its own
        assert packed.nbytes + 8 * len(numbers) < 4096
        assert {type(n) for n in numbers} == {float}
    packed = paper.launches[0][-1][0]
    assert packed["first"][:5].tolist() == [0, 1, 2, 4, 5]
    assert packed["size"][:4].tolist() == [1, 1024, 1025, 7]
    assert (paper.launches[2][-1][0]["first"][6:] == 2**31 - 1).all()


def test_what_is_not_plain_is_given_back(paper):
    optimizer, options = adam()
    x, dx, state = of_cupy((6, 5))
    elsewhere = of_cupy((3,))
    paper.is_here = lambda x: x is not elsewhere[0]
    items = [
        of_cupy((4, 5), "float16"),
        of_cupy((4, 5), "int32"),
        (x.T, dx.T, state),
        (x[:, 1:], dx[:, 1:], {"step": 1}),
        (x, fake((6, 5), "float64"), state),
        (x, dx, {"step": 2}),  # the moments of its first step are not there
        elsewhere,
    ]
    assert update.step_many(optimizer, [*items, (x, dx, state)], options) == items
    assert len(paper.launches) == 1
    assert update.step_many(xpl.optim.RMSprop(xpl.Linear(2, 2)), items, {}) is items


def test_a_group_may_hold_arrays_of_two_libraries(paper, monkeypatch):
    registry.load("numpy")
    held = [u for u in registry._state.updates if u.of_library == "numpy"]
    monkeypatch.setattr(registry._state, "updates", list(held))
    registry.update("cupy", "cuda", rule="")(update.step_many)
    assert [u.means for u in registry._state.updates] == [u.means for u in held] + ["cuda"]
    optimizer, options = adam()
    x = np.ones(3, "f4")
    assert registry._step(optimizer, [(x, x.copy(), {"step": 1}), of_cupy((3,))], options) == []
    assert len(paper.launches) == 1
    assert (x < 1).all()


@with_nvrtc
@pytest.mark.parametrize("types", FAMILIES["update"])
def test_the_struct_stays_where_the_launch_has_put_it(types):
    """A copy of it in each thread's own memory would cost more than the step."""
    assert ".local" not in str(compile_for("compute_80", "update", types))
