"""Optimizers, schedules and clipping against torch's, option by option."""

import copy
import functools
import itertools
import math
import pickle
import re
import warnings

import numpy as np
import pytest
import torch

import xplayers as xpl
from tests import backends
from tests.cases import Bad, f32
from tests.laws import unseen
from tests.test_bad_calls import assert_refused
from xplayers.arrays import to_numpy

RNG = np.random.default_rng(0)
X, T = RNG.standard_normal((7, 4)) * 0.3, RNG.standard_normal((7, 3))
START = {
    "0.weight": RNG.standard_normal((5, 4)) * 0.5,
    "0.bias": RNG.standard_normal(5),
    "1.weight": RNG.standard_normal((3, 5)) * 0.5,
    "1.bias": RNG.standard_normal(3),
}
STEPS = 20


def ours(backend, dtype="float64", start=START):
    net = xpl.Sequential(xpl.Linear(4, 5), xpl.Linear(5, 3))
    for name, value in start.items():
        net.params[name] = backend.asarray(value, dtype)
    return net


def theirs(start=START, dtype=torch.float64):
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Linear(5, 3)).to(dtype)
    net.load_state_dict({k: torch.tensor(v) for k, v in start.items()})
    return net


def backward(net, backend, dtype="float64"):
    """The gradients of 0.5 sum (y - t)^2 / 7."""
    dy = (net(backend.asarray(X, dtype)) - backend.asarray(T, dtype)) * (1 / 7)
    net.backward(dy)


def torch_backward(net, dtype=torch.float64):
    (0.5 * ((net(torch.tensor(X, dtype=dtype)) - torch.tensor(T, dtype=dtype)) ** 2).sum() / 7).backward()


def close(params, module, rtol=1e-11, where=""):
    wanted = dict(module.named_parameters())
    assert set(params) == set(wanted)
    for name, value in params.items():
        np.testing.assert_allclose(
            to_numpy(value), wanted[name].detach().numpy(), rtol, rtol, err_msg=f"{where} {name}"
        )


def options(**lists):
    return [dict(zip(lists, row, strict=True)) for row in itertools.product(*lists.values())]


OPTIMIZERS = [
    ("SGD", o)
    for o in (
        {},
        {"lr": 0.1},
        *options(
            lr=[0.001], momentum=[0.0, 0.9], dampening=[0.0, 0.3], weight_decay=[0.0, 0.2], maximize=[False, True]
        ),
        *options(lr=[0.001], momentum=[0.8], nesterov=[True], weight_decay=[0.0, 0.2], maximize=[False, True]),
    )
]
OPTIMIZERS += [
    (name, o)
    for name in ("Adam", "AdamW")
    for o in (
        {},
        {"lr": 0.1, "betas": (0.5, 0.7)},
        {"lr": 0.1, "eps": 0.1},
        {"betas": (0.0, 0.0)},
        *options(lr=[0.05], weight_decay=[0.0, 0.2], amsgrad=[False, True], maximize=[False, True]),
    )
]
OPTIMIZERS += [("Adam", {"lr": 0.05, "weight_decay": 0.2, "decoupled_weight_decay": True})]
OPTIMIZERS += [
    ("RMSprop", o)
    for o in (
        {},
        {"lr": 0.05, "alpha": 0.5},
        {"lr": 0.05, "eps": 0.1, "centered": True},
        *options(
            lr=[0.02], weight_decay=[0.0, 0.2], momentum=[0.0, 0.7], centered=[False, True], maximize=[False, True]
        ),
    )
]


@functools.cache
def course(row):
    """The parameters of torch's network after every step."""
    name, o = OPTIMIZERS[row]
    twin = theirs()
    judge = getattr(torch.optim, name)(twin.parameters(), **o)
    out = []
    for _ in range(STEPS):
        torch_backward(twin)
        judge.step()
        judge.zero_grad()
        out.append({k: p.detach().numpy().copy() for k, p in twin.named_parameters()})
    return out


