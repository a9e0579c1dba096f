"""Recurrent networks: one scan through time that four cells share, each cell a step and its way back.

Shapes everywhere: T steps, N samples, I inputs, H hidden units, P = H outputs of a cell (fewer with a projection),
G = 1, 3 or 4 H gates, D = 1 or 2 directions. `params` holds (w_ih, w_hh, b_ih, b_hh, w_hr) for each layer and in it for
each direction, less what is not there: w_ih (G, I) or (G, D P) above the first layer, w_hh (G, P), b_ih and b_hh (G,)
with `has_biases`, w_hr (P, H) in an LSTM with a projection.
"""

from xplayers.arrays import array_namespace, device, is_array, like, sum_leading
from xplayers.errors import refusal

from .activation import sigmoid
from .dropout import dropout_backward, dropout_forward
from .linear import linear_backward, linear_forward
from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "gru",
    "gru_backward",
    "gru_cell",
    "gru_cell_backward",
    "gru_cell_forward",
    "gru_forward",
    "lstm",
    "lstm_backward",
    "lstm_cell",
    "lstm_cell_backward",
    "lstm_cell_forward",
    "lstm_forward",
    "rnn_relu",
    "rnn_relu_backward",
    "rnn_relu_cell",
    "rnn_relu_cell_backward",
    "rnn_relu_cell_forward",
    "rnn_relu_forward",
    "rnn_tanh",
    "rnn_tanh_backward",
    "rnn_tanh_cell",
    "rnn_tanh_cell_backward",
    "rnn_tanh_cell_forward",
    "rnn_tanh_forward",
]


# -- the cells: a = x W_ih^T + b_ih and r = h W_hh^T + b_hh, both (N, G), come from the scan --


class _Tanh:
    """h' = tanh(a + r)."""

    gates, states = 1, 1

    @staticmethod
    def step(a, r, state):
        """-> the state after the step, and what the way back needs besides the states."""
        return (array_namespace(a).tanh(a + r),), ()

    @staticmethod
    def prepare(before, after, kept):
        """What `back` takes a step at a time, for all steps at once: before, after, kept are (T, N, .)."""
        return (1.0 - after[0] * after[0],)

    @staticmethod
    def back(dstate, slope):
        """The gradients of the state after a step -> da, dr and the state's before it, less what comes through r."""
        da = dstate[0] * slope
        return da, da, (None,)


class _ReLU(_Tanh):
    """h' = max(a + r, 0)."""

    @staticmethod
    def step(a, r, state):
        return (array_namespace(a).maximum(a + r, 0.0),), ()

    @staticmethod
    def prepare(before, after, kept):
        return (array_namespace(after[0]).astype(after[0] > 0, after[0].dtype),)


class _LSTM:
    """i, f, o = sigmoid, g = tanh of a + r; c' = f c + i g; h' = o tanh(c')."""

    gates, states = 4, 2

    @staticmethod
    def step(a, r, state):
        xp = array_namespace(a)
        z = a + r  # (N, 4H)
        sigmoids = sigmoid(z)  # of g too, and for nothing: one call is quicker than two
        i, f, _, o = _parts(sigmoids, 4)
        g = xp.tanh(_parts(z, 4)[2])
        c = f * state[1] + i * g
        return (o * xp.tanh(c), c), (sigmoids, g)

    @staticmethod
    def prepare(before, after, kept):
        tanh_c = array_namespace(kept[0]).tanh(after[1])
        return *kept, tanh_c, before[1]

    @staticmethod
    def back(dstate, sigmoids, g, tanh_c, c):
        dh, dc = dstate
        i, f, _, o = _parts(sigmoids, 4)
        dc = dc + dh * (o * (1.0 - tanh_c * tanh_c))
        di, df, dg, do = dc * (g * i * (1.0 - i)), dc * (c * f * (1.0 - f)), dc * (i * (1.0 - g * g)), dh * tanh_c
        da = array_namespace(g).concat([di, df, dg, do * (o * (1.0 - o))], axis=-1)
        return da, da, (None, dc * f)


