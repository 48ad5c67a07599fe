"""Earlier studies for samplers that learn from them: by address, or as studies and results at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Union

from foretune.base.errors import ArgumentTypeError, StoreError, UnknownNameError, did_you_mean
from foretune.search import make
from foretune.search.earlier import MOST, Earlier
from foretune.search.sampler import Sampler
from foretune.search.warm_start import WarmStart
from foretune.store import open_store
from foretune.store.address import Address
from foretune.study.description import problem_of
from foretune.trial.history import History

__all__ = ["all_earlier", "earlier", "learning_from"]


def earlier(source: Any, most: int = MOST) -> Earlier:
    """Read the results of an earlier study.

    Args:
        source: ``"study.db"`` or ``"study.db:NAME"``, a Study, a Result, a History, or an Earlier.
        most: results that are kept at most; the best half, the rest spread over the ranks.

    Returns:
        What ``warm_from`` and the ``sources`` of a sampler take; a study's address will do for ``warm_from``.

    Raises:
        StoreError, UnknownNameError: there is no such store or study, or several and none is named.
        ArgumentTypeError: it is none of these.

    >>> from foretune.study.tune import tune
    >>> from foretune.space import Float, Space
    >>> old = tune(lambda c: c["x"], Space({"x": Float(0, 1)}), sampler="random", budget=3)
    >>> len(earlier(old).rows)
    3
    """
    if isinstance(source, Earlier):
        return source
    if isinstance(source, History):
        return Earlier.of(source, "earlier", most)
    study = getattr(source, "study", source)
    if isinstance(getattr(study, "history", None), History):
        return Earlier.of(study.history, str(study.name), most)
    if not isinstance(source, str):
        raise ArgumentTypeError(
            "an earlier study must be an address such as 'study.db:NAME', a Study, a Result or a History; "
            f"got {source!r}."
        )
    where = Address.parse(source)
    store = open_store(where.path, create=False)
    known = list(store.studies())
    name = where.name if where.name is not None else (known[0] if len(known) == 1 else None)
    if name is None:
        raise UnknownNameError(
            f"{source} holds {len(known)} studies: name one, as in {source}:{(known or ['NAME'])[0]}."
        )
    if name not in known:
        raise UnknownNameError(f"There is no study {name!r} in {where.path}.{did_you_mean(name, known)}")
    log = store.read(name)
    if not log or log[0].kind != "create":
        raise StoreError(f"The log of the study {name!r} is damaged. Run `foretune doctor` on {where.path}.")
    return Earlier.of(History(problem_of(log[0].data), log), name, most)


def all_earlier(sources: Any) -> tuple[Earlier, ...]:
    """Read one earlier study or several; of equal names the later ones get a number."""
    many = sources if isinstance(sources, Sequence) and not isinstance(sources, (str, History)) else [sources]
    found: list[Earlier] = []
    for source in many:
        one = earlier(source)
        same = sum(f.name.partition("#")[0] == one.name for f in found)
        found.append(Earlier(f"{one.name}#{same + 1}", one.rows, one.metric) if same else one)
    return tuple(found)


def learning_from(sources: Any, sampler: Union[str, Sampler[Any], None] = None) -> Sampler[Any]:
    """Let a sampler learn from earlier studies: by its own ``sources`` if it has such, else by a warm start."""
    found = all_earlier(sources)
    made = make("auto" if sampler is None else sampler)
    if dataclasses.is_dataclass(made) and any(f.name == "sources" for f in dataclasses.fields(made)):
        held = getattr(made, "sources")  # noqa: B009 - not every sampler has it
        return dataclasses.replace(made, sources=(*held, *found))
    return WarmStart(found, inner=made)