@pytest.mark.parametrize("row", range(len(OPTIMIZERS)), ids=lambda i: f"{OPTIMIZERS[i]}".replace(" ", ""))
def test_twenty_steps_equal_torchs(backend, row):
    name, o = OPTIMIZERS[row]
    net = ours(backend)
    optimizer = getattr(xpl.optim, name)(net, **o)
    for step, wanted in enumerate(course(row)):
        backward(net, backend)
        optimizer.step()
        optimizer.zero_grad()
        assert not len(net.grads)
        for key, value in net.params.items():
            np.testing.assert_allclose(to_numpy(value), wanted[key], 1e-11, 1e-11, err_msg=f"step {step} {key}")
    for value in net.params.values():
        assert backend.at_home(value) is None and "float64" in str(value.dtype)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_other_dtypes_stay_what_they_are(backend, name, dtype):
    if dtype == "bfloat16" and backend.name not in ("torch", "jax"):
        pytest.skip("this library has no bfloat16")
    if dtype == "float16" and backend.name.startswith("strict"):
        pytest.skip("the standard has no float16")
    xp = backend.xp
    kind = getattr(xp, dtype)
    net, twin = ours(backend, "float32"), theirs(dtype=torch.float32)
    net.to(dtype=kind)
    twin.load_state_dict({k: torch.tensor(to_numpy(v).astype("float32")) for k, v in net.params.items()})
    more = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    optimizer = getattr(xpl.optim, name)(net, lr=0.01, weight_decay=0.1, **more)
    judge = getattr(torch.optim, name)(twin.parameters(), lr=0.01, weight_decay=0.1, **more)
    for _ in range(3):
        grads = {k: RNG.standard_normal(v.shape).astype("float16") for k, v in START.items()}
        for key, g in grads.items():
            net.grads[key] = xp.astype(backend.asarray(g.astype("float32")), kind)
        for key, p in twin.named_parameters():
            p.grad = torch.tensor(to_numpy(net.grads[key]).astype("float32"))
        optimizer.step()
        judge.step()
    eps = {"float32": 1e-6, "float16": 4e-3, "bfloat16": 3e-2}[dtype]
    for key, value in net.params.items():
        assert value.dtype == kind
        wanted = dict(twin.named_parameters())[key].detach().numpy()
        np.testing.assert_allclose(to_numpy(value).astype("float32"), wanted, eps, eps, err_msg=key)
    for entries in optimizer.state.values():  # moments of halves are kept in float32
        assert all("float32" in str(v.dtype) for n, v in entries.items() if n != "step")


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_a_float32_parameter_of_numpy_keeps_its_identity(name):
    net = ours(backends.load("numpy")[0], "float32")
    held, before = dict(net.params), {k: v.copy() for k, v in net.params.items()}
    optimizer = getattr(xpl.optim, name)(net, lr=np.float64(0.1))  # a NumPy number must not make them float64
    for _ in range(2):
        backward(net, backends.load("numpy")[0], "float32")
        optimizer.step()
    for key, value in net.params.items():
        assert value is held[key] and value.dtype == np.float32 and not np.array_equal(value, before[key])


def test_a_torch_parameter_is_stepped_in_place_and_keeps_no_graph():
    linear = torch.nn.Linear(4, 5)
    layer = xpl.Linear(4, 5)
    layer.weight, layer.bias = linear.weight, linear.bias
    optimizer = xpl.optim.Adam(layer, lr=0.1)
    before = linear.weight.detach().clone()
    for _ in range(2):
        y = layer(torch.tensor(X, dtype=torch.float32))
        layer.backward(torch.ones_like(y))
        optimizer.step()
    assert layer.weight.data_ptr() == linear.weight.data_ptr()
    assert not torch.equal(before, linear.weight)
    assert not any(v.requires_grad for e in optimizer.state.values() for v in e.values() if not isinstance(v, int))


def test_gradients_are_never_written_to(backend):
    for name in ("SGD", "Adam", "AdamW", "RMSprop"):
        net = ours(backend)
        backward(net, backend)
        held = {k: (g, to_numpy(g).copy()) for k, g in net.grads.items()}
        optimizer = getattr(xpl.optim, name)(
            net, lr=0.1, weight_decay=0.1, maximize=True, **({"momentum": 0.9} if name == "SGD" else {})
        )
        optimizer.step()
        optimizer.step()
        for key, (g, values) in held.items():
            assert net.grads[key] is g
            np.testing.assert_array_equal(to_numpy(g), values)


def test_frozen_parameters_stay(backend):
    net, twin = ours(backend), theirs()
    net.freeze("0.weight", "1.bias")
    twin[0].weight.requires_grad_(False)
    twin[1].bias.requires_grad_(False)
    optimizer = xpl.optim.AdamW(net, lr=0.1)
    judge = torch.optim.AdamW([p for p in twin.parameters() if p.requires_grad], lr=0.1)
    for step in range(8):
        if step == 4:  # state begins where the parameter begins to move
            net.unfreeze("0.weight")
            judge.add_param_group({"params": [twin[0].weight.requires_grad_()]})
        backward(net, backend)
        torch_backward(twin)
        optimizer.step()
        judge.step()
        optimizer.zero_grad()
        judge.zero_grad()
        close(net.params, twin)
    assert "1.bias" not in optimizer.state and optimizer.state["0.weight"]["step"] == 4


class _Square(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 4).double()

    def forward(self, x):
        return self.inner(self.inner(x))


