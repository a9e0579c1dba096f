"""Rows for resampling."""

import numpy as np
import torch

import xplayers as xpl
import xplayers.functional as F
from tests.cases import Bad, Case, Fault, Function, f32, floats, values


def interpolate(x, **kwargs):
    return torch.nn.functional.interpolate(x, **kwargs)


LINE, IMAGE, VOLUME = (2, 3, 7), (2, 3, 6, 5), (2, 2, 4, 5, 3)

LAYERS = [
    Case("Upsample", (5,), inputs=(LINE,)),
    Case("Upsample", (), {"scale_factor": 2}, (IMAGE,)),
    Case("Upsample", (), {"scale_factor": (1.5, 2.0, 0.5)}, (VOLUME,)),
    Case("Upsample", ((9, 4),), {"mode": "nearest-exact"}, (IMAGE,)),
    Case("Upsample", (12,), {"mode": "linear"}, (LINE,)),
    Case("Upsample", (), {"scale_factor": 2, "mode": "bilinear"}, (IMAGE,)),
    Case("Upsample", ((9, 4),), {"mode": "bilinear", "align_corners": True}, (IMAGE,)),
    Case("Upsample", (), {"scale_factor": (1.7, 0.6), "mode": "bicubic"}, (IMAGE,)),
    Case("Upsample", ((3, 8),), {"mode": "bicubic", "align_corners": True}, (IMAGE,)),
    Case("Upsample", (), {"scale_factor": 1.6, "mode": "trilinear", "recompute_scale_factor": True}, (VOLUME,)),
    Case("Upsample", ((2, 3, 7),), {"mode": "trilinear", "align_corners": False}, (VOLUME,)),
    Case("Upsample", ((9, 4),), {"mode": "area"}, (IMAGE,)),
    Case("UpsamplingNearest2d", ((9, 4),), inputs=(IMAGE,)),
    Case("UpsamplingNearest2d", (), {"scale_factor": 2}, (IMAGE,)),
    Case("UpsamplingNearest2d", (), {"scale_factor": (0.5, 1.5)}, (IMAGE,)),
    Case("UpsamplingBilinear2d", ((9, 4),), inputs=(IMAGE,)),
    Case("UpsamplingBilinear2d", (), {"scale_factor": (2.0, 1.5)}, (IMAGE,)),
    Case("UpsamplingBilinear2d", (3,), inputs=(IMAGE,)),
    Case("PixelShuffle", (2,), inputs=((2, 8, 3, 4),)),
    Case("PixelShuffle", (3,), inputs=((9, 2, 3),), skip={"batch": "channels come first"}),
    Case("PixelShuffle", (1,), inputs=((2, 3, 4, 5),)),
    Case("PixelUnshuffle", (2,), inputs=((2, 3, 6, 4),)),
    Case("PixelUnshuffle", (3,), inputs=((2, 6, 3),)),
    Case("PixelUnshuffle", (2,), inputs=((2, 1, 3, 4, 2),)),
    Case("ChannelShuffle", (2,), inputs=((2, 6, 3, 4),)),
    Case("ChannelShuffle", (3,), inputs=((2, 6, 5),)),
    Case("ChannelShuffle", (4,), inputs=((3, 8, 2, 3),)),
]


def _grid(n, *outputs):
    """Places inside and outside of what is sampled."""
    return floats(n, *outputs, len(outputs), scale=0.8)


# Places on the edges, at the centres of the outermost elements, far outside.
_EDGES = np.asarray([-1.0, 1.0, -0.75, 0.75, 0.0, 0.25, 3.0, -4.25])
_EDGE_GRID = np.stack(np.meshgrid(_EDGES, _EDGES), axis=-1)[None]