class _GRU(_Tanh):
    """r, z = sigmoid(a + r); n = tanh(a + r * r_n), the reset after the product; h' = (1 - z) n + z h."""

    gates, states = 3, 1

    @staticmethod
    def step(a, r, state):
        xp = array_namespace(a)
        h = state[0]
        cut = 2 * h.shape[-1]
        rz = sigmoid(a[:, :cut] + r[:, :cut])
        reset, z = _parts(rz, 2)
        n = xp.tanh(a[:, cut:] + reset * r[:, cut:])
        return (n + z * (h - n),), (rz, n, r[:, cut:])

    @staticmethod
    def prepare(before, after, kept):
        return (*kept, before[0])

    @staticmethod
    def back(dstate, rz, n, r_n, h):
        xp = array_namespace(n)
        (dh,) = dstate
        reset, z = _parts(rz, 2)
        dn = dh * (1.0 - z) * (1.0 - n * n)  # by what stands in the tanh
        dz = dh * (h - n) * z * (1.0 - z)
        dreset = dn * r_n * reset * (1.0 - reset)
        return xp.concat([dreset, dz, dn], axis=-1), xp.concat([dreset, dz, dn * reset], axis=-1), (dh * z,)


def _parts(gates, n):
    """(*, n H) -> n arrays (*, H)."""
    h = gates.shape[-1] // n
    return tuple(gates[..., k * h : (k + 1) * h] for k in range(n))


# -- the scan: one direction of one layer --


def _scan_forward(cell, x, state, weights, active, steps):
    """x (T, N, I), state ((N, P),) or ((N, P), (N, H)) -> (y (T, N, P), the last state), cache.

    steps: 0 ... T-1, or T-1 ... 0 for the way back in time. active (T, N, 1), or None where all is: where it is false
    the state stays as it is and y is 0. So the reverse direction starts at the true end of each sequence.
    """
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    xp = array_namespace(x)
    a, product = linear_forward(x, w_ih, b_ih)  # (T, N, G): all steps in one product
    states, kept = [()] * len(steps), [()] * len(steps)
    first = state
    for t in steps:
        r = xp.matmul(state[0], w_hh.T)  # (N, G)
        after, kept[t] = cell.step(a[t, ...], r if b_hh is None else r + b_hh, state)
        if w_hr is not None:
            after = (xp.matmul(after[0], w_hr.T), *after[1:])
        if active is not None:
            after = tuple(xp.where(active[t, ...], new, old) for new, old in zip(after, state, strict=True))
        states[t] = state = after
    states = tuple(xp.stack(s) for s in zip(*states, strict=True))
    kept = tuple(xp.stack(k) for k in zip(*kept, strict=True))
    y = states[0] if active is None else xp.where(active, states[0], 0.0)
    return (y, state), (product, first, weights, active, steps, states, kept)