def test_a_shared_layer_is_stepped_once(backend):
    w, b = RNG.standard_normal((4, 4)), RNG.standard_normal(4)
    layer, twin = xpl.Linear(4, 4), _Square()
    layer.weight, layer.bias = backend.asarray(w), backend.asarray(b)
    twin.inner.load_state_dict({"weight": torch.tensor(w), "bias": torch.tensor(b)})
    net = xpl.Sequential(layer, layer)
    optimizer = xpl.optim.SGD(net, lr=0.01, momentum=0.9, weight_decay=0.1)
    judge = torch.optim.SGD(twin.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    assert len(optimizer.param_groups[0]["params"]) == 2
    for _ in range(STEPS):
        y = net(backend.asarray(X))
        net.backward(y * (1 / 7))
        (0.5 * (twin(torch.tensor(X)) ** 2).sum() / 7).backward()
        for n, clip in (("inner", None), ("clipped", 1.0)):
            if clip is not None:
                norm = xpl.optim.clip_grad_norm(net, clip)
                wanted = torch.nn.utils.clip_grad_norm_(twin.parameters(), clip)
                np.testing.assert_allclose(to_numpy(norm), wanted.numpy(), 1e-12, err_msg=n)
        optimizer.step()
        judge.step()
        optimizer.zero_grad()
        judge.zero_grad()
    np.testing.assert_allclose(to_numpy(layer.weight), twin.inner.weight.detach().numpy(), 1e-11)
    np.testing.assert_allclose(to_numpy(net.params["1.bias"]), twin.inner.bias.detach().numpy(), 1e-11)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_parameters_may_be_assigned_loaded_and_moved_between_steps(backend, name):
    more = {"momentum": 0.9} if name != "Adam" else {"amsgrad": True}
    net, twin = ours(backend), theirs()
    optimizer = getattr(xpl.optim, name)(net, lr=0.05, **more)
    judge = getattr(torch.optim, name)(twin.parameters(), lr=0.05, **more)
    here, numpy_ = backend, backends.load("numpy")[0]
    fresh = RNG.standard_normal((5, 4))
    for step in range(12):
        if step == 3:
            net.params["0.weight"] = here.asarray(fresh)
            twin[0].weight.data = torch.tensor(fresh)
        if step == 5:
            net.load_state_dict({k: torch.tensor(v) for k, v in START.items()})
            twin.load_state_dict({k: torch.tensor(v) for k, v in START.items()})
        if step == 7:
            here = numpy_
        if step == 9:
            here = backend
        backward(net.to(like=here.asarray(X)), here)
        torch_backward(twin)
        if step == 7:  # also between the backward and the step
            here = backend
            net.to(like=here.asarray(X))
        optimizer.step()
        judge.step()
        optimizer.zero_grad()
        judge.zero_grad()
        close(net.params, twin, where=f"step {step}")
    assert all(here.at_home(v) is None for v in net.params.values())


def test_parameters_that_are_assigned_after_the_optimizer_was_built():
    layer = xpl.Affine()
    optimizer = xpl.optim.SGD(layer, lr=1.0, momentum=0.9)
    optimizer.step()  # nothing to move yet
    layer.weight, layer.bias = np.ones((2, 3)), np.zeros(2)
    layer(np.ones((1, 3)))
    layer.backward(np.ones((1, 2)))
    optimizer.step()
    np.testing.assert_array_equal(layer.weight, np.zeros((2, 3)))
    layer.weight = np.ones((2, 4))  # another shape begins anew
    layer.zero_grad()
    layer(np.ones((1, 4)))
    layer.backward(np.ones((1, 2)))
    optimizer.step()
    np.testing.assert_array_equal(layer.weight, np.zeros((2, 4)))


def test_groups_have_options_of_their_own(backend):
    net, twin = ours(backend), theirs()
    optimizer = xpl.optim.Adam(
        [
            {"params": net[0], "lr": 0.1, "betas": (0.5, 0.9)},
            {"params": [(net[1], "weight")], "weight_decay": 0.3},
            {"params": {"1.bias": (net[1], "bias")}, "amsgrad": True},
        ],
        lr=0.02,
    )
    judge = torch.optim.Adam(
        [
            {"params": twin[0].parameters(), "lr": 0.1, "betas": (0.5, 0.9)},
            {"params": [twin[1].weight], "weight_decay": 0.3},
            {"params": [twin[1].bias], "amsgrad": True},
        ],
        lr=0.02,
    )
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.02, 0.02]
    for step in range(STEPS):
        if step == 6:
            optimizer.param_groups[1]["lr"] = judge.param_groups[1]["lr"] = 0.5
        if step == 12:
            optimizer.lr = 0.01
            for g in judge.param_groups:
                g["lr"] = 0.01
        backward(net, backend)
        torch_backward(twin)
        optimizer.step()
        judge.step()
        optimizer.zero_grad()
        judge.zero_grad()
    close(net.params, twin)
    assert optimizer.lr == 0.01 and set(optimizer.state) == set(START)


def test_what_names_parameters():
    net = ours(backends.load("numpy")[0])
    keys = list(START)
    for params in (
        net,
        net.params,
        net.parameter_slots(),
        list(net.parameter_slots()),
        [net],
        list(net),
        [net[0], (net[1], "weight"), (net[1], "bias")],
        {"0": net[0], "1": net[1]},
        {k: (layer, name) for k, layer, name in net.parameter_slots()},
        {"params": net},
        [{"params": net[0]}, {"params": net[1].params}],
    ):
        optimizer = xpl.optim.SGD(params, lr=0.5)
        slots = [s for g in optimizer.param_groups for s in g["params"]]
        assert [s.key for s in slots] == keys and optimizer.lr == 0.5
    two = xpl.optim.SGD([xpl.Linear(2, 2), xpl.Linear(2, 2)])  # two that stand alone have the same names
    assert [s.key for s in two.param_groups[0]["params"]] == ["weight", "bias", "weight#2", "bias#2"]


