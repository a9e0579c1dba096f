"""The one shape of a refusal: who refuses, which argument, what came, what was expected, and the line that mends it."""

__all__ = ["refusal"]


def refusal(
    where: object, argument: str, got: str, expected: str, mend: str, kind: type[Exception] = ValueError
) -> Exception:
    """An exception to raise, its message made of the five parts.

    `where` is the layer (its title, with its sizes, is shown) or the name of a function; `argument` the name of the
    parameter; `got` and `expected` say what came and what should have; `mend` is the line or call that puts it right.
    """
    title = where if isinstance(where, str) else getattr(where, "title", where)
    return kind(f"{title}: argument '{argument}': got {got}; expected {expected}. Mend: {mend}")