def _scan_backward(cell, dy, dstate, cache, want_x, want):
    """dy (T, N, P) and the gradients of the last state -> dx, those of the first state and of the five weights.

    `want` is for the weights, whose gradients are one product over all steps each.
    """
    product, first, weights, active, steps, states, kept = cache
    _, w_hh, _, b_hh, w_hr = weights
    xp = array_namespace(dy)
    before = tuple(_before(s, s0, steps) for s, s0 in zip(states, first, strict=True))  # (T, N, .)
    items = cell.prepare(before, states, kept)
    dy = dy if active is None else xp.where(active, dy, 0.0)
    das, drs, dhs = [None] * len(steps), [None] * len(steps), [None] * len(steps)
    for t in reversed(steps):
        dafter = (dstate[0] + dy[t, ...], *dstate[1:])
        dm = dafter[0] if w_hr is None else xp.matmul(dafter[0], w_hr)  # (N, H)
        da, dr, (dh, *rest) = cell.back((dm, *dafter[1:]), *(item[t, ...] for item in items))
        through = xp.matmul(dr, w_hh)  # (N, P)
        dstate = (through if dh is None else through + dh, *rest)
        if active is not None:
            dstate = tuple(xp.where(active[t, ...], new, old) for new, old in zip(dstate, dafter, strict=True))
        das[t], drs[t], dhs[t] = da, dr, dafter[0]
    da = _stacked(das, active)  # (T, N, G)
    dr = da if drs[0] is das[0] else _stacked(drs, active)
    dx, dw_ih, db_ih = linear_backward(da, product, wanted=(want_x, want[0], want[2]))
    dw_hh = _over_time(dr, before[0]) if want[1] else None
    db_hh = sum_leading(dr) if want[3] and b_hh is not None else None
    dw_hr = None
    if want[4] and w_hr is not None:
        *_, o = _parts(kept[0], 4)
        dw_hr = _over_time(_stacked(dhs, active), o * xp.tanh(states[1]))
    return dx, dstate, (dw_ih, dw_hh, db_ih, db_hh, dw_hr)


def _before(states, first, steps):
    """(T, N, .): the state before each step, from those after each and the first one."""
    first = first[None, ...]
    return array_namespace(states).concat([first, states[:-1, ...]] if steps[0] == 0 else [states[1:, ...], first])


def _stacked(steps, active):
    """(T, N, .), 0 past the ends."""
    xp = array_namespace(steps[0])
    return xp.stack(steps) if active is None else xp.where(active, xp.stack(steps), 0.0)


def _over_time(d, x):
    """d (T, N, G), x (T, N, P) -> (G, P): the gradient of a weight, one product over all steps."""
    xp = array_namespace(d)
    return xp.matmul(xp.reshape(d, (-1, d.shape[-1])).T, xp.reshape(x, (d.shape[0] * d.shape[1], x.shape[-1])))


class SCANS:
    """The scans of the directions of a layer, each given as the arguments of `_scan_forward` or of its way back."""

    forward = staticmethod(lambda ways: [_scan_forward(*way) for way in ways])
    backward = staticmethod(lambda ways: [_scan_backward(*way) for way in ways])


# -- layers and directions over the scan, or over another one that takes the same arguments --


def forward_by(
    scans, cell, x, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths, mask, rng
):
    """What the four networks share; hx is a tuple of one or two states, or None. -> (y, states), cache."""
    xp = array_namespace(x)
    layout = "one sample" if x.ndim == 2 else "batch first" if batch_first else "time first"
    x = _to_time(x, layout)  # (T, N, I)
    steps = range(x.shape[0])
    orders = (steps, steps[::-1]) if bidirectional else (steps,)
    per = len(params) // (num_layers * len(orders))
    slots = (0, 1, *((2, 3) if has_biases else ()), 4)[:per]  # which of the five weights are there
    active = None if lengths is None else _active(x, lengths)
    y = x if active is None else xp.where(active, x, 0.0)  # what stands past an end, NaN too, reaches nothing
    lasts, layers = [], []
    for layer in range(num_layers):
        dropped = ()
        if layer:
            given = None if mask is None else mask[layer - 1, ...]
            y, dropped = dropout_forward(y, dropout, train, mask=given, rng=rng)
        ways = []
        for k, order in enumerate(orders, layer * len(orders)):
            held = dict(zip(slots, params[k * per : (k + 1) * per], strict=True))
            weights = tuple(held.get(i) for i in range(5))
            ways.append((cell, y, _first(cell, hx, k, weights, y, layout), weights, active, order))
        answers, caches = zip(*scans.forward(ways), strict=True)
        ys, last = zip(*answers, strict=True)
        lasts += last
        y = xp.concat(ys, axis=-1) if bidirectional else ys[0]  # (T, N, D P)
        layers.append((dropped, caches))
    return (_from_time(y, layout), _stack_states(lasts, layout)), (tuple(layers), slots, layout, hx is not None)