@pytest.mark.parametrize(
    ("name", "o"),
    [
        ("SGD", {"momentum": 0.9}),
        ("SGD", {}),
        ("Adam", {"amsgrad": True}),
        ("AdamW", {}),
        ("RMSprop", {"centered": True, "momentum": 0.5}),
    ],
)
def test_a_state_dict_goes_on_where_it_was_taken(backend, name, o, tmp_path):
    def run(net, optimizer, steps):
        for _ in range(steps):
            backward(net, backend)
            optimizer.step()
            optimizer.zero_grad()

    straight = ours(backend)
    optimizer = getattr(xpl.optim, name)([{"params": straight[0], "lr": 0.2}, {"params": straight[1]}], lr=0.05, **o)
    run(straight, optimizer, 3)
    state, params = optimizer.state_dict(), {k: to_numpy(v).copy() for k, v in straight.params.items()}
    xpl.save(tmp_path / "optimizer.npz", optimizer.state_dict())
    run(straight, optimizer, 4)
    for taken in (state, xpl.load(tmp_path / "optimizer.npz")):
        net = ours(backend, start=params)
        again = getattr(xpl.optim, name)([{"params": net[0]}, {"params": net[1]}], **o)
        again.load_state_dict(taken)
        assert [g["lr"] for g in again.param_groups] == [0.2, 0.05]
        assert {k: e["step"] for k, e in again.state.items()} == dict.fromkeys(START, 3)
        run(net, again, 4)
        for key, value in net.params.items():
            np.testing.assert_array_equal(to_numpy(value), to_numpy(straight.params[key]))
    assert all(isinstance(v, bool | int | float) or hasattr(v, "dtype") for v in state.values())


def test_a_state_dict_that_does_not_fit_changes_nothing():
    net = ours(backends.load("numpy")[0])
    optimizer = xpl.optim.Adam(net, lr=0.1)
    backward(net, backends.load("numpy")[0])
    optimizer.step()
    good = optimizer.state_dict()
    before = {k: np.array(v) for k, v in good.items()}
    bad = dict(good)
    bad["state.0.weight.exp_avg"] = np.zeros((2, 2))
    bad["state.2.weight.exp_avg"] = np.zeros((2, 2))
    bad["param_groups.0.lr"] = np.zeros(3)
    del bad["state.1.bias.step"], bad["param_groups.0.betas.0"]
    with pytest.raises(ValueError) as caught:
        optimizer.load_state_dict(bad)
    for part in (
        "Adam: argument 'state'",
        "state.0.weight.exp_avg has shape (2, 2), not (5, 4)",
        "unexpected ['state.2.weight.exp_avg']",
        "param_groups.0.lr is no number",
        "missing ['state.1.bias.step']",
        "missing ['param_groups.0.betas.0']",
        "Mend:",
    ):
        assert part in str(caught.value)
    with pytest.raises(ValueError):
        optimizer.load_state_dict({**good, "param_groups.0.lr": -1.0})
    for key, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_copies_and_pickles_go_on_alone(backend):
    net = ours(backend)
    optimizer = xpl.optim.Adam(net, lr=0.1)
    backward(net, backend)
    optimizer.step()
    for twin, stepper in (copy.deepcopy((net, optimizer)), pickle.loads(pickle.dumps((net, optimizer)))):
        backward(twin, backend)
        held = {k: to_numpy(v).copy() for k, v in net.params.items()}
        stepper.step()
        for key, value in net.params.items():
            np.testing.assert_array_equal(to_numpy(value), held[key])
            assert not np.array_equal(to_numpy(twin.params[key]), held[key])


# -- schedules --

SCHEDULES = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 4, "gamma": 0.7}),
    ("MultiStepLR", {"milestones": [2, 5, 5, 9]}),
    ("MultiStepLR", {"milestones": [7], "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 4, "eta_min": 0.01}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 7}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 1 / (1 + epoch)}),
    ("LambdaLR", {"lr_lambda": [lambda epoch: 0.9**epoch, lambda epoch: 1.0 + epoch]}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 25}),
    ("OneCycleLR", {"max_lr": [0.5, 0.1], "total_steps": 25, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "epochs": 5, "steps_per_epoch": 5, "pct_start": 0.4, "three_phase": True}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30, "base_momentum": [0.7, 0.8], "max_momentum": 0.9}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30, "div_factor": 10.0, "final_div_factor": 100.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30, "cycle_momentum": False}),
]


