"""A call as its reference takes it: what is given by position, by name or not at all becomes one list of arguments.

Twins and their tables of support are called with every argument of their reference, in its order, and say neither names
nor defaults again. A call that the reference refuses reaches no twin: the reference says what is wrong with it.
"""

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["as_called"]

_MISSING = inspect.Parameter.empty


def as_called(reference: Callable[..., Any], function: Callable[..., Any], otherwise: Any) -> Callable[..., Any]:
    """`function` called as `reference` is; `otherwise` where the reference has no such arguments.

    What the reference takes by name alone is passed on by name.
    """
    parameters = inspect.signature(reference).parameters
    by_name = {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    places = {n: i for i, n in enumerate(n for n in parameters if n not in by_name)}
    defaults = [parameters[n].default for n in places]
    needed = defaults.count(_MISSING)

    def call(*args: Any, **kwargs: Any) -> Any:
        count = len(args)
        if count == len(places) and not kwargs and not by_name:
            return function(*args)
        if count > len(places):
            return otherwise
        given, named = [*args, *defaults[count:]], dict(by_name)
        for name, value in kwargs.items():
            place = places.get(name, -1)
            if place >= count:
                given[place] = value
            elif name in named:
                named[name] = value
            else:
                return otherwise
        if any(value is _MISSING for value in (*given[count:needed], *named.values())):
            return otherwise
        return function(*given, **named)

    return call
