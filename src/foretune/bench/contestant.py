"""Who races: one run of one method on one instance, behind one small interface."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

from foretune.base.errors import ArgumentError
from foretune.base.key import Key
from foretune.bench.task import Instance
from foretune.search import make
from foretune.study.significance import corrected
from foretune.trial import Event, Goal, History, Problem

__all__ = ["Asked", "Contestant", "Named", "Ours", "Unsupported", "code_digest", "read_spec"]


class Unsupported(Exception):  # noqa: N818 - no error: a method may decline
    """The method cannot run on this kind of task; it takes no part there."""


class Asked(NamedTuple):
    """A config to try.

    Attributes:
        token: what names it in ``tell``.
        config: legal in the instance's space.
        seconds: the method's own time.
        until: the step to train to; None: the full length.
    """

    token: Any
    config: Mapping[str, Any]
    seconds: float
    until: float | None = None


class Named(NamedTuple):
    """What a method names as its best.

    Attributes:
        config: one that it tried.
        value: the loss that it states for it; NaN: none.
    """

    config: Mapping[str, Any]
    value: float


class Contestant(ABC):
    """One method; ``start`` begins a run, then ``ask`` and ``tell`` alternate.

    Laws: what it does depends on the instance's space, the seed and what it is told, not on the clock; a config
    that is never told stays running.
    """

    name: str
    version: str

    @abstractmethod
    def start(self, instance: Instance, seed: int, trials: int, workers: int = 1) -> None:
        """Begin a run.

        Args:
            instance: of the task.
            seed: of the method.
            trials: the length that it is told; for races over time a rough one.
            workers: how many configs will be under way at once.

        Raises:
            Unsupported: the method cannot search such a space.
        """

    @abstractmethod
    def ask(self) -> Asked | None:
        """Propose a config; None: something under way must end first, or there is nothing more to propose."""

    @abstractmethod
    def tell(self, token: Any, loss: float) -> float:
        """Take the last loss (+inf: the run failed); returns the seconds it took."""

    def report(self, token: Any, step: float, loss: float, spent: float) -> tuple[str, float]:
        """Take a loss on the way, after ``spent`` simulated seconds of training.

        Returns:
            "go", "pause" or "stop", and the seconds it took. Told only in races over time.
        """
        return "go", 0.0

    def named(self) -> Named | None:
        """Name the best config by the method's own reasoning; None: the one with the best reported loss.

        Asked now and then where losses are noisy; what follows must not depend on its having been asked.
        """
        return None

    def tick(self, now: float) -> None:
        """Learn what time it is on the race's clock."""
        return None

    def close(self) -> None:
        """End what it holds."""
        return None


def read_spec(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``name`` or ``name:option=value,option=value``.

    >>> read_spec("gp:initial=6")
    ('gp', {'initial': 6})
    """
    name, _, tail = text.partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ArgumentError(f"a sampler's options are written name:option=value,...; got {text!r}.")
        try:
            options[key.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key.strip()] = value
    return name.strip(), options


@functools.cache
def code_digest(module: str) -> str:
    """Return a digest of a sampler's source: its module and all of search and numeric that it imports.

    Runs of another digest are runs of another contestant; what is merely near the sampler does not change it.
    """
    seen: dict[str, bytes] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        seen[name] = Path(spec.origin).read_bytes()
        for node in ast.walk(ast.parse(seen[name])):
            found = []
            if isinstance(node, ast.ImportFrom) and node.module:
                found = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            elif isinstance(node, ast.Import):
                found = [a.name for a in node.names]
            todo += [f for f in found if _counts(f)]
    whole = hashlib.sha256()
    for name in sorted(seen):
        whole.update(name.encode() + b"\0" + seen[name])
    return whole.hexdigest()[:8]


def _counts(name: str) -> bool:
    if not name.startswith(("foretune.search.", "foretune.numeric.")):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a name inside a module
        return False


@final
class Ours(Contestant):
    """One of Foretune's samplers, asked directly: no store and no engine between.

    Args:
        spec: ``name`` or ``name:option=value,...``.
    """

    def __init__(self, spec: str) -> None:
        from foretune import __version__

        self.name = spec
        kind, options = read_spec(spec)
        self._sampler = make(kind, **options)
        self.version = f"{__version__}+{code_digest(type(self._sampler).__module__)}"

    def start(self, instance: Instance, seed: int, trials: int, workers: int = 1) -> None:
        key = Key.of(seed).fold("contestant")
        self._problem = Problem(instance.space, (Goal("loss"),), key=key, budget_trials=trials)
        self._history = History(self._problem)
        self._state = self._sampler.init(self._problem)

    def ask(self) -> Asked | None:
        n = len(self._history)
        began = time.perf_counter()
        found = self._sampler.ask(
            self._problem, self._state, self._history, 1, self._problem.key.fold("ask", n)
        )
        seconds = time.perf_counter() - began
        if not found:
            return None
        config = dict(found[0].config)
        data = {"config": config, "plan": [1], "reason": found[0].reason}
        self._history.apply([Event("start", n, float(n), data)])
        return Asked(n, config, seconds)

    def tell(self, token: Any, loss: float) -> float:
        began = time.perf_counter()
        at = float(len(self._history))
        if math.isfinite(loss):
            events = [
                Event("report", token, at, {"step": 1, "values": {"loss": loss}}),
                Event("complete", token, at, {"reason": "done"}),
            ]
        else:
            events = [Event("fail", token, at, {"reason": "the run failed"})]
        self._history.apply(events)
        self._state = self._sampler.tell(self._problem, self._state, self._history[token])
        return time.perf_counter() - began

    def named(self) -> Named | None:
        if not any(math.isfinite(self._history.loss(i)) for i in range(len(self._history))):
            return None
        found = corrected(self._history)
        return Named(found.config, found.value)