def pair(kind="SGD"):
    net, twin = ours(backends.load("numpy")[0]), theirs()
    more = {"momentum": 0.9} if kind == "SGD" else {}
    optimizer = getattr(xpl.optim, kind)([{"params": net[0], "lr": 0.2}, {"params": net[1]}], lr=0.05, **more)
    judge = getattr(torch.optim, kind)(
        [{"params": twin[0].parameters(), "lr": 0.2}, {"params": twin[1].parameters()}], lr=0.05, **more
    )
    judge.step()  # torch warns where a schedule steps before its optimizer
    return optimizer, judge


def same_rates(optimizer, judge, step):
    for group, wanted in zip(optimizer.param_groups, judge.param_groups, strict=True):
        for name in ("lr", "momentum", "betas", "initial_lr"):
            if name in wanted:
                np.testing.assert_allclose(group[name], wanted[name], 1e-12, 1e-16, err_msg=f"{name}, step {step}")


def label(value):
    """A row's name, the same in every process: functions are shown without their address."""
    return re.sub(r" at 0x[0-9a-f]+| ", "", str(value))[:60]


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(("name", "o"), SCHEDULES, ids=label)
def test_rates_equal_torchs(kind, name, o):
    optimizer, judge = pair(kind)
    schedule = getattr(xpl.optim, name)(optimizer, **o)
    wanted = getattr(torch.optim.lr_scheduler, name)(judge, **o)
    same_rates(optimizer, judge, 0)
    for step in range(1, 25):
        if step == 4 and name != "OneCycleLR":  # a rate set by hand
            optimizer.param_groups[0]["lr"] = judge.param_groups[0]["lr"] = 0.123
        schedule.step()
        judge.step()
        wanted.step()
        same_rates(optimizer, judge, step)
        np.testing.assert_allclose(schedule.get_last_lr(), wanted.get_last_lr(), 1e-12, 1e-16)


def test_schedules_chain_as_torchs_do():
    optimizer, judge = pair()
    sl = torch.optim.lr_scheduler
    first, second = xpl.optim.LinearLR(optimizer, 0.5), xpl.optim.ExponentialLR(optimizer, 0.9)
    third, fourth = sl.LinearLR(judge, 0.5), sl.ExponentialLR(judge, 0.9)
    for step in range(12):
        same_rates(optimizer, judge, step)
        judge.step()
        for s in (first, second, third, fourth):
            s.step()


@pytest.mark.parametrize(("name", "o"), SCHEDULES, ids=label)
def test_a_schedule_goes_on_from_its_state(name, o, tmp_path):
    optimizer, _ = pair()
    schedule = getattr(xpl.optim, name)(optimizer, **o)
    for _ in range(6):
        schedule.step()
    xpl.save(tmp_path / "s.npz", {"a." + k: v for k, v in schedule.state_dict().items()} | optimizer.state_dict())
    again, _ = pair()
    resumed = getattr(xpl.optim, name)(again, **o)
    file = xpl.load(tmp_path / "s.npz")
    resumed.load_state_dict({k[2:]: file.pop(k) for k in list(file) if k.startswith("a.")})
    again.load_state_dict(file)
    for _ in range(10):
        schedule.step()
        resumed.step()
        assert [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in again.param_groups]
        assert [g["momentum"] for g in optimizer.param_groups] == [g["momentum"] for g in again.param_groups]


@pytest.mark.parametrize(("name", "o"), SCHEDULES[:11], ids=label)
def test_resuming_by_last_epoch_equals_torchs(name, o):
    optimizer, judge = pair()
    for group in (*optimizer.param_groups, *judge.param_groups):
        group["initial_lr"] = 0.3
    schedule = getattr(xpl.optim, name)(optimizer, last_epoch=4, **o)
    with warnings.catch_warnings():
        wanted = getattr(torch.optim.lr_scheduler, name)(judge, last_epoch=4, **o)
        for step in range(10):
            same_rates(optimizer, judge, step)
            judge.step()
            schedule.step()
            wanted.step()


# -- clipping --


@pytest.mark.parametrize("norm_type", [2.0, 1, 3.5, math.inf, 0.0])
@pytest.mark.parametrize("max_norm", [0.1, 5.0, 1e4, 0.0])
def test_clip_grad_norm_equals_torchs(backend, norm_type, max_norm):
    net, twin = ours(backend), theirs()
    backward(net, backend)
    torch_backward(twin)
    held = {k: (g, to_numpy(g).copy()) for k, g in net.grads.items()}
    norm = xpl.optim.clip_grad_norm(net, max_norm, norm_type)
    wanted = torch.nn.utils.clip_grad_norm_(twin.parameters(), max_norm, norm_type)
    assert norm.shape == () and backend.at_home(norm) is None and "float64" in str(norm.dtype)
    np.testing.assert_allclose(to_numpy(norm), wanted.numpy(), 1e-12)
    for key, p in twin.named_parameters():
        np.testing.assert_allclose(to_numpy(net.grads[key]), p.grad.numpy(), 1e-12, 1e-300)
        np.testing.assert_array_equal(to_numpy(held[key][0]), held[key][1])  # rebound, not written to