def backward_by(scans, cell, dy, dstates, cache, wanted):
    """dy or None, the gradients of the last states or Nones -> dx, those of hx, those of params."""
    layers, slots, layout, has_hx = cache
    per, d = len(slots), len(layers[0][1])
    k = len(layers) * d
    want_x, want_hx, want_params = wants(wanted, 3)
    want_params = want_params if isinstance(want_params, tuple) else (want_params,) * (k * per)
    some = layers[0][1][0][5]  # the states of the first scan: (T, N, P) and (T, N, H)
    xp = array_namespace(some[0])
    t, n, p = some[0].shape
    dy = xp.zeros((t, n, d * p), **like(some[0])) if dy is None else _to_time(dy, layout)  # (T, N, D P)
    dlast = tuple(
        xp.zeros((k, n, s.shape[-1]), **like(s)) if ds is None else xp.reshape(ds, (k, n, s.shape[-1]))
        for ds, s in zip(dstates, some, strict=True)
    )
    dfirsts, dparams = [], []
    for layer in reversed(range(len(layers))):
        dropped, caches = layers[layer]
        ways, k = [], k - d
        for i, (part, each) in enumerate(zip(_parts(dy, d), caches, strict=True), k):
            asked = dict(zip(slots, want_params[i * per : (i + 1) * per], strict=True))
            want = tuple(asked.get(slot, False) for slot in range(5))
            ways.append((cell, part, tuple(s[i, ...] for s in dlast), each, want_x or layer > 0, want))
        dxs, dfirst, dweights = zip(*scans.backward(ways), strict=True)
        dfirsts[:0] = dfirst
        dparams[:0] = [weights[i] for weights in dweights for i in slots]
        dy = dxs[0] if d == 1 or dxs[0] is None else dxs[0] + dxs[1]
        if layer:
            dy = dropout_backward(dy, dropped)
    dx = _from_time(dy, layout) if want_x else None
    return dx, _stack_states(dfirsts, layout) if want_hx and has_hx else None, tuple(dparams)


def _to_time(x, layout):
    """-> (T, N, .)."""
    if layout == "one sample":
        return x[:, None, :]
    return array_namespace(x).permute_dims(x, (1, 0, 2)) if layout == "batch first" else x


def _from_time(x, layout):
    return x[:, 0, :] if layout == "one sample" else _to_time(x, layout)


def _stack_states(states, layout):
    """The states of all scans -> (L D, N, .) each."""
    out = tuple(array_namespace(*s).stack(s) for s in zip(*states, strict=True))
    return tuple(s[:, 0, :] for s in out) if layout == "one sample" else out


