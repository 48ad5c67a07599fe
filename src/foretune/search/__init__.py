"""Samplers, one a file: what to try next. The file's name is the sampler's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from foretune.base.errors import ArgumentError, ArgumentTypeError
from foretune.base.registry import build
from foretune.base.registry import names as _names
from foretune.search.sampler import Proposal, Sampler

__all__ = ["Proposal", "Sampler", "make", "names"]


def names() -> tuple[str, ...]:
    """Return the names of all samplers.

    >>> "random" in names()
    True
    """
    return _names(__name__)


def make(sampler: Union[str, Mapping[str, Any], Sampler[Any]], **options: Any) -> Sampler[Any]:
    """Turn a sampler's name (with its hyperparameters) or a ready sampler into a sampler.

    Args:
        sampler: a name of :func:`names`, such as ``"gp"`` or ``"auto"``; a table of a name and its options,
            ``{"name": "gp", "acquisition": "thompson"}``; or a sampler object. So is what a sampler has inside.
        options: hyperparameters of the named sampler; none with an object.

    Raises:
        UnknownNameError: no sampler has that name; the nearest is suggested.
        ArgumentError: an option that the sampler does not have.

    >>> make("grid", points=3)
    Grid(points=3, shuffle=False)
    >>> make("batched", size=2, inner={"name": "grid", "points": 3}).inner
    Grid(points=3, shuffle=False)
    """
    if isinstance(sampler, Mapping):
        if not isinstance(sampler.get("name"), str) or not all(isinstance(k, str) for k in sampler):
            raise ArgumentError(
                "a sampler as a table needs its name beside its options, as in {'name': 'gp', 'acquisition': "
                f"'thompson'}}; got {dict(sampler)!r}."
            )
        within = {str(k): v for k, v in sampler.items() if k != "name"}
        return make(sampler["name"], **{**within, **options})
    if isinstance(sampler, Sampler):
        if options:
            raise ArgumentError(
                f"options ({', '.join(options)}) go with a sampler's name; got the object {sampler!r}, "
                "which has its hyperparameters already."
            )
        return sampler
    if not isinstance(sampler, str):
        raise ArgumentTypeError(
            f"sampler must be a name ({', '.join(names())}) or a Sampler object; got {sampler!r}."
        )
    made: Sampler[Any] = build(__name__, "sampler", sampler, options)
    return made
