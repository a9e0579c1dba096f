"""Rows for the padding layers and `pad`."""

import xplayers as xpl
import xplayers.functional as F
from tests.cases import Bad, Case, Fault, Function, f32

_SHAPES = {1: (2, 3, 5), 2: (2, 3, 5, 4), 3: (2, 3, 4, 5, 3)}
_UNEVEN = {1: (2, 1), 2: (2, 1, 0, 3), 3: (1, 2, 0, 3, 1, 2)}
_LESS = {1: (-1, 2), 2: (2, -1, -2, -1), 3: (1, -1, -2, 2, -1, 0)}


def _rows(kind, n, *value):
    name, shape = f"{kind}Pad{n}d", _SHAPES[n]
    return [
        Case(name, (1, *value), inputs=(shape,)),
        Case(name, (_UNEVEN[n], *value), inputs=(shape,)),
        Case(name, (_LESS[n], *value), inputs=(shape[1:],)),
    ]


_KINDS = (("Constant", 1.5), ("Zero",), ("Reflection",), ("Replication",), ("Circular",))
LAYERS = [row for kind in _KINDS for n in (1, 2, 3) for row in _rows(kind[0], n, *kind[1:])]

FUNCTIONS = [
    Function("pad", {"x": (2, 3, 4)}, {"pad": (1, 2)}),
    Function("pad", {"x": (2, 3, 4)}, {"pad": (1, 2, 3, 0, 0, 1), "value": 2.5}),
    Function("pad", {"x": (2, 3, 4)}, {"pad": (-1, 2, -1, -1), "mode": "constant"}),
    Function("pad", {"x": (4,)}, {"pad": (-3, -1)}),
    Function("pad", {"x": (2, 3)}, {"pad": ()}),
    Function("pad", {"x": (0, 3)}, {"pad": (1, 1)}),
    Function("pad", {"x": (2, 3, 4)}, {"pad": (3, 2), "mode": "reflect"}),
    Function("pad", {"x": (2, 3, 4, 5)}, {"pad": (4, -2, -1, 2), "mode": "reflect"}),
    Function("pad", {"x": (2, 3, 3, 4, 3)}, {"pad": (1, 2, 0, 1, 2, 2), "mode": "reflect"}),
    Function("pad", {"x": (3, 4)}, {"pad": (6, 2), "mode": "replicate"}),
    Function("pad", {"x": (3, 4, 5)}, {"pad": (-3, 2, 1, -2), "mode": "replicate"}),
    Function("pad", {"x": (3, 4)}, {"pad": (4, 2), "mode": "circular"}),
    Function("pad", {"x": (2, 3, 4, 5)}, {"pad": (2, -2, -1, 3), "mode": "circular"}),
    Function("pad", {"x": (0, 3, 4, 5)}, {"pad": (1, 1, 1, 1), "mode": "circular"}),
]

