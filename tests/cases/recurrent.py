"""Rows for recurrent networks and their cells. With lengths, torch's twin is a packed sequence."""

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import xplayers as xpl
from tests.cases import Bad, Case, Fault, Function, f32, f64, floats, values

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}


def _packed(module, inputs, call):
    lengths = torch.as_tensor(call["lengths"])
    packed = pack_padded_sequence(inputs[0], lengths, batch_first=module.batch_first, enforce_sorted=False)
    y, h = module(packed, *inputs[1:])
    steps = inputs[0].shape[1 if module.batch_first else 0]
    return pad_packed_sequence(y, batch_first=module.batch_first, total_length=steps)[0], h


def _draw(function, *args, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return function(*args, **kwargs)


def _kept(p, layers, *shape):
    """What torch's dropout between the layers keeps in `_draw`."""
    draw = lambda: [torch.empty(shape, dtype=torch.float64).bernoulli_(1 - p) for _ in range(layers)]  # noqa: E731
    return values(torch.stack(_draw(draw)).numpy() > 0)


_KINK = dict.fromkeys(
    ("agrees_in_float16", "agrees_in_bfloat16"), "a rounding to half precision may carry a ReLU over its kink"
)


def _case(layer, *args, lengths=None, **kwargs):
    inputs = kwargs.pop("inputs")
    skip = _KINK if "relu" in (*args, kwargs.get("nonlinearity")) else {}
    if lengths is None:
        return Case(layer, args, kwargs, inputs=inputs, skip=skip)
    given = {"lengths": values(np.array(lengths))} if isinstance(lengths, list) else {}
    call = {"lengths": lengths} if isinstance(lengths, tuple) else {}
    return Case(layer, args, kwargs, inputs=inputs, arrays=given, call=call, twin_call=_packed, skip=skip)


_STATES = ((2, 3, 5), (2, 3, 5))

LAYERS = [
    _case("RNN", 2, 5, inputs=((4, 3, 2),)),
    _case("RNN", 2, 5, 2, "relu", True, True, inputs=((3, 4, 2), (2, 3, 5))),
    _case("RNN", 2, 5, bias=False, bidirectional=True, inputs=((4, 2), (2, 5))),
    _case("RNN", 2, 5, 2, nonlinearity="tanh", bidirectional=True, inputs=((4, 3, 2),), lengths=[2, 4, 1]),
    _case("RNN", 2, 5, nonlinearity="relu", batch_first=True, inputs=((3, 4, 2), (1, 3, 5)), lengths=(4, 1, 3)),
    _case("LSTM", 2, 5, inputs=((4, 3, 2),)),
    _case("LSTM", 2, 5, batch_first=True, inputs=((3, 4, 2),)),
    _case("LSTM", 2, 5, 2, inputs=((4, 3, 2), _STATES)),
    _case("LSTM", 2, 5, 2, bias=False, batch_first=True, inputs=((3, 4, 2), _STATES)),
    _case("LSTM", 2, 5, bidirectional=True, inputs=((4, 2), ((2, 5), (2, 5)))),
    _case("LSTM", 2, 5, 2, bidirectional=True, proj_size=2, inputs=((4, 3, 2),)),
    _case("LSTM", 2, 5, bias=False, proj_size=2, inputs=((4, 3, 2), ((1, 3, 2), (1, 3, 5)))),
    _case("LSTM", 2, 5, inputs=((1, 1, 2),)),
    _case("LSTM", 2, 5, 2, bidirectional=True, inputs=((4, 3, 2),), lengths=[2, 4, 3]),
    _case("LSTM", 2, 5, bidirectional=True, batch_first=True, inputs=((3, 4, 2), _STATES), lengths=[1, 3, 4]),
    _case("LSTM", 2, 5, proj_size=3, inputs=((4, 3, 2), ((1, 3, 3), (1, 3, 5))), lengths=(4, 2, 1)),
    _case("GRU", 2, 5, inputs=((4, 3, 2),)),
    _case("GRU", 2, 5, 2, batch_first=True, bidirectional=True, inputs=((3, 4, 2), (4, 3, 5))),
    _case("GRU", 2, 5, bias=False, inputs=((4, 2),)),
    _case("GRU", 2, 5, 2, bidirectional=True, inputs=((4, 3, 2), (4, 3, 5)), lengths=[2, 4, 3]),
    Case(
        "GRU",
        (2, 5, 3),
        {"dropout": 0.4},
        inputs=((4, 3, 2),),
        arrays={"mask": _kept(0.4, 2, 4, 3, 5)},
        twin_call=lambda module, inputs, call: _draw(module, *inputs),
    ),
    _case("RNNCell", 2, 5, inputs=((3, 2), (3, 5))),
    _case("RNNCell", 2, 5, False, "relu", inputs=((3, 2),)),
    _case("RNNCell", 2, 5, inputs=((2,), (5,))),
    _case("LSTMCell", 2, 5, inputs=((3, 2), ((3, 5), (3, 5)))),
    _case("LSTMCell", 2, 5, bias=False, inputs=((3, 2),)),
    _case("LSTMCell", 2, 5, inputs=((2,), ((5,), (5,)))),
    _case("GRUCell", 2, 5, inputs=((3, 2), (3, 5))),
    _case("GRUCell", 2, 5, bias=False, inputs=((2,),)),
]


def _torch(name):
    """torch's own function, with zeros, unbatched inputs, lengths and its mask as its modules have them."""
    function = getattr(torch, name)

    def twin(x, hx, params, lengths=None, mask=None, **given):
        options = {"has_biases": True, "num_layers": 1, "dropout": 0.0, "train": False, "bidirectional": False}
        first = given.pop("batch_first", False)
        options.update(given)
        one = x.ndim == 2
        x = x[:, None] if one else x.transpose(0, 1) if first else x
        scans = options["num_layers"] * (1 + options["bidirectional"])
        widths = (params[1].shape[1], params[1].shape[0] // GATES[name])[: 1 + (name == "lstm")]
        if hx is None:
            hx = tuple(x.new_zeros(scans, x.shape[1], n) for n in widths)
        else:
            hx = hx if isinstance(hx, tuple) else (hx,)
            hx = tuple(s[:, None] for s in hx) if one else hx
        if lengths is None:
            state = hx if name == "lstm" else hx[0]
            y, *states = _draw(function, x, state, params, *options.values(), False)
        else:
            packed = pack_padded_sequence(x, torch.as_tensor(lengths), enforce_sorted=False)
            hx = tuple(s[:, packed.sorted_indices] for s in hx)
            state = hx if name == "lstm" else hx[0]
            y, *states = _draw(function, packed.data, packed.batch_sizes, state, params, *options.values())
            y = pad_packed_sequence(packed._replace(data=y), total_length=x.shape[0])[0]
            states = [s[:, packed.unsorted_indices] for s in states]
        states = tuple(s[:, 0] for s in states) if one else tuple(states)
        y = y[:, 0] if one else y.transpose(0, 1) if first else y
        return y, states if name == "lstm" else states[0]

    return twin


def _weights(gates, inputs, hidden, layers=1, directions=1, bias=True, proj=0):
    width, rows = proj or hidden, gates * hidden
    out = ()
    for layer in range(layers):
        each = ((rows, width * directions if layer else inputs), (rows, width))
        out += (each + ((rows,), (rows,)) * bias + (((proj, hidden),) if proj else ())) * directions
    return tuple(floats(*shape, scale=0.5) for shape in out)  # larger ones magnify roundings from step to step


def _rows(name):
    g = GATES[name]
    state = lambda *shape: (shape, shape) if name == "lstm" else shape  # noqa: E731
    two = {"num_layers": 2, "bidirectional": True}
    x, params = (4, 3, 2), _weights(g, 2, 5)
    four = _weights(g, 2, 5, 2, 2)
    yield {"x": x, "hx": None, "params": params}, {}
    yield {"x": x, "hx": state(4, 3, 5), "params": _weights(g, 2, 5, 2, 2, False)}, {"has_biases": False, **two}
    yield {"x": (3, 4, 2), "hx": state(4, 3, 5), "params": four}, {**two, "batch_first": True, "lengths": (2, 4, 1)}
    yield {"x": x, "hx": None, "params": four, "lengths": values(np.array([4, 1, 3]))}, two
    yield {"x": (4, 2), "hx": state(1, 5), "params": params}, {}
    yield (
        {"x": x, "hx": None, "params": four, "mask": _kept(0.4, 1, 4, 3, 10)},
        {**two, "dropout": 0.4, "train": True},
    )
    if name == "lstm":
        proj = {"x": x, "hx": ((4, 3, 3), (4, 3, 5)), "params": _weights(g, 2, 5, 2, 2, True, 3)}
        yield proj, two
        yield proj, {**two, "lengths": (3, 1, 4)}


def _cell(name):
    def twin(x, hx, **weights):
        if hx is None:
            hx = x.new_zeros(*x.shape[:-1], weights["w_hh"].shape[1])
            hx = (hx, hx) if name == "lstm" else hx
        out = getattr(torch, f"{name}_cell")(x, hx, **weights)
        return tuple(out) if isinstance(out, list) else out

    return twin


def _cell_rows(name):
    g = GATES[name]
    state = lambda *shape: (shape, shape) if name == "lstm" else shape  # noqa: E731
    weights = {"w_ih": (g * 4, 2), "w_hh": (g * 4, 4)}
    biases = {"b_ih": (g * 4,), "b_hh": (g * 4,)}
    yield {"x": (3, 2), "hx": state(3, 4), **weights, **biases}
    yield {"x": (3, 2), "hx": None, **weights, **biases}
    yield {"x": (3, 2), "hx": state(3, 4), **weights}


FUNCTIONS = [
    *(Function(name, arrays, kwargs, twin=_torch(name)) for name in GATES for arrays, kwargs in _rows(name)),
    *(Function(f"{name}_cell", arrays, twin=_cell(name)) for name in GATES for arrays in _cell_rows(name)),
]

_lstm = lambda: xpl.LSTM(4, 5, 2)  # noqa: E731
_gru = lambda: xpl.GRU(4, 5, batch_first=True)  # noqa: E731


def _called():
    layer = xpl.LSTM(4, 5)
    layer(f32(6, 3, 4))
    return layer


BAD_CALLS = [
    Bad(lambda: _lstm()(f32(6, 3, 3)), "LSTM(4, 5, num_layers=2)", "x", "3 features", "4 features", "LSTM(3"),
    Bad(lambda: _lstm()(f32(4)), "LSTM(4, 5", "x", "1-d", "(T, N, 4) or (T, 4)", "x[None, ...]"),
    Bad(lambda: _lstm()(f32(0, 3, 4)), "LSTM(4, 5", "x", "no steps", "one step", "no steps"),
    Bad(lambda: _lstm()(np.ones((6, 3, 4), int)), "LSTM(4, 5", "x", "int64", "floating", "astype", TypeError),
    Bad(lambda: _lstm()(f32(6, 3, 4), f32(2, 3, 5)), "LSTM(4, 5", "hx", "ndarray", "(h, c)", "hx=(h, c)", TypeError),
    Bad(lambda: _lstm()(f32(6, 3, 4), (f32(2, 3, 5),)), "LSTM", "hx", "tuple of 1", "(h, c)", "hx=(h, c)", TypeError),
    Bad(
        lambda: _lstm()(f32(6, 3, 4), (f32(2, 3, 5), f32(2, 3, 4))),
        "LSTM(4, 5",
        "hx",
        "c of shape (2, 3, 4)",
        "(2, 3, 5)",
        "no hx for zeros",
    ),
    Bad(lambda: _gru()(f32(3, 6, 4), f32(3, 1, 5)), "GRU(4, 5, batch_first", "hx", "(3, 1, 5)", "(1, 3, 5)", "shape"),
    Bad(lambda: _gru()(f32(6, 4), f32(1, 6, 5)), "GRU(4, 5", "hx", "(1, 6, 5)", "(1, 5)", "pass h of shape (1, 5)"),
    Bad(
        lambda: _gru()(f32(3, 6, 4), f64(1, 3, 5)),
        "GRU(4, 5",
        "hx",
        "numpy float64",
        "numpy float32",
        "layer.to(like=hx)",
        TypeError,
    ),
    Bad(lambda: _gru()(f32(3, 6, 4), lengths=(6, 2)), "GRU(4, 5", "lengths", "(2,)", "(3,)", "one length a sample"),
    Bad(
        lambda: _gru()(f32(3, 6, 4), lengths=f32(3)),
        "GRU(4, 5",
        "lengths",
        "float32",
        "an integer dtype",
        "cast",
        TypeError,
    ),
    Bad(
        lambda: _gru()(f32(3, 6, 4), lengths=(6, 0, 7)),
        "GRU(4, 5",
        "lengths",
        "(6, 0, 7)",
        "from 1 to 6",
        "leave empty",
    ),
    Bad(lambda: _gru()(f32(6, 4), lengths=(6,)), "GRU(4, 5", "lengths", "one sample", "None", "axis of the batch"),
    Bad(lambda: _gru()(f32(3, 6, 4), lengths=6), "GRU(4, 5", "lengths", "a int", "array or ints", "tuple", TypeError),
    Bad(lambda: _called().backward(f32(6, 3, 5)), "LSTM(4, 5)", "dy", "ndarray", "a tuple of 2", "None", TypeError),
    Bad(lambda: _called().backward((f32(6, 3, 4), None)), "LSTM(4, 5)", "dy", "(6, 3, 4)", "(6, 3, 5)", "very output"),
    Bad(lambda: xpl.LSTM(4, 5, proj_size=5), "LSTM(4, 5, proj_size=5)", "proj_size", "5", "less than", "below 5"),
    Bad(lambda: xpl.LSTM(4, 5, proj_size=-1), "LSTM(4, 5", "proj_size", "-1", "at least 0", "proj_size=1"),
    Bad(lambda: xpl.GRU(4, 0), "GRU(4, 0)", "hidden_size", "0", "at least 1", "hidden_size=1"),
    Bad(lambda: xpl.GRU(4.0, 5), "GRU(4.0, 5)", "input_size", "4.0", "an int", "GRU(10, 20)", TypeError),
    Bad(lambda: xpl.GRU(0, 5), "GRU(0, 5)", "input_size", "0", "at least 1", "input_size=1"),
    Bad(lambda: xpl.RNN(4, 5, 0), "RNN(4, 5, num_layers=0)", "num_layers", "0", "at least 1", "num_layers=1"),
    Bad(lambda: xpl.RNN(4, 5, 2, dropout=1.5), "RNN(4, 5", "dropout", "1.5", "a probability", "dropout=0.5"),
    Bad(lambda: xpl.RNN(4, 5, nonlinearity="elu"), "RNN(4, 5", "nonlinearity", "'elu'", "'tanh' or 'relu'", "tanh"),
    Bad(lambda: xpl.RNNCell(4, 5, True, "elu"), "RNNCell(4, 5", "nonlinearity", "'elu'", "'tanh' or 'relu'", "tanh"),
    Bad(lambda: xpl.LSTMCell(4, 5)(f32(3, 3)), "LSTMCell(4, 5)", "x", "3 features", "4 features", "LSTMCell(3"),
    Bad(lambda: xpl.LSTMCell(4, 5)(f32(1, 3, 4)), "LSTMCell(4, 5)", "x", "3-d", "(N, 4) or (4,)", "x[0, ...]"),
    Bad(lambda: xpl.GRUCell(4, 5)(f32(3, 4), f32(2, 5)), "GRUCell(4, 5)", "hx", "(2, 5)", "(3, 5)", "h of shape"),
]

FAULTS = [
    Fault("recurrent._LSTM.back", "dc = dc + dh", "dc = dh", "LSTM(2,5)"),
    Fault("recurrent._LSTM.back", "(None, dc * f)", "(None, dc)", "LSTM(2,5)"),
    Fault("recurrent._LSTM.step", "o * xp.tanh(c), c", "o * c, c", "LSTM(2,5)"),
    Fault("recurrent._LSTM.step", "_parts(z, 4)[2]", "_parts(z, 4)[3]", "LSTM(2,5)"),
    Fault("recurrent._GRU.back", "dn * reset", "dn", "GRU(2,5)"),
    Fault("recurrent._GRU.back", "(dh * z,)", "(None,)", "GRU(2,5)"),
    Fault("recurrent._GRU.step", "reset * r[:, cut:]", "r[:, cut:]", "GRU(2,5)"),
    Fault("recurrent._Tanh.prepare", "after[0] * after[0]", "after[0]", "RNN(2,5)"),
    Fault("recurrent._ReLU.prepare", "after[0] > 0", "after[0] >= 0", "RNN(2,5,2,'relu'"),
    Fault("recurrent._before", "steps[0] == 0", "True", "LSTM(2,5,bid"),
    Fault(
        "recurrent._scan_forward",
        "xp.where(active, states[0], 0.0)",
        "states[0]",
        "LSTM(2,5,2,bidirectional=True)-(4,3,2),len",
    ),
    Fault(
        "recurrent._scan_forward",
        "xp.where(active[t, ...], new, old)",
        "new",
        "GRU(2,5,2,bidirectional=True)-(4,3,2),(4",
    ),
    Fault(
        "recurrent._scan_backward",
        "xp.where(active[t, ...], new, old)",
        "new",
        "GRU(2,5,2,bidirectional=True)-(4,3,2),(4",
    ),
    Fault("recurrent._scan_backward", "dstate[0] + dy[t, ...]", "dy[t, ...]", "RNN(2,5)"),
    Fault("recurrent._scan_backward", "_over_time(dr, before[0])", "_over_time(dr, states[0])", "RNN(2,5)"),
    Fault("recurrent._scan_backward", "sum_leading(dr)", "sum_leading(da)", "GRU(2,5)"),
    Fault("recurrent._stacked", "if active is None", "if True", "LSTM(2,5,proj_size=3"),
    Fault("recurrent.backward_by", "dxs[0] + dxs[1]", "dxs[0]", "LSTM(2,5,2,bidirectional=True,proj"),
    Fault("recurrent.backward_by", "dropout_backward(dy, dropped)", "dy", "GRU(2,5,3"),
    Fault("recurrent.forward_by", "mask[layer - 1, ...]", "mask[0, ...]", "GRU(2,5,3"),
    Fault("layers.recurrent._Recurrent.backward", "return dx, dhx", "return dx, None", "LSTM(2,5,2)"),
    Fault(
        "layers.recurrent._RecurrentCell.backward",
        "zip(_CELL, dweights, strict=True)",
        "zip(_CELL, dweights[::-1], strict=True)",
        "GRUCell",
    ),
]


def _weights(gates: int, i: int, h: int, layers: int = 1, ways: int = 1, biases: bool = True) -> tuple:
    """The shapes of a network's params."""
    out: list = []
    for layer in range(layers):
        for _ in range(ways):
            out += [(gates * h, i if layer == 0 else ways * h), (gates * h, h)]
            out += [(gates * h,), (gates * h,)] if biases else []
    return tuple(out)


TWINS = [
    Function("lstm", {"x": (5, 3, 4), "hx": ((1, 3, 6), (1, 3, 6)), "params": _weights(4, 4, 6)}),
    Function(
        "lstm",
        {"x": (7, 9, 5), "hx": None, "params": _weights(4, 5, 13, 2, 2)},
        {"num_layers": 2, "bidirectional": True},
    ),
    Function(
        "lstm",
        {"x": (3, 1, 4), "hx": None, "params": _weights(4, 4, 6, biases=False)},
        {"has_biases": False, "batch_first": True},
    ),
    Function("lstm", {"x": (4, 3), "hx": ((1, 2), (1, 2)), "params": _weights(4, 3, 2)}),
    Function("gru", {"x": (5, 3, 4), "hx": (1, 3, 6), "params": _weights(3, 4, 6)}),
    Function(
        "gru",
        {"x": (6, 17, 5), "hx": None, "params": _weights(3, 5, 9, 2, 2)},
        {"num_layers": 2, "bidirectional": True},
    ),
    Function(
        "rnn_tanh",
        {"x": (5, 3, 4), "hx": (2, 3, 6), "params": _weights(1, 4, 6, 1, 2)},
        {"bidirectional": True},
    ),
    Function(
        "rnn_tanh",
        {"x": (1, 11, 4), "hx": None, "params": _weights(1, 4, 16, biases=False)},
        {"has_biases": False},
    ),
    Function("rnn_relu", {"x": (5, 3, 4), "hx": (1, 3, 6), "params": _weights(1, 4, 6)}),
    Function(
        "rnn_relu",
        {"x": (3, 8, 4), "hx": None, "params": _weights(1, 4, 6, 2)},
        {"num_layers": 2, "batch_first": True},
    ),
]
