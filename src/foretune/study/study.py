"""The study: problem + sampler + scheduler + store.

The engine of the house. It knows the protocols of samplers, schedulers, stores and executors, and no
algorithm by name. A study is its log: what is in memory is a fold, so that any number of processes may
hold the same study, and a process that dies takes nothing along.

Each layer of it has a file: what is known (``logged``), what may change (``growing``), who works on what
(``holding``), what is trained next (``starting``), what becomes of it (``reporting``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

from foretune.base import check
from foretune.base.clock import Clock, WallClock
from foretune.base.errors import ArgumentError
from foretune.schedule.scheduler import Scheduler
from foretune.search.sampler import Sampler
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space
from foretune.store import open_store
from foretune.store.store import Store
from foretune.study.asking import AskCap
from foretune.study.budget import Budget
from foretune.study.checkpoints import Checkpoints
from foretune.study.giving_up import patience_of
from foretune.study.opening import WHOLE_RUN, as_space, ends_by_itself, must_agree
from foretune.study.reporting import Reporting
from foretune.trial.goal import Goal

if TYPE_CHECKING:
    from foretune.execute.executor import Executor
    from foretune.study.result import Result

__all__ = ["WHOLE_RUN", "Study"]


class Study(Reporting):
    """A study, new or taken up again from its store.

    Args:
        space: what may be chosen. May be left out for a study that the store already holds; a wider
            space than the stored one widens the study, a narrower one is refused.
        goal: ``"min loss"``, ``"max accuracy"``, a Goal, or several.
        sampler, scheduler: names or objects.
        steps: the length of a full trial (a number or a Fidelity); None if trials are not comparable
            before their end. More steps than the stored study has lengthen it, see :meth:`lengthen`.
        store: None (memory), a path of a SQLite file, or a Store.
        name: the study's name within the store.
        budget: ``"40 trials"``, ``"2h"``, ...: totals of the study over all workers and restarts.
        seed: root of all randomness; 0 unless given.
        clock: where the time comes from.
        tries: how many times a trial whose worker vanished is taken up again before it counts as failed.
        lease: seconds after which a silent worker on another machine is given up. On the same machine
            a dead worker is noticed at once.
        checkpoints: folder of the trials' checkpoints; beside the store unless given.
        keep: which checkpoints outlive their trial: "resumable", "best" or "all".
        constraints: bounds on further metrics, such as ``{"memory_gb": "<= 16"}``: only a trial whose last
            report keeps them all can be the best; samplers learn from the others too.
        ask_cap: processor time that an ask of the sampler may take on average: seconds, ``"2s"``, ``"5%"``
            of a trial's mean time, or ``"off"``. Unless given, 1 % for trials of ten seconds and more. What is
            dearer is spared now and then, by cheap proposals that say so.
        give_up: how many trials may fail alike, before any has a result, until the study stops and says so;
            3 of those that end without a metric of goal or constraint. 10 unless given; 0: never.
        about: anything JSON that shall stand in the study's first event (the command, the data, ...).

    Raises:
        SpaceError, ArgumentError: the description contradicts itself or the stored study.
        StoreError: the store cannot be opened.

    >>> from foretune.space import Float
    >>> study = Study(Space({"x": Float(-1, 1)}), goal="min y", sampler="random", budget="2 trials")
    >>> trial = study.next()
    >>> study.finish(trial.number, {"y": trial.config["x"] ** 2}).state
    'complete'
    """

    def __init__(
        self,
        space: Space | None = None,
        goal: Union[str, Goal, Sequence[Union[str, Goal]], None] = None,
        *,
        sampler: Union[str, Sampler[Any], None] = None,
        scheduler: Union[str, Scheduler, None] = None,
        steps: Union[float, Fidelity, None] = None,
        store: Union[str, Store, None] = None,
        name: str = "study",
        budget: Any = None,
        seed: int | None = None,
        clock: Clock | None = None,
        tries: int = 3,
        lease: float = 60.0,
        checkpoints: str | None = None,
        keep: str = "best",
        constraints: Any = None,
        about: Mapping[str, Any] | None = None,
        ask_cap: Union[float, str, AskCap, None] = None,
        give_up: int | None = None,
    ) -> None:
        super().__init__(
            check.name("name", name),
            open_store(store),
            clock if clock is not None else WallClock(),
            check.integer("tries", tries, 0),
            check.number("lease", lease, 0, open_low=True),
        )
        cap = AskCap.parse(ask_cap)
        patience = None if give_up is None else check.integer("give_up", give_up, 0)
        check.one_of("keep", keep, ("resumable", "best", "all"))
        root = checkpoints or (f"{self.store.path}.checkpoints" if self.store.path else None)
        self.checkpoints = Checkpoints(root, name, keep)
        wanted = as_space(space)
        log = self.store.read(self.name)
        if not log:
            log = self._create(
                wanted, goal, sampler, scheduler, steps, budget, seed, about, constraints, patience
            )
        self._open(log, sampler, scheduler, cap)
        self.give_up = patience_of(self.about) if patience is None else patience
        must_agree(self.name, self.problem, self.seed, goal, steps, seed, constraints)
        if wanted is not None:
            self.widen(wanted)
        if steps is not None:
            self.lengthen(steps)
        if budget is not None:
            self._grow(Budget.parse(budget), opening=True)

    def run(
        self,
        train: Callable[..., Any] | None,
        executor: Executor | None = None,
        *,
        workers: int = 1,
        devices: Any = None,
        budget: Any = None,
        limit: float | str | None = None,
        watch: Callable[[Study], None] | None = None,
    ) -> Result:
        """Train until the study is done.

        Args:
            train: ``train(config, run)`` or ``train(config)``, as for :func:`foretune.tune`.
            executor: runs the trials, and stays open; what it was made with is then trained, and
                ``train``, ``workers`` and ``devices`` do not count.
            workers, devices, limit, watch: as for :func:`foretune.tune`.
            budget: a larger budget, as for :meth:`extend`.

        Raises:
            ArgumentError: nothing limits the study; or an argument is out of range.

        >>> from foretune.space import Float
        >>> study = Study(Space({"x": Float(-1, 1)}), sampler="random")
        >>> result = study.run(lambda config: config["x"] ** 2, budget="5 trials")
        >>> len(result.history), result.reason
        (5, 'all 5 trials have been trained')
        """
        from foretune.study.budget import limit_of
        from foretune.study.executors import executor_for
        from foretune.study.loop import drive
        from foretune.study.result import Result

        most = limit_of("limit", limit)
        self._since = len(self.history.settled)
        if budget is not None:
            self.extend(budget)
        if self.budget == Budget() and not ends_by_itself(self.sampler, self.scheduler):
            raise ArgumentError(
                "budget must limit the study, for nothing else ends it: budget='40 trials' or '2h'."
            )
        if executor is not None:
            return Result(self, drive(self, executor, limit=most, watch=watch))
        with executor_for(train, workers, devices, most) as running:  # type: ignore[arg-type]
            return Result(self, drive(self, running, limit=most, watch=watch))