BAD_CALLS = [
    Bad(lambda: xpl.ZeroPad2d((1, 1, 1)), "ZeroPad2d", "padding", "(1, 1, 1)", "or 4 of them", "padding=1"),
    Bad(lambda: xpl.ConstantPad1d(1.5, 0.0), "ConstantPad1d", "padding", "1.5", "an integer", "padding=1"),
    Bad(lambda: xpl.ReflectionPad1d(5)(f32(2, 3, 5)), "ReflectionPad1d", "padding", "(5, 5)", "at most 4", "pad less"),
    Bad(lambda: xpl.ReflectionPad2d(1)(f32(5, 5)), "ReflectionPad2d", "x", "2-d", "(C, H, W)", "x[None, ...]"),
    Bad(lambda: xpl.CircularPad1d(6)(f32(2, 3, 5)), "CircularPad1d", "padding", "(6, 6)", "at most 5", "pad less"),
    Bad(lambda: xpl.CircularPad2d(1)(f32(5, 5)), "CircularPad2d", "x", "(5, 5)", "(N, C, H, W)", "x[None, ...]"),
    Bad(lambda: xpl.ReplicationPad1d(-3)(f32(2, 3, 5)), "ReplicationPad1d", "padding", "(-3, -3)", "at most 5", "less"),
    Bad(lambda: xpl.ZeroPad1d((-6, 0))(f32(2, 3, 5)), "ZeroPad1d", "padding", "(-6, 0)", "at most 5", "take less"),
    Bad(lambda: xpl.ZeroPad1d(1)([1.0]), "ZeroPad1d", "x", "a list", "an array", "asarray", TypeError),
    Bad(lambda: F.pad(f32(2, 3), (1, 1, 1)), "pad", "pad", "(1, 1, 1)", "even number", "(before, after)"),
    Bad(lambda: F.pad(f32(2), (1, 1, 1, 1)), "pad", "pad", "(1, 1, 1, 1)", "at most 2", "(before, after)"),
    Bad(lambda: F.pad(f32(2, 3), (1, 1), "mirror"), "pad", "mode", "'mirror'", "'reflect'", "one of these"),
    Bad(lambda: F.pad(f32(2, 3, 4, 5), (1, 1), "reflect"), "pad", "pad", "1 pairs", "2 or 3 pairs", "(0, 0)"),
    Bad(lambda: F.pad(f32(2, 3), (1, 1), "reflect", 1.0), "pad", "value", "1.0", "None", "leave value out"),
]

FAULTS = [
    Fault("padding.pad_forward", "value or 0", "0", "ConstantPad"),
    Fault("padding.pad_backward", "_negated(pairs)", "[(-b, -a) for a, b in pairs]", "ZeroPad"),
    Fault("padding._fold_back", "add_at(dx, ", "put_at(dx, ", "ReflectionPad"),
    Fault(
        "padding._fold_back",
        "xp.asarray(dy[_along(axis, a, a + n)], copy=True)",
        "dy[_along(axis, a, a + n)]",
        "CircularPad",
    ),
    Fault(
        "padding._fold_back", "total(before, axis=axis, keepdims=True)", "before[_along(axis, 0, 1)]", "ReplicationPad"
    ),
    Fault(
        "padding._fold_back", "xp.flip(before, axis=axis), xp.flip(after, axis=axis)", "before, after", "ReflectionPad"
    ),
    Fault("padding._sources", "(1, a + 1), (n - 1 - b, n - 1)", "(0, a), (n - b, n)", "ReflectionPad"),
    Fault("padding._sources", "(n - a, n), (0, b)", "(0, a), (n - b, n)", "CircularPad"),
    Fault("padding.constant_pad", "**like(x))\n    return", "dtype=xp.float64)\n    return", "ZeroPad"),
    Fault("layers.padding._Pad.forward", "self.mode, self.value)", "self.mode)", "ConstantPad"),
]

TWINS = [
    Function("pad", {"x": shape}, {"pad": pad, "mode": mode, **more})
    for shape, pad, mode, more in (
        ((2, 3, 5, 6), (1, 2), "constant", {}),
        ((2, 3, 5, 6), (1, 2, 3, 0), "constant", {"value": 2.5}),
        ((4, 3), (1, 1, 0, 2), "constant", {}),
        ((5, 20, 50, 60), (1, 2, 3, 0), "constant", {}),
        ((2, 3, 5, 6), (1, 2, 3, 0), "reflect", {}),
        ((2, 3, 300), (3, 2), "reflect", {}),
        ((2, 3, 4, 5, 6), (1, 2, 3, 0, 0, 1), "reflect", {}),
        ((5, 20, 50, 60), (3, 3, 3, 3), "reflect", {}),
        ((2, 3, 5, 6), (4, 2, 3, 0), "replicate", {}),
        ((2, 3, 4, 5, 6), (1, 2, 3, 0, 4, 1), "replicate", {}),
        ((2, 3, 5, 6), (6, 2, 3, 5), "circular", {}),
        ((2, 3, 4, 5, 6), (1, 2, 3, 0, 0, 1), "circular", {}),
    )
]