def _first(cell, hx, k, weights, x, layout):
    """The state that the scan k begins with, zeros where hx is None."""
    if hx is None:
        w_hh = weights[1]
        widths = (w_hh.shape[1], w_hh.shape[0] // cell.gates)[: cell.states]
        return tuple(array_namespace(x).zeros((x.shape[1], n), **like(x)) for n in widths)
    return tuple(s[k, ...][None, :] if layout == "one sample" else s[k, ...] for s in hx)


def _active(x, lengths):
    """(T, N, 1): whether a step lies within its sequence."""
    xp = array_namespace(x)
    t, n, _ = x.shape
    steps = xp.arange(t, device=device(x))
    lengths = xp.astype(lengths, steps.dtype) if is_array(lengths) else xp.asarray(lengths, **like(steps))
    if lengths.shape != (n,):
        raise refusal("recurrent", "lengths", f"shape {lengths.shape}", f"shape ({n},)", "pass one int a sample")
    return (steps[:, None] < lengths[None, :])[:, :, None]


# -- the networks --


@accelerable
def rnn_tanh_forward(
    x,
    hx,
    params,
    has_biases=True,
    num_layers=1,
    dropout=0.0,
    train=False,
    bidirectional=False,
    batch_first=False,
    *,
    lengths=None,
    mask=None,
    rng=None,
):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh) for t = 1 ... T; layer over layer, and in both directions.

    x (T, N, I), (N, T, I) with `batch_first`, or (T, I); hx (L D, N, H) or (L D, H), None for zeros; params: a tuple of
    arrays, see the head of the module -> (y (T, N, D H) or as x is laid out, h (L D, N, H)).
    dropout: between the layers, in training; mask (L - 1, T, N, D H): what it keeps, where it is not to be drawn.
    lengths (N,): ints, an array or a tuple; y is 0 past the end of a sequence, h is the state at its true end, and the
    reverse direction begins there. Like mask and rng it has no gradient. Errors: ValueError where lengths are not one a
    sample; those of the library where shapes do not fit.
    Twin: torch.rnn_tanh; with lengths torch.nn.utils.rnn.pack_padded_sequence. Source: Elman, Finding structure in time
    (1990); Schuster, Paliwal, Bidirectional recurrent neural networks (1997).
    """
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths, mask, rng)
    (y, (h,)), cache = forward_by(SCANS, _Tanh, x, None if hx is None else (hx,), params, *options)
    return (y, h), cache


@follows_cache
def rnn_tanh_backward(dy, cache, *, wanted=None):
    """dy (dy, dh), either may be None -> dx, dhx, dparams (a tuple): the gradients of `rnn_tanh_forward`.

    `wanted` is for x, hx and params; for params also a tuple with one boolean each.
    """
    dx, dhx, dparams = backward_by(SCANS, _Tanh, dy[0], dy[1:], cache, wanted)
    return dx, None if dhx is None else dhx[0], dparams


rnn_tanh = answer_of(rnn_tanh_forward)


@accelerable
def rnn_relu_forward(
    x,
    hx,
    params,
    has_biases=True,
    num_layers=1,
    dropout=0.0,
    train=False,
    bidirectional=False,
    batch_first=False,
    *,
    lengths=None,
    mask=None,
    rng=None,
):
    """h_t = max(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh, 0) for t = 1 ... T.

    Shapes, arguments and errors as in `rnn_tanh_forward`. Twin: torch.rnn_relu.
    Source: Le, Jaitly, Hinton, A simple way to initialize recurrent networks of rectified linear units (2015).
    """
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths, mask, rng)
    (y, (h,)), cache = forward_by(SCANS, _ReLU, x, None if hx is None else (hx,), params, *options)
    return (y, h), cache


@follows_cache
def rnn_relu_backward(dy, cache, *, wanted=None):
    """dy (dy, dh), either may be None -> dx, dhx, dparams (a tuple): the gradients of `rnn_relu_forward`."""
    dx, dhx, dparams = backward_by(SCANS, _ReLU, dy[0], dy[1:], cache, wanted)
    return dx, None if dhx is None else dhx[0], dparams


rnn_relu = answer_of(rnn_relu_forward)


@accelerable
def lstm_forward(
    x,
    hx,
    params,
    has_biases=True,
    num_layers=1,
    dropout=0.0,
    train=False,
    bidirectional=False,
    batch_first=False,
    *,
    lengths=None,
    mask=None,
    rng=None,
):
    """i, f, g, o = W_ih x_t + b_ih + W_hh h_(t-1) + b_hh; c_t = s(f) c_(t-1) + s(i) tanh(g); h_t = s(o) tanh(c_t).

    s is the sigmoid; where params hold w_hr, h_t = W_hr (s(o) tanh(c_t)). The gates stand in the order i f g o.
    x as in `rnn_tanh_forward`; hx (h (L D, N, P), c (L D, N, H)), None for zeros -> (y (T, N, D P), (h, c)).
    Other arguments and errors as in `rnn_tanh_forward`. Twin: torch.lstm, its answer as torch.nn.LSTM nests it.
    Source: Hochreiter, Schmidhuber, Long short-term memory (1997); Gers et al., Learning to forget (2000); Sak et al.,
    Long short-term memory based recurrent neural network architectures (2014) for the projection.
    """
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths, mask, rng)
    return forward_by(SCANS, _LSTM, x, hx, params, *options)


@follows_cache
def lstm_backward(dy, cache, *, wanted=None):
    """dy (dy, (dh, dc)), None for a part that is 0 -> dx, (dh, dc) of hx, dparams: the gradients of `lstm_forward`."""
    dy, dstates = dy
    return backward_by(SCANS, _LSTM, dy, (None, None) if dstates is None else dstates, cache, wanted)


lstm = answer_of(lstm_forward)


@accelerable
def gru_forward(
    x,
    hx,
    params,
    has_biases=True,
    num_layers=1,
    dropout=0.0,
    train=False,
    bidirectional=False,
    batch_first=False,
    *,
    lengths=None,
    mask=None,
    rng=None,
):
    """r, z = s(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh); n = tanh(W_in x_t + b_in + r (W_hn h_(t-1) + b_hn));
    h_t = (1 - z) n + z h_(t-1).

    s is the sigmoid; the gates stand in the order r z n, and the reset comes after the product.
    Shapes, arguments and errors as in `rnn_tanh_forward`. Twin: torch.gru.
    Source: Cho et al., Learning phrase representations using RNN encoder-decoder (2014).
    """
    options = (has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths, mask, rng)
    (y, (h,)), cache = forward_by(SCANS, _GRU, x, None if hx is None else (hx,), params, *options)
    return (y, h), cache


@follows_cache
def gru_backward(dy, cache, *, wanted=None):
    """dy (dy, dh), either may be None -> dx, dhx, dparams (a tuple): the gradients of `gru_forward`."""
    dx, dhx, dparams = backward_by(SCANS, _GRU, dy[0], dy[1:], cache, wanted)
    return dx, None if dhx is None else dhx[0], dparams


gru = answer_of(gru_forward)


# -- the cells: a scan of one step --


def _cell_forward(cell, x, hx, w_ih, w_hh, b_ih, b_hh):
    """x (N, I) or (I,), hx a tuple of (N, H) or (H,) or None -> the state after the step, cache."""
    batched = x.ndim == 2
    x = x[None, ...] if batched else x[None, None, :]  # (1, N, I)
    hx = None if hx is None else tuple(s[None, ...] for s in hx)
    weights = (w_ih, w_hh, b_ih, b_hh, None)
    first = _first(cell, hx, 0, weights, x, "time first" if batched else "one sample")
    (_, last), cache = _scan_forward(cell, x, first, weights, None, range(1))
    return tuple(s if batched else s[0, :] for s in last), (batched, hx is not None, cache)


def _cell_backward(cell, dstate, cache, wanted):
    """-> dx, the tuple of hx's or None, dw_ih, dw_hh, db_ih, db_hh."""
    batched, has_hx, scan = cache
    want_x, want_hx, *want = wants(wanted, 6)
    after = scan[5]  # (1, N, .) each
    xp = array_namespace(after[0])
    dstate = tuple(
        xp.zeros(s.shape[1:], **like(s)) if ds is None else ds if batched else ds[None, :]
        for ds, s in zip(dstate, after, strict=True)
    )
    dy = xp.zeros_like(after[0])
    dx, dhx, (*dweights, _) = _scan_backward(cell, dy, dstate, scan, want_x, (*want, False))
    dx = None if dx is None else dx[0, ...] if batched else dx[0, 0, :]
    dhx = tuple(s if batched else s[0, :] for s in dhx) if want_hx and has_hx else None
    return dx, dhx, *dweights


