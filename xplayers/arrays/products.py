"""Products of matrices and of stacks of them, which one library computes badly: see `kernels.registry.product`."""

from collections.abc import Callable
from typing import Any

from .namespace import Array, array_namespace

__all__ = ["find_product", "matmul"]


class find_product:
    """Where `kernels/` hangs its own products. It gives None where it leaves one to the library."""

    by: Callable[[Array, Array], Array | None] | None = None


def matmul(a: Array, b: Array) -> Array:
    """a (*, M, K) and b (*, K, N), leading axes that broadcast -> (*, M, N)."""
    y: Any = find_product.by(a, b) if find_product.by is not None else None
    return array_namespace(a, b).matmul(a, b) if y is None else y
