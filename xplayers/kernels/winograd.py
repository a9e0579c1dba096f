"""3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3): 16 products in place of 36 for each 2x2 tile of the output.

With `precision="fast"` by F(4x4, 3x3): 36 products in place of 144 for each 4x4 tile (see winograd_four.py).

With the tiles of the input as d (4, 4) and the kernel as g (3, 3), the tile of the output is A^T (G g G^T * B^T d B) A,
where * multiplies element by element; summed over the channels, the 16 elements are 16 matrix products. The backward is
the same three maps transposed, line by line:

    forward    V = B^T d B        M_k = U_k V_k, U = G g G^T        y = A^T M A
    backward   D = A dy A^T       dU_k = D_k V_k^T, dg = G^T dU G   dV_k = U_k^T D_k, dd = B dV B^T

B, G and A hold 0, 1 and 1/2 only: in float32 it is as exact as the direct sum. The last row of B^T and of A^T has the
other sign than in the source, which spares a negation. Source: Lavin, Gray, Fast algorithms for convolutional neural
networks (2015).

Within a tile an infinity would become NaN, and NaN would spread: where an answer is not finite throughout, the direct
sum gives it instead.

This file is what the means share: the products, in parts of the batch that keep V and M in the cache. The maps to and
from V and M are theirs: `Maps.tile` is the tile's side m, `Maps.kernel` is G x G, `Maps.columns(tiles)` says how wide V
is, and the four methods read or write it.
"""

import threading
from typing import Any, NamedTuple

import numpy as np

from xplayers.functional.convolution import conv2d_backward, conv2d_forward, padding_pairs
from xplayers.functional.pair import wants

from .convolutions import is_finite
from .threads import products_in_parts, runs

__all__ = ["GG", "Tiles", "backward", "forward", "supports", "tiles_of", "twin", "twin_backward"]

_BYTES = 1 << 23  # of V and of M for a part of the batch, of an image twice as many: what half of a cache holds
_LANES = 4  # sums of dU that are kept apart, so that the order of adding does not depend on the threads

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
GG = np.kron(_G, _G)  # (16, 9): of a kernel as one row of 9


class Tiles(NamedTuple):
    """How the tiles lie: the padding in front, the sizes of input and output, how many tiles down and across."""

    before: tuple[int, int]
    sizes: tuple[int, int]
    out: tuple[int, int]
    down: int
    across: int