def rnn_tanh_cell_forward(x, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    x (N, I) or (I,), hx (N, H) or (H,), None for zeros; w_ih (G, I), w_hh (G, H), b_ih and b_hh (G,)
    -> h of hx's shape. Errors: those of the library where shapes do not fit.
    Twin: torch.rnn_tanh_cell. Source: that of `rnn_tanh_forward`.
    """
    (h,), cache = _cell_forward(_Tanh, x, None if hx is None else (hx,), w_ih, w_hh, b_ih, b_hh)
    return h, cache


def rnn_tanh_cell_backward(dy, cache, *, wanted=None):
    """dy (N, H) -> dx, dhx, dw_ih, dw_hh, db_ih, db_hh: the gradients of `rnn_tanh_cell_forward`."""
    dx, dhx, *dweights = _cell_backward(_Tanh, (dy,), cache, wanted)
    return dx, None if dhx is None else dhx[0], *dweights


rnn_tanh_cell = answer_of(rnn_tanh_cell_forward)


def rnn_relu_cell_forward(x, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """h' = max(W_ih x + b_ih + W_hh h + b_hh, 0).

    x (N, I) or (I,), hx (N, H) or (H,), None for zeros; w_ih (G, I), w_hh (G, H), b_ih and b_hh (G,)
    -> h of hx's shape. Errors: those of the library where shapes do not fit.
    Twin: torch.rnn_relu_cell. Source: that of `rnn_relu_forward`.
    """
    (h,), cache = _cell_forward(_ReLU, x, None if hx is None else (hx,), w_ih, w_hh, b_ih, b_hh)
    return h, cache


def rnn_relu_cell_backward(dy, cache, *, wanted=None):
    """dy (N, H) -> dx, dhx, dw_ih, dw_hh, db_ih, db_hh: the gradients of `rnn_relu_cell_forward`."""
    dx, dhx, *dweights = _cell_backward(_ReLU, (dy,), cache, wanted)
    return dx, None if dhx is None else dhx[0], *dweights


rnn_relu_cell = answer_of(rnn_relu_cell_forward)


def lstm_cell_forward(x, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """i, f, g, o = W_ih x + b_ih + W_hh h + b_hh; c' = s(f) c + s(i) tanh(g); h' = s(o) tanh(c').

    x (N, I) or (I,), hx (h, c) of (N, H) or (H,) each, None for zeros; w_ih (G, I), w_hh (G, H), b_ih and b_hh (G,)
    -> (h, c) of hx's shape. Errors: those of the library where shapes do not fit.
    Twin: torch.lstm_cell. Source: that of `lstm_forward`.
    """
    return _cell_forward(_LSTM, x, hx, w_ih, w_hh, b_ih, b_hh)


def lstm_cell_backward(dy, cache, *, wanted=None):
    """dy (dh, dc), either may be None -> dx, (dh, dc) of hx, dw_ih, dw_hh, db_ih, db_hh: the gradients of
    `lstm_cell_forward`."""
    return _cell_backward(_LSTM, dy, cache, wanted)


lstm_cell = answer_of(lstm_cell_forward)


def gru_cell_forward(x, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """r, z = s(W_ih x + b_ih + W_hh h + b_hh); n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h' = (1 - z) n + z h.

    x (N, I) or (I,), hx (N, H) or (H,), None for zeros; w_ih (G, I), w_hh (G, H), b_ih and b_hh (G,)
    -> h of hx's shape. Errors: those of the library where shapes do not fit.
    Twin: torch.gru_cell. Source: that of `gru_forward`.
    """
    (h,), cache = _cell_forward(_GRU, x, None if hx is None else (hx,), w_ih, w_hh, b_ih, b_hh)
    return h, cache


def gru_cell_backward(dy, cache, *, wanted=None):
    """dy (N, H) -> dx, dhx, dw_ih, dw_hh, db_ih, db_hh: the gradients of `gru_cell_forward`."""
    dx, dhx, *dweights = _cell_backward(_GRU, (dy,), cache, wanted)
    return dx, None if dhx is None else dhx[0], *dweights


gru_cell = answer_of(gru_cell_forward)