def test_clip_grad_value_equals_torchs(backend):
    net, twin = ours(backend), theirs()
    backward(net, backend)
    torch_backward(twin)
    held = {k: (g, to_numpy(g).copy()) for k, g in net.grads.items()}
    assert xpl.optim.clip_grad_value(net, 0.3) is None
    torch.nn.utils.clip_grad_value_(twin.parameters(), 0.3)
    for key, p in twin.named_parameters():
        np.testing.assert_allclose(to_numpy(net.grads[key]), p.grad.numpy(), 1e-12)
        np.testing.assert_array_equal(to_numpy(held[key][0]), held[key][1])


def test_clipping_by_groups_frozen_and_without_gradients(backend):
    net, twin = ours(backend), theirs()
    norm = xpl.optim.clip_grad_norm(net, 1.0)  # before any backward
    assert float(to_numpy(norm)) == 0.0 and norm.shape == () and backend.at_home(norm) is None
    net.freeze("0.bias")
    backward(net, backend)
    torch_backward(twin)
    norm = xpl.optim.clip_grad_norm([net[0], (net[1], "bias")], 0.5)
    wanted = torch.nn.utils.clip_grad_norm_([twin[0].weight, twin[1].bias], 0.5)
    np.testing.assert_allclose(to_numpy(norm), wanted.numpy(), 1e-12)
    for key in ("0.weight", "1.weight", "1.bias"):
        np.testing.assert_allclose(to_numpy(net.grads[key]), dict(twin.named_parameters())[key].grad.numpy(), 1e-12)
    assert float(to_numpy(xpl.optim.clip_grad_norm(xpl.Flatten(), 1.0))) == 0.0


def test_clipping_of_non_finite_gradients(backend):
    net = ours(backend)
    net.grads["1.bias"] = backend.asarray([1.0, math.nan, 2.0])
    assert math.isnan(float(to_numpy(xpl.optim.clip_grad_norm(net, 1.0))))
    net.grads["1.bias"] = backend.asarray([1.0, math.nan, 2.0])
    with pytest.raises(ValueError, match="norm is nan"):
        xpl.optim.clip_grad_norm(net, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(to_numpy(net.grads["1.bias"]), [1.0, math.nan, 2.0])
    xpl.optim.clip_grad_value(net, 1.5)
    np.testing.assert_array_equal(to_numpy(net.grads["1.bias"]), [1.0, math.nan, 1.5])


def test_the_norm_of_halves_does_not_overflow():
    layer = xpl.Linear(64, 64, xp=np, dtype=np.float16)
    layer.grads["weight"] = np.full((64, 64), 2000.0, np.float16)
    norm = xpl.optim.clip_grad_norm(layer, 64.0)
    assert norm.dtype == np.float32 and norm == 128000.0
    assert layer.grads["weight"].dtype == np.float16
    np.testing.assert_allclose(layer.grads["weight"], 1.0, 1e-3)


def test_clipping_does_not_ask_for_values():
    import jax

    def f(dy):
        layer = xpl.Linear(3, 2, bias=False)
        layer.put("weight", dy)
        layer._grads["weight"] = dy
        return xpl.optim.clip_grad_norm(layer, 1.0), layer.grads["weight"]

    dy = np.arange(6.0).reshape(2, 3)
    norm, clipped = jax.jit(f)(dy)
    np.testing.assert_allclose(norm, np.linalg.norm(dy))
    np.testing.assert_allclose(clipped, dy / (np.linalg.norm(dy) + 1e-6))


@pytest.mark.parametrize("row", range(len(OPTIMIZERS)), ids=lambda i: f"{OPTIMIZERS[i]}".replace(" ", ""))
def test_no_step_looks_at_a_value(row):
    """On a card each look would wait: gradients are clipped, divided and stepped by without one."""
    import array_api_strict

    backend, _ = backends.load("strict")
    name, options = OPTIMIZERS[row]
    net = ours(backend, "float32")
    optimizer, scaler = getattr(xpl.optim, name)(net, **options), xpl.training.LossScaler()
    dy = backend.asarray(np.ones((7, 3)), "float32")
    for scaled in (False, True):
        net(backend.asarray(X, "float32"))
        with unseen(array_api_strict):
            net.zero_grad()
            net.backward(scaler.scale(dy) if scaled else dy, input_grad=False)
            if scaled:
                scaler.unscale(optimizer)
            xpl.optim.clip_grad_norm(net, 1.0)
            xpl.optim.clip_grad_value(net, 0.5)
            if scaled:
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()


class Counting(xpl.optim.RMSprop):
    """Has no kernel on any library; counts its changes."""

    calls = 0

    @xpl.optim.elementwise
    def change(self, x, dx, state, group):
        type(self).calls += 1
        return super().change(x, dx, state, group)


def test_small_parameters_are_stepped_as_one(backend, monkeypatch):
    """With the same numbers as one by one, and moments that are copied, replaced and loaded as ever."""

    def course():
        net = ours(backend)
        optimizer, seen = Counting(net, lr=0.05, centered=True, momentum=0.7), []
        for step in range(6):
            net.zero_grad()
            backward(net, backend)
            if step == 2:
                net.grads.pop("1.weight")  # three of the four step
            if step == 3:
                optimizer.state["0.bias"]["square_avg"] = backend.asarray(np.full(5, 0.25))
            if step == 4:
                net, optimizer = copy.deepcopy((net, optimizer))
            optimizer.step()
            seen += [to_numpy(x).copy() for x in net.params.values()]
            seen += [to_numpy(v).copy() for v in optimizer.state_dict().values() if not isinstance(v, int | float)]
        return seen

    Counting.calls = 0
    with xpl.use_kernels("off"):
        together = course()
    assert Counting.calls == 9, "a step is one change, from the fourth on two, whose counts have come apart"
    monkeypatch.setattr("xplayers.optim.together._SMALL", 0)
    with xpl.use_kernels("off"):
        alone = course()
    assert Counting.calls == 9 + 23
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, 1e-13, 1e-15)