FUNCTIONS = [
    *(
        Function("interpolate", {"x": x}, kwargs)
        for x, kwargs in (
            (LINE, {"size": 10}),
            (LINE, {"size": 4, "mode": "nearest-exact"}),
            (LINE, {"scale_factor": 1.7, "mode": "linear"}),
            (LINE, {"scale_factor": 1.1, "mode": "linear"}),
            (IMAGE, {"scale_factor": (1.7, 0.6)}),
            (IMAGE, {"scale_factor": (1.1, 2.0)}),
            (IMAGE, {"size": (9, 4), "mode": "bilinear", "align_corners": False}),
            (IMAGE, {"size": (1, 4), "mode": "bicubic", "align_corners": True}),
            (IMAGE, {"scale_factor": 1.7, "mode": "bicubic", "recompute_scale_factor": True}),
            (IMAGE, {"scale_factor": 0.5, "mode": "area"}),
            (VOLUME, {"size": (7, 3, 3), "mode": "area"}),
            (VOLUME, {"scale_factor": (2.0, 0.6, 1.5), "mode": "trilinear", "align_corners": True}),
            ((2, 3, 11, 8), {"size": (3, 9), "mode": "bilinear", "antialias": True}),
            ((2, 3, 11, 8), {"scale_factor": 0.4, "mode": "bicubic", "antialias": True, "align_corners": True}),
            ((2, 3, 11, 8), {"size": (4, 10), "mode": "lanczos", "antialias": True}),
        )
    ),
    *(
        Function("upsample", {"x": x}, kwargs, twin=interpolate)
        for x, kwargs in (
            (LINE, {"size": 10}),
            (IMAGE, {"scale_factor": 2, "mode": "nearest-exact"}),
            (IMAGE, {"size": (9, 4), "mode": "bilinear", "align_corners": True}),
        )
    ),
    *(
        Function("upsample_nearest", {"x": x}, kwargs, twin=interpolate)
        for x, kwargs in ((LINE, {"size": 10}), (IMAGE, {"scale_factor": 2}), (VOLUME, {"scale_factor": (1.5, 2, 0.5)}))
    ),
    *(
        Function(
            "upsample_bilinear",
            {"x": IMAGE},
            kwargs,
            twin=lambda x, **kwargs: interpolate(x, **kwargs, mode="bilinear", align_corners=True),
        )
        for kwargs in ({"size": 10}, {"size": (3, 7)}, {"scale_factor": (1.5, 2)})
    ),
    *(
        Function(
            "grid_sample", {"x": IMAGE, "grid": _grid(2, 4, 3)}, {"mode": mode, **kwargs, "align_corners": corners}
        )
        for mode in ("bilinear", "nearest", "bicubic")
        for kwargs, corners in (
            ({}, False),
            ({"padding_mode": "border"}, True),
            ({"padding_mode": "reflection"}, False),
            ({"padding_mode": "reflection"}, True),
        )
    ),
    *(
        Function("grid_sample", {"x": VOLUME, "grid": _grid(2, 2, 4, 3)}, kwargs)
        for kwargs in (
            {"align_corners": False},
            {"mode": "nearest", "padding_mode": "border", "align_corners": True},
            {"padding_mode": "reflection", "align_corners": False},
        )
    ),
    *(
        Function("grid_sample", {"x": (1, 2, 4, 4), "grid": values(_EDGE_GRID)}, {**kwargs, "align_corners": corners})
        for kwargs in ({}, {"padding_mode": "border"}, {"mode": "bicubic", "padding_mode": "reflection"})
        for corners in (False, True)
    ),
    Function("affine_grid", {"theta": (2, 2, 3)}, {"size": (2, 3, 4, 5), "align_corners": False}),
    Function("affine_grid", {"theta": (2, 2, 3)}, {"size": (2, 3, 2, 6), "align_corners": True}),
    Function("affine_grid", {"theta": (2, 3, 4)}, {"size": (2, 1, 4, 2, 3), "align_corners": False}),
    Function("pixel_shuffle", {"x": (2, 8, 3, 4)}, {"upscale_factor": 2}),
    Function("pixel_shuffle", {"x": (9, 3, 4)}, {"upscale_factor": 3}),
    Function("pixel_shuffle", {"x": (2, 2, 4, 1, 2)}, {"upscale_factor": 2}),
    Function("pixel_unshuffle", {"x": (2, 2, 6, 4)}, {"downscale_factor": 2}),
    Function("pixel_unshuffle", {"x": (2, 6, 3)}, {"downscale_factor": 3}),
    Function("pixel_unshuffle", {"x": (2, 1, 3, 2, 2)}, {"downscale_factor": 1}),
    Function("channel_shuffle", {"x": (2, 6, 3, 4)}, {"groups": 2}),
    Function("channel_shuffle", {"x": (2, 6, 5)}, {"groups": 3}),
    Function("channel_shuffle", {"x": (2, 4, 1, 2, 3)}, {"groups": 4}),
]