def supports(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> bool:
    """Whether a convolution is one of these: 3x3 in one group, of stride and dilation 1, of a batch in float32."""
    if x.dtype != np.float32 or weight.dtype != np.float32 or x.ndim != 4 or weight.shape[2:] != (3, 3):
        return False
    if groups != 1 or weight.shape[1] != x.shape[1] or not x.size or not weight.size:
        return False
    ones = (1, (1, 1), [1, 1])
    return stride in ones and dilation in ones and (bias is None or bias.shape == weight.shape[:1])


def twin(maps: Any, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
    """A forward and its cache, NotImplemented where the convolution is another."""
    if not supports(x, weight, bias, stride, padding, dilation, groups):
        return NotImplemented
    pairs = padding_pairs("conv2d", padding, (3, 3), (1, 1), (1, 1))
    tiles = tiles_of(x.shape[2:], pairs, maps.tile)
    if min(tiles.out) < 1:
        return NotImplemented
    x, weight = np.ascontiguousarray(x), np.ascontiguousarray(weight)
    y = forward(maps, x, weight, bias, tiles)
    if not is_finite(y):
        y, _ = conv2d_forward.reference(x, weight, bias, 1, padding)  # type: ignore[attr-defined]
        maps = None
    return y, (maps, x, weight, tiles, pairs)


def twin_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    """dx, dweight, and None for the bias (convolutions.py has its gradient): D is made once for both."""
    maps, x, weight, tiles, pairs = cache
    want_x, want_weight, _ = wants(wanted, 3)
    dx = dweight = None
    dy = np.ascontiguousarray(dy)
    if maps is not None and (want_x or want_weight):
        dx, dweight = backward(maps, dy, x, weight, tiles, want_x, want_weight)
    if maps is None or not (is_finite(dx) and is_finite(dweight)):
        direct = x, weight, False, ((1, 1), pairs, (1, 1), 1)
        return conv2d_backward.reference(dy, direct, wanted=wanted)  # type: ignore[attr-defined]
    return dx, dweight, None


def tiles_of(sizes: tuple[int, int], pairs: Any, m: int) -> Tiles:
    (a, b), (c, d) = pairs
    h, w = sizes[0] + a + b - 2, sizes[1] + c + d - 2
    return Tiles((a, c), (sizes[0], sizes[1]), (h, w), -(-h // m), -(-w // m))


class _Part(NamedTuple):
    """Some images, and of them some rows of tiles: all of them, or a band where one image fills the cache."""

    images: slice
    down: slice
    tiles: Tiles  # those of the part alone


def _parts(n: int, channels: int, tiles: Tiles, maps: Any) -> list[_Part]:
    """Runs of images, or bands of single ones; an even number of them where there are several, for two threads."""
    each = 4 * len(maps.kernel) * channels * maps.columns(tiles)
    if each > 2 * _BYTES and tiles.down > 1:
        bands = runs(tiles.down, -(-tiles.down // -(-each // _BYTES)))
        return [_Part(slice(i, i + 1), band, _band(tiles, band, maps.tile)) for i in range(n) for band in bands]
    run = max(1, _BYTES // each)
    count = -(-n // run)
    run = -(-n // (count + count % 2)) if count > 1 else max(1, -(-n // 2))
    return [_Part(images, slice(0, tiles.down), tiles) for images in runs(n, run)]


def _band(tiles: Tiles, down: slice, m: int) -> Tiles:
    """A band's own tiles: its input begins with their first row, whatever of it lies beyond the image."""
    count = down.stop - down.start
    height = min(m * count, tiles.out[0] - m * down.start)
    return Tiles((0, tiles.before[1]), (m * count + 2, tiles.sizes[1]), (height, tiles.out[1]), count, tiles.across)


def _input(x: np.ndarray, part: _Part, tiles: Tiles, m: int) -> np.ndarray:
    """What the part sees of x: a view, or for a band a copy with zeros beyond the image."""
    if part.tiles is tiles:
        return x[part.images]
    n, c, h, w = x[part.images].shape
    first = m * part.down.start - tiles.before[0]
    low, high = max(first, 0), min(first + part.tiles.sizes[0], h)
    out = np.zeros((n, c, part.tiles.sizes[0], w), np.float32)
    out[:, :, low - first : high - first] = x[part.images, :, low:high]
    return out


def _output(y: np.ndarray, part: _Part, tiles: Tiles, m: int) -> np.ndarray:
    """The part of y that is the part's own: no two have a row in common."""
    rows = slice(m * part.down.start, m * part.down.start + part.tiles.out[0])
    return y[part.images] if part.tiles is tiles else y[part.images, :, rows]


def _transformed(maps: Any, weight: np.ndarray) -> np.ndarray:
    """(O, C, 3, 3) -> U (16, O, C)"""
    o, c = weight.shape[:2]
    return (maps.kernel @ weight.reshape(o * c, 9).T).reshape(-1, o, c)


def forward(maps: Any, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, tiles: Tiles) -> np.ndarray:
    """x (N, C, H, W), weight (O, C, 3, 3) -> y (N, O, H', W')."""
    n, c = x.shape[:2]
    o, m, k = weight.shape[0], maps.tile, len(maps.kernel)
    u = _transformed(maps, weight)
    y = np.empty((n, o, *tiles.out), np.float32)

    def work(part: _Part) -> None:
        wide = maps.columns(part.tiles, part.images.stop - part.images.start)
        v, sums = np.empty((k, c, wide), np.float32), np.empty((k, o, wide), np.float32)
        mine = _output(y, part, tiles, m)
        out = mine if part.tiles is tiles else np.empty(mine.shape, np.float32)
        with np.errstate(all="ignore"):
            maps.image(_input(x, part, tiles, m), v, part.tiles)
            np.matmul(u, v, out=sums)
            maps.answer(sums, out, bias, part.tiles)
        if out is not mine:
            mine[...] = out

    products_in_parts(work, _parts(n, max(c, o), tiles, maps))
    return y


def backward(
    maps: Any, dy: np.ndarray, x: np.ndarray, weight: np.ndarray, tiles: Tiles, want_x: bool, want_weight: bool
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """dy (N, O, H', W') -> dx (N, C, H, W), dweight (O, C, 3, 3)."""
    n, c = x.shape[:2]
    o, m, k = weight.shape[0], maps.tile, len(maps.kernel)
    ut = _transformed(maps, weight).transpose(0, 2, 1) if want_x else None  # (16, C, O)
    parts = _parts(n, max(c, o), tiles, maps)
    whole = parts[0].tiles is tiles
    dx = (np.empty if whole else np.zeros)(x.shape, np.float32) if want_x else None
    lanes = [parts[r] for r in runs(len(parts), -(-len(parts) // _LANES))]
    sums = np.zeros((len(lanes), k, o, c), np.float32) if want_weight else None
    adding = threading.Lock()

    def work(lane: int) -> None:
        for part in lanes[lane]:
            wide = maps.columns(part.tiles, part.images.stop - part.images.start)
            d, v = np.empty((k, o, wide), np.float32), np.empty((k, c, wide), np.float32)
            with np.errstate(all="ignore"):
                maps.slope(np.ascontiguousarray(_output(dy, part, tiles, m)), d, part.tiles)
                if sums is not None:
                    maps.image(_input(x, part, tiles, m), v, part.tiles)
                    sums[lane] += d @ v.transpose(0, 2, 1)
                if dx is not None and ut is not None:
                    np.matmul(ut, d, out=v)
                    if whole:
                        maps.back(v, dx[part.images], tiles)
                        continue
                    # Two bands have two rows in common: the sum of two numbers does not depend on their order.
                    band = np.empty((1, c, *part.tiles.sizes), np.float32)
                    maps.back(v, band, part.tiles)
                    first = m * part.down.start - tiles.before[0]
                    low, high = max(first, 0), min(first + band.shape[2], x.shape[2])
                    with adding:
                        dx[part.images, :, low:high] += band[:, :, low - first : high - first]

    products_in_parts(work, list(range(len(lanes))))
    dweight = None
    if sums is not None:
        dweight = (sums.sum(axis=0).reshape(k, o * c).T @ maps.kernel).reshape(weight.shape)
    return dx, dweight