def test_moments_of_small_parameters_lie_side_by_side():
    net = ours(backends.load("numpy")[0])
    optimizer = Counting(net)
    for _ in range(2):
        backward(net, backends.load("numpy")[0])
        with xpl.use_kernels("off"):
            optimizer.step()
        bases = {id(s["square_avg"].base) for s in optimizer.state.values()}
        assert len(bases) == 1, "the next step puts them side by side again"


def test_parameters_as_one_vector(backend):
    net, twin = ours(backend), theirs()
    vec = xpl.optim.parameters_to_vector(net)
    assert backend.at_home(vec) is None
    wanted = torch.nn.utils.parameters_to_vector(twin.parameters()).detach()
    np.testing.assert_array_equal(to_numpy(vec), wanted.numpy())
    other = RNG.standard_normal(wanted.shape)
    handed = backend.asarray(other)
    xpl.optim.vector_to_parameters(handed, net)
    torch.nn.utils.vector_to_parameters(torch.tensor(other), twin.parameters())
    close(net.params, twin, 0)
    optimizer = xpl.optim.SGD(net, lr=1.0)
    backward(net, backend)
    optimizer.step()
    np.testing.assert_array_equal(to_numpy(handed), other)  # the parameters are copies, not views
    xpl.optim.vector_to_parameters(torch.tensor(other), net)  # from another library into the one that they live in
    assert all(backend.at_home(v) is None for v in net.params.values())


# -- bad calls --


def net():
    return ours(backends.load("numpy")[0])


def stepped(optimizer):
    layer = xpl.Linear(4, 5)
    layer.grads["weight"] = f32(5, 3)
    return optimizer(layer).step()