BAD_CALLS = [
    Bad(lambda: xpl.Upsample(), "Upsample(mode='nearest')", "size", "None", "one of the two", "scale_factor="),
    Bad(lambda: xpl.Upsample(4, 2.0), "Upsample(", "size", "4, beside scale_factor=2.0", "one of the two", "not both"),
    Bad(lambda: xpl.Upsample(4)(f32(3, 4)), "Upsample(size=4", "x", "(3, 4), 2-d", "3 or 4 or 5 axes", "(N, C, L)"),
    Bad(lambda: xpl.Upsample(4, mode="linear")(f32(1, 3, 4, 4)), "Upsample(", "x", "4-d", "3 axes", "the mode"),
    Bad(lambda: xpl.Upsample(4, mode="cubic")(f32(1, 3, 4)), "Upsample(", "mode", "'cubic'", "bicubic", "'nearest'"),
    Bad(lambda: xpl.Upsample((4, 4))(f32(1, 3, 4)), "Upsample(", "size", "(4, 4)", "one number or 1", "size=2"),
    Bad(lambda: xpl.Upsample(0)(f32(1, 3, 4)), "Upsample(", "size", "0", "positive sizes", "another size"),
    Bad(
        lambda: xpl.Upsample(scale_factor=0.1)(f32(1, 3, 4)),
        "Upsample(",
        "scale_factor",
        "0.1",
        "positive sizes",
        "another scale_factor",
    ),
    Bad(
        lambda: xpl.Upsample(4, align_corners=True)(f32(1, 3, 4)),
        "Upsample(",
        "align_corners",
        "True",
        "None for mode='nearest'",
        "leave align_corners out",
    ),
    Bad(
        lambda: xpl.Upsample(4, recompute_scale_factor=True)(f32(1, 3, 4)),
        "Upsample(",
        "recompute_scale_factor",
        "True",
        "explicit size",
        "leave recompute_scale_factor out",
    ),
    Bad(
        lambda: xpl.Upsample(4)(np.ones((1, 3, 4), np.int64)),
        "Upsample(",
        "x",
        "int64",
        "a floating dtype",
        "astype",
        TypeError,
    ),
    Bad(lambda: xpl.UpsamplingNearest2d(4)(f32(1, 3, 4)), "UpsamplingNearest2d(", "x", "3-d", "(N, C, H, W)", "x[None"),
    Bad(lambda: xpl.UpsamplingBilinear2d(4)(f32(1, 3, 4)), "UpsamplingBilinear2d(", "x", "3-d", "4 axes", "the mode"),
    Bad(
        lambda: F.interpolate(f32(1, 3, 4), 2, antialias=True),
        "interpolate",
        "antialias",
        "True",
        "False for mode='nearest'",
        "leave antialias out",
    ),
    Bad(
        lambda: F.interpolate(f32(1, 3, 4, 4), 2, mode="lanczos"),
        "interpolate",
        "mode",
        "'lanczos'",
        "antialias and no align_corners",
        "antialias=True",
    ),
    Bad(
        lambda: F.grid_sample(f32(1, 3, 4), f32(1, 4, 1)),
        "grid_sample",
        "x",
        "(1, 3, 4), 3-d",
        "4 or 5 axes",
        "(N, C, H, W)",
    ),
    Bad(
        lambda: F.grid_sample(f32(2, 3, 4, 4), f32(1, 4, 4, 2)),
        "grid_sample",
        "grid",
        "(1, 4, 4, 2)",
        "(2, H, W, 2)",
        "a place of as many numbers",
    ),
    Bad(
        lambda: F.grid_sample(f32(1, 3, 4, 4, 4), f32(1, 2, 2, 2, 3), "bicubic"),
        "grid_sample",
        "mode",
        "'bicubic'",
        "one of bilinear, nearest",
        "mode='bilinear'",
    ),
    Bad(
        lambda: F.grid_sample(f32(1, 3, 4, 4), f32(1, 2, 2, 2), padding_mode="wrap"),
        "grid_sample",
        "padding_mode",
        "'wrap'",
        "zeros, border or reflection",
        "padding_mode='zeros'",
    ),
    Bad(
        lambda: F.affine_grid(f32(1, 3, 3), (1, 3, 4, 4)),
        "affine_grid",
        "theta",
        "(1, 3, 3)",
        "(N, 2, 3)",
        "size=x.shape",
    ),
    Bad(lambda: xpl.PixelShuffle(0), "PixelShuffle(0)", "upscale_factor", "0", "at least 1", "upscale_factor=2"),
    Bad(lambda: xpl.PixelShuffle(2)(f32(6, 2, 2)), "PixelShuffle(", "x", "(6, 2, 2)", "4 divides", "upscale_factor"),
    Bad(lambda: xpl.PixelShuffle(2)(f32(4, 2)), "PixelShuffle(", "x", "(4, 2), 2-d", "(*, C, H, W)", "missing axes"),
    Bad(
        lambda: xpl.PixelUnshuffle(2)(f32(1, 3, 4)),
        "PixelUnshuffle(",
        "x",
        "(1, 3, 4)",
        "2 divides",
        "another downscale_factor",
    ),
    Bad(lambda: xpl.ChannelShuffle(-1), "ChannelShuffle(-1)", "groups", "-1", "at least 1", "groups=2"),
    Bad(lambda: xpl.ChannelShuffle(2)(f32(2, 3, 4)), "ChannelShuffle(", "x", "(2, 3, 4)", "2 divides", "groups"),
    Bad(lambda: xpl.ChannelShuffle(2)(f32(2, 4)), "ChannelShuffle(", "x", "2-d", "(N, C, *)", "missing axes"),
]