BAD = [
    Bad(lambda: xpl.optim.SGD(net(), lr=-1.0), "SGD", "lr", "-1.0", ">= 0", "lr=0.001"),
    Bad(lambda: xpl.optim.SGD(net(), lr="0.1"), "SGD", "lr", "'0.1'", "a number", "lr=0.001", TypeError),
    Bad(lambda: xpl.optim.SGD(net(), momentum=-0.1), "SGD", "momentum", "-0.1", ">= 0", "momentum=0.0"),
    Bad(lambda: xpl.optim.SGD(net(), weight_decay=-1), "SGD", "weight_decay", "-1", ">= 0", "weight_decay=0.0"),
    Bad(lambda: xpl.optim.SGD(net(), nesterov=True), "SGD", "nesterov", "momentum=0.0", "positive", "momentum=0.9"),
    Bad(
        lambda: xpl.optim.SGD(net(), momentum=0.9, dampening=0.1, nesterov=True),
        "SGD",
        "nesterov",
        "dampening=0.1",
        "no dampening",
        "dampening=0",
    ),
    Bad(lambda: xpl.optim.Adam(net(), betas=(1.0, 0.9)), "Adam", "betas", "(1.0, 0.9)", "[0, 1)", "0.999"),
    Bad(lambda: xpl.optim.Adam(net(), betas=0.9), "Adam", "betas", "0.9", "2 numbers", "0.999"),
    Bad(lambda: xpl.optim.AdamW(net(), eps=-1e-8), "AdamW", "eps", "-1e-08", ">= 0", "eps=1e-08"),
    Bad(lambda: xpl.optim.RMSprop(net(), alpha=-1), "RMSprop", "alpha", "-1", ">= 0", "alpha=0.99"),
    Bad(lambda: xpl.optim.RMSprop(net(), centered=1), "RMSprop", "centered", "1", "True or False", "centered=False"),
    Bad(
        lambda: xpl.optim.SGD(list(net().params.values())),
        "SGD",
        "params",
        "numpy float64",
        "a layer",
        "SGD(net, ...)",
        TypeError,
    ),
    Bad(lambda: xpl.optim.SGD(f32(2)), "SGD", "params", "numpy float32", "a layer", "SGD(net, ...)", TypeError),
    Bad(lambda: xpl.optim.SGD(3), "SGD", "params", "a int", "a layer", "SGD(net, ...)", TypeError),
    Bad(lambda: xpl.optim.SGD([]), "SGD", "params", "no parameter", "at least one", "has parameters"),
    Bad(lambda: xpl.optim.SGD(xpl.Flatten()), "SGD", "params", "no parameter", "at least one", "has parameters"),
    Bad(lambda: xpl.optim.SGD([{"lr": 1}]), "SGD", "params", "['lr']", '"params"', '"params": layer', TypeError),
    Bad(
        lambda: xpl.optim.SGD([{"params": net()}, net()]),
        "SGD",
        "params",
        "a Sequential",
        '"params"',
        '"params": layer',
        TypeError,
    ),
    Bad(lambda: xpl.optim.SGD({"params": net(), "beta": 1}), "SGD", "params", "['beta']", "momentum", "remove"),
    Bad(lambda: xpl.optim.SGD({"params": net(), "lr": -2}), "SGD", "lr", "-2", ">= 0", "lr="),
    Bad(
        lambda: (lambda n: xpl.optim.SGD([{"params": n}, {"params": n[0]}]))(net()),
        "SGD",
        "params",
        "['0.weight', '0.bias'] in two groups",
        "every parameter in one",
        "remove",
    ),
    Bad(
        lambda: xpl.optim.SGD([(xpl.Linear(2, 3), "wait")]),
        "SGD",
        "params",
        "'wait' of Linear(2, 3)",
        "weight, bias",
        "layer.params",
    ),
    Bad(
        lambda: stepped(xpl.optim.SGD),
        "Linear(4, 5), parameter 'weight'",
        "grads['weight']",
        "shape (5, 3) in numpy float32",
        "shape (5, 4) in numpy float32",
        "zero_grad()",
    ),
    Bad(lambda: xpl.optim.clip_grad_norm(net(), -1.0), "clip_grad_norm", "max_norm", "-1.0", ">= 0", "max_norm=1.0"),
    Bad(lambda: xpl.optim.clip_grad_norm(net(), "1"), "clip_grad_norm", "max_norm", "'1'", ">= 0", "max_norm=1.0"),
    Bad(
        lambda: xpl.optim.clip_grad_norm(f32(2), 1.0), "clip_grad_norm", "params", "numpy", "a layer", "net", TypeError
    ),
    Bad(lambda: xpl.optim.clip_grad_value(net(), -1), "clip_grad_value", "clip_value", "-1", ">= 0", "clip_value=1.0"),
    Bad(
        lambda: xpl.optim.vector_to_parameters(f32(7), net()),
        "vector_to_parameters",
        "vec",
        "(7,)",
        "(43,)",
        "parameters_to_vector",
    ),
    Bad(
        lambda: xpl.optim.vector_to_parameters(np.arange(43), net()),
        "vector_to_parameters",
        "vec",
        "int64",
        "floating",
        "floating",
        TypeError,
    ),
    Bad(
        lambda: xpl.optim.parameters_to_vector(xpl.Affine()),
        "parameters_to_vector",
        "params",
        "'weight' without a value",
        "arrays",
        "assign weight",
    ),
    Bad(lambda: xpl.optim.StepLR(net(), 3), "StepLR", "optimizer", "a Sequential", "an Optimizer", "SGD", TypeError),
    Bad(lambda: xpl.optim.StepLR(pair()[0], 0), "StepLR", "step_size", "0", "positive", "step_size=10"),
    Bad(lambda: xpl.optim.StepLR(pair()[0], 3, last_epoch=2), "StepLR", "last_epoch", "2", "schedule", "load"),
    Bad(lambda: xpl.optim.LinearLR(pair()[0], 0.0), "LinearLR", "start_factor", "0.0", "(0, 1]", "start_factor=0.1"),
    Bad(lambda: xpl.optim.LinearLR(pair()[0], 1, 2), "LinearLR", "end_factor", "2", "[0, 1]", "end_factor=1.0"),
    Bad(lambda: xpl.optim.OneCycleLR(pair()[0], 1.0), "OneCycleLR", "total_steps", "None", "total_steps", "epochs"),
    Bad(lambda: xpl.optim.OneCycleLR(pair()[0], [1.0], 9), "OneCycleLR", "max_lr", "1 values", "2", "one max_lr"),
    Bad(
        lambda: xpl.optim.LambdaLR(pair()[0], [lambda e: 1.0]),
        "LambdaLR",
        "lr_lambda",
        "1 values",
        "2",
        "one lr_lambda",
    ),
    Bad(
        lambda: [s.step() for s in [xpl.optim.OneCycleLR(pair()[0], 1.0, 3)] * 5],
        "OneCycleLR",
        "total_steps",
        "step 4 of 3",
        "no more",
        "larger",
    ),
    Bad(
        lambda: xpl.optim.StepLR(pair()[0], 3).load_state_dict({"epoch": 3}),
        "StepLR",
        "state",
        "epoch",
        "last_epoch",
        "state_dict()",
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda b: f"{b.layer}-{b.argument}-{b.got}".replace(" ", ""))
def test_is_refused(bad):
    assert_refused(bad)