FAULTS = [
    Fault("resampling._apply", "tap * xp", "tap + 0 * xp", "Upsample(12,mode='linear'"),
    Fault("resampling._apply", "device=device(t)), axis=axis)", "device=None), axis=axis)", "Upsample(5"),
    Fault("resampling._transposed", "(o, weight)", "(o, 1.0)", "Upsample(12,mode='linear'"),
    Fault("resampling._linear", "max(at, 0.0)", "at", "Upsample(12,mode='linear'"),
    Fault("resampling._cubic", "-0.75", "-0.5", "Upsample"),
    Fault("resampling._nearest", "o + 0.5", "o + 0.25", "Upsample"),
    Fault("resampling.interpolate_backward", "enumerate(maps, -len(maps))", "enumerate(maps[:1], -1)", "Upsample"),
    Fault("resampling.interpolate_forward", "copy=False), (maps", "copy=False) * 1.01, (maps", "Upsample(5"),
    Fault("resampling._to_space", "n + 3, n + 1, n + 4, n + 2", "n + 3, n + 2, n + 4, n + 1", "PixelShuffle(2"),
    Fault("resampling._to_channels", "n + 2, n + 4, n + 1, n + 3", "n + 4, n + 2, n + 1, n + 3", "PixelUnshuffle(2"),
    Fault("resampling.channel_shuffle_backward", "dy.shape[1] // groups", "groups", "ChannelShuffle"),
]

_NUMPY = {"numpy": "factors that are not whole are left to the agnostic code"}
_NUMBA = {"numba": "three axes are left to NumPy alone"}
TWINS = [
    *(
        Function("interpolate", {"x": shape}, kwargs, skip=skip)
        for shape, kwargs, skip in (
            ((2, 3, 7), {"size": 15}, _NUMPY),
            ((2, 3, 7), {"size": 21}, {}),
            ((2, 3, 3, 7), {"size": (6, 35)}, {}),
            ((2, 3, 7), {"scale_factor": 2.5, "mode": "linear"}, _NUMPY),
            ((40, 30, 9, 14), {"scale_factor": 2}, {}),
            ((2, 3, 9, 7), {"size": (5, 13)}, _NUMPY),
            ((2, 3, 9, 7), {"size": (4, 16), "mode": "nearest-exact"}, _NUMPY),
            ((2, 3, 9, 7), {"scale_factor": (1, 3), "mode": "nearest-exact"}, {}),
            ((40, 30, 9, 14), {"scale_factor": 2, "mode": "bilinear"}, {}),
            ((2, 3, 9, 7), {"scale_factor": (1, 3), "mode": "bilinear"}, {}),
            ((2, 3, 9, 7), {"size": (5, 13), "mode": "bilinear", "align_corners": True}, _NUMPY),
            ((2, 3, 9, 7), {"size": (13, 5), "mode": "bicubic"}, _NUMPY),
            ((2, 3, 9, 7), {"scale_factor": 2, "mode": "bicubic"}, {}),
            ((2, 3, 17, 19), {"size": (5, 6), "mode": "bilinear", "antialias": True}, _NUMPY),
            ((2, 3, 1, 1), {"size": (4, 3), "mode": "bilinear"}, {}),
            ((2, 3, 4, 5, 6), {"scale_factor": 2, "mode": "trilinear"}, _NUMBA),
        )
    ),
    *(
        Function(f"pixel_{name}", {"x": shape}, {f"{scale}_factor": r})
        for name, scale, shape, r in (
            ("shuffle", "upscale", (2, 8, 3, 5), 2),
            ("shuffle", "upscale", (18, 2, 3), 3),
            ("shuffle", "upscale", (5, 40, 37, 41), 2),
            ("unshuffle", "downscale", (2, 3, 6, 4), 2),
            ("unshuffle", "downscale", (5, 10, 75, 81), 3),
        )
    ),
]
