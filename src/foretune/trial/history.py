"""History: the columnar view of all trials of a study, folded from its events.

Here, and only here, directions, NaN and infinities are normalised:

    loss = sign * value         less is better, whatever the goal's direction
    +inf                        the trial failed by itself, or reported NaN or an infinity
    NaN                         nothing is known yet

The fold is incremental: applying k events costs O(k), however long the log already is.

Longer than most files here: the fold and the columns share their tables, and each event must keep all of them
in step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from foretune.base.errors import StoreError, UnknownNameError
from foretune.trial.event import KINDS, Event
from foretune.trial.problem import Problem
from foretune.trial.ranked import excess, ranked
from foretune.trial.record import Record, loss_of, number
from foretune.trial.trial import COMPLETE, FAILED, PAUSED, RUNNING, STOPPED, WAITING, Plan, Trial

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from foretune.space.space import Space

__all__ = ["History"]

_ENDS = {"pause": PAUSED, "stop": STOPPED, "complete": COMPLETE, "fail": FAILED}
_SETTLED_TWICE = {(PAUSED, PAUSED), (FAILED, FAILED)}  # delivered twice: the first stands


class History(Sequence[Trial]):
    """All trials of a study, by number. Algorithms read it; only the engine applies events.

    Laws: folding a log in pieces equals folding it at once; trials handed out never change.
    """

    def __init__(self, problem: Problem, events: Iterable[Event] = ()) -> None:
        self.problem = problem
        self.version = 0
        self.settled: list[int] = []  # numbers, in the order in which trials settled
        self.seconds = 0.0  # training seconds of all trials
        self.cost = 0.0  # sum of the trials' last "cost" metric
        self.committed_steps = 0.0  # steps done, plus those that awaited trials are sent to do
        self._records: list[Record] = []
        self._in: dict[str, dict[int, None]] = {
            s: {} for s in (WAITING, RUNNING, PAUSED, STOPPED, COMPLETE, FAILED)
        }
        self._rungs: dict[float, dict[int, float]] = {}
        self._best: tuple[float, int] | None = None
        self._best_trace: list[tuple[int, float]] = []
        self._encoded = 0
        self._matrix: Any = None
        self._signs = [(g.metric, g.sign) for g in problem.goals]
        self.apply(events)

    # -- the fold ---------------------------------------------------------------------------------

    def apply(self, events: Iterable[Event], settle: Callable[[Trial], None] | None = None) -> None:
        """Fold events in; ``settle`` is called with each trial at the moment when it settles.

        Raises:
            StoreError: the log is damaged, or was written by a newer version.
        """
        for event in events:
            self.version += 1
            try:
                if event[0] == "report":  # most events are
                    self._report(self._record(event[1]), event[3])
                    continue
                settled = self._fold(*event)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise self._damaged(
                    f"event {self.version} ({event!r:.200}) makes no sense: {error!r}"
                ) from error
            if settled is not None and settle is not None:
                settle(settled.freeze())

    @staticmethod
    def _damaged(what: str) -> StoreError:
        return StoreError(f"The log is damaged: {what}. Run `foretune doctor` on the store.")

    def _fold(self, kind: str, number: int, at: float, data: Mapping[str, Any]) -> Record | None:
        """Fold one event; returns the trial that it settled, if any."""
        if kind == "lease":
            self._lease(self._record(number), data)
        elif kind in ("start", "add"):
            self._begin(kind, number, at, data)
        elif kind == "space":
            self._widen(data["space"])
        elif kind == "steps":
            self._lengthen(data["steps"])
        elif kind == "resume":
            self._resume(self._record(number), at, data)
        elif kind == "lose":
            self._lose(self._record(number), data)
        elif kind in _ENDS:
            return self._end(_ENDS[kind], self._record(number), data)
        elif kind not in KINDS:
            raise StoreError(
                f"The log holds an event of kind {kind!r}, which this version does not know: "
                "upgrade foretune."
            )
        return None

    def _record(self, number: int) -> Record:
        if not 0 <= number < len(self._records):
            raise self._damaged(f"event {self.version} speaks of trial {number}, which never began")
        return self._records[number]

    def _begin(self, kind: str, number: int, at: float, data: Mapping[str, Any]) -> None:
        if number != len(self._records):
            raise self._damaged(
                f"event {self.version} begins trial {number} after {len(self._records)} trials"
            )
        config = {k: tuple(v) if isinstance(v, list) else v for k, v in data["config"].items()}
        record = Record(number, config, Plan(*data["plan"]), data)
        if record.plan.continues is not None:
            record.base = self._record(record.plan.continues).step
        self._records.append(record)
        self._in[WAITING][number] = None
        if kind == "start":
            self._move(record, RUNNING)
            record.started = record.since = at
            record.worker = data.get("worker")
            record.lease = data.get("until", math.inf)
        self._commit(record)

    def _move(self, record: Record, state: str) -> None:
        del self._in[record.state][record.number]
        self._in[state][record.number] = None
        record.state = state
        record.trial = None

    def _commit(self, record: Record) -> None:
        due = record.due
        self.committed_steps += due - record.committed
        record.committed = due

    def _spend(self, record: Record, seconds: float) -> None:
        if seconds > record.seconds:
            self.seconds += seconds - record.seconds
            record.seconds = seconds

    # Facts: they hold whoever tells them, and in whatever order they arrive.

    @staticmethod
    def _lease(record: Record, data: Mapping[str, Any]) -> None:
        if record.state == RUNNING and record.worker == data.get("worker"):
            record.lease, record.trial = data["until"], None

    def _report(self, record: Record, data: Mapping[str, Any]) -> None:
        if "until" in data:
            self._lease(record, data)
        step = data["step"]
        before = record.steps[-1] if record.steps else 0.0
        if record.steps and step <= before:
            return  # a trial taken up from its checkpoint repeats what is already known
        values = data["values"]
        for value in values.values():
            if value.__class__ is not float:
                number(value)  # damage is found here, not by whoever looks at the report
        metric, sign = self._signs[0]
        loss = loss_of(number(values[metric]), sign) if metric in values else math.nan
        seconds = float(data.get("seconds", record.seconds))
        record.told.append((values, seconds, data.get("sem")))
        record.steps.append(step)
        record.losses.append(loss)
        record.tries = 0  # it makes progress: whatever its workers die of, it is not the same again
        record.trial = None
        if step - record.base > record.committed:
            self._commit(record)
        self._spend(record, seconds)
        if "cost" in values:
            cost = number(values["cost"])
            if math.isfinite(cost):
                self.cost += cost - record.cost
                record.cost = cost
        if loss == loss and self._rungs:
            loss = self._ranked(record, loss)
            for level, table in self._rungs.items():
                if level <= step and (before < level or record.number not in table):
                    table[record.number] = loss

    def _result(self, record: Record, data: Mapping[str, Any]) -> None:
        """Take in what a trial returned at its end: it overrides a report at the same step."""
        if not record.steps or data["step"] > record.step:
            self._report(record, data)
            return
        last = record.take_back()
        values = {**last.values, **data["values"]}
        self._report(record, {"sem": last.sem, **data, "values": values, "step": last.step})
        for level, table in self._rungs.items():
            loss = self._ranked_at(record, level)
            if loss == loss:
                table[record.number] = loss

    def _ranked(self, record: Record, loss: float, reports: int | None = None) -> float:
        """Return what a loss counts in a rung: behind all others where the reports so far break a constraint."""
        if not self.problem.constraints:
            return loss
        return ranked(loss, excess(self.problem.constraints, lambda metric: record.last(metric, reports)))

    def _ranked_at(self, record: Record, level: float) -> float:
        at = record.place(level)
        return math.nan if at is None else self._ranked(record, record.losses[at], at + 1)

    # Decisions: appended in a race, and told by workers who may not know that they have been given up.

    def _resume(self, record: Record, at: float, data: Mapping[str, Any]) -> None:
        if record.state in (STOPPED, FAILED):
            return
        self._move(record, RUNNING)
        record.plan = Plan(*data["plan"])
        record.worker = data.get("worker")
        record.lease = data.get("until", math.inf)
        record.reason = data.get("reason", "")
        record.since, record.before = at, record.seconds
        if record.started != record.started:
            record.started = at
        self._commit(record)

    def _lose(self, record: Record, data: Mapping[str, Any]) -> None:
        if record.state != RUNNING or data.get("worker", record.worker) != record.worker:
            return  # it ended in time, or somebody else has it already
        self._move(record, WAITING)
        record.tries += 0 if data.get("blameless") else 1
        record.lease = math.inf
        record.reason = data.get("reason", "")
        self._spend(record, float(data.get("seconds", 0.0)))  # spent, even where nothing came of it
        self._commit(record)

    def _end(self, state: str, record: Record, data: Mapping[str, Any]) -> Record | None:
        """Settle a trial. A result beats a failure, never a result.

        From a worker that was given up while another has taken the trial over, only what it has
        achieved counts: the full length, or the step that the trial was sent to.
        """
        if record.state in (COMPLETE, STOPPED) or (record.state, state) in _SETTLED_TWICE:
            return None
        late = data.get("worker", record.worker) != record.worker
        if late and state in (STOPPED, FAILED):
            return None
        if "values" in data:
            self._result(record, data)
        if late and state == PAUSED and (record.state == FAILED or record.step < record.plan.until):
            return None
        gone = state == FAILED and record.state == WAITING  # nobody ran it: its workers were lost, too often
        self._move(record, state)
        record.failure = data.get("reason") if state == FAILED else None
        record.reason = data.get("reason", "")
        self._spend(record, float(data.get("seconds", 0.0)))
        if gone:
            record.notes = {**record.notes, "lost": True}
        for note in ("detail", "cut", "lost"):
            if note in data:
                record.notes = {**record.notes, note: data[note]}
        self._commit(record)
        self.settled.append(record.number)
        if state == COMPLETE:
            self._improve(record)
        return record

    def _improve(self, record: Record) -> None:
        """Note a complete trial that is better than those before it."""
        loss = record.loss
        if loss < math.inf and (self._best is None or loss < self._best[0]) and self._keeps(record):
            self._best = (loss, record.number)
            self._best_trace.append((record.number, loss))

    def _violations(self, record: Record) -> list[float]:
        """By how much a trial breaks each constraint: NaN unknown, +inf failed or not finite."""
        if record.failed:
            return [math.inf for _ in self.problem.constraints]
        return [c.violation(record.last(c.metric)) for c in self.problem.constraints]

    def _keeps(self, record: Record, unknown: bool = False) -> bool:
        """Whether a trial keeps all constraints; ``unknown`` is what counts where nothing is known."""
        if not self.problem.constraints:
            return True
        return all(v <= 0.0 or (unknown and v != v) for v in self._violations(record))

    def _widen(self, tables: Mapping[str, Any]) -> None:
        from foretune.space.files import space_from_dict

        space = space_from_dict(tables)
        self.problem = replace(self.problem, space=space)
        for record in self._records:
            record.config = space.fill(record.config)
            record.trial = None
        self._encoded, self._matrix = 0, None

    def _lengthen(self, axis: Mapping[str, Any]) -> None:
        """Make full trials longer: those that were complete are paused where they stand."""
        from foretune.space.fidelity import Fidelity

        self.problem = replace(self.problem, steps=Fidelity(**axis))
        self._best, self._best_trace = None, []
        complete = [self._records[n] for n in self._in[COMPLETE]]
        for record in complete:
            if record.step < self.problem.steps.high:
                self._move(record, PAUSED)
            else:
                self._improve(record)

    @staticmethod
    def loss_of(value: float | None, sign: float) -> float:
        """Normalise one raw value: NaN if there is none, +inf if it is not finite."""
        return loss_of(value, sign)

    # -- trials -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [r.freeze() for r in self._records[number]]
        try:
            return self._records[number].freeze()
        except IndexError:
            raise UnknownNameError(
                f"There is no trial {number}; the study has {len(self._records)} (from 0)."
            ) from None

    def __iter__(self) -> Iterator[Trial]:
        return (r.freeze() for r in self._records)

    def numbers(self, *states: str) -> list[int]:
        """Return the numbers of the trials in any of the states, sorted."""
        return sorted(n for s in states for n in self._in[s])

    def count(self, *states: str) -> int:
        """Count the trials in any of the states."""
        return sum(len(self._in[s]) for s in states)

    def state(self, number: int) -> str:
        """Return the state of a trial, without building its record."""
        return self._records[number].state

    def plan(self, number: int) -> Plan:
        """Return the last plan of a trial, without building its record."""
        return self._records[number].plan

    def since(self, number: int) -> tuple[float, float]:
        """When a trial was last started or resumed (NaN before), and its seconds at that moment."""
        record = self._records[number]
        return record.since, record.before

    @property
    def pending(self) -> list[int]:
        """Numbers of the trials whose result is awaited: running and waiting ones."""
        return self.numbers(RUNNING, WAITING)

    # -- columns ----------------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """The space as it stands now."""
        return self.problem.space

    @property
    def units(self) -> NDArray[np.float64]:
        """Configs in the unit cube: (n, width), NaN where inactive. Encoded once each."""
        import numpy as np

        n = len(self._records)
        if self._matrix is None or len(self._matrix) < n:  # grows by doubling: O(1) a trial on average
            grown = np.empty((max(16, 2 * n), self.space.width))
            if self._matrix is not None:
                grown[: self._encoded] = self._matrix[: self._encoded]
            self._matrix = grown
        if self._encoded < n:
            self._matrix[self._encoded : n] = self.space.encode(
                r.config for r in self._records[self._encoded :]
            )
            self._encoded = n
        view: NDArray[np.float64] = self._matrix[:n]
        view.flags.writeable = False
        return view

    def loss(self, number: int) -> float:
        """The last loss of a trial for the first goal: NaN unknown, +inf failed or diverged.

        Of a trial that failed because its workers were lost, what it has reported is known, and no more.
        """
        record = self._records[number]
        return math.inf if record.failed else record.loss

    def losses_of(self, number: int) -> list[float]:
        """The last losses of a trial, one a goal: NaN unknown, +inf failed or diverged."""
        record = self._records[number]
        if record.failed:
            return [math.inf for _ in self._signs]
        return [loss_of(record.last(metric), sign) for metric, sign in self._signs]

    @property
    def losses(self) -> NDArray[np.float64]:
        """Last losses: (n, goals). NaN: nothing known yet; +inf: failed or diverged."""
        import numpy as np

        out = np.full((len(self._records), len(self._signs)), np.nan)
        for i, record in enumerate(self._records):
            if record.failed:
                out[i] = np.inf
            elif len(self._signs) == 1:
                out[i, 0] = record.loss
            else:
                out[i] = self.losses_of(record.number)
        return out

    @property
    def violations(self) -> NDArray[np.float64]:
        """By how much each constraint is broken: (n, constraints); at most 0 where it is kept.

        NaN: nothing known yet; +inf: failed, or reported what is not finite.
        """
        import numpy as np

        out = np.empty((len(self._records), len(self.problem.constraints)))
        if out.size:
            for i, record in enumerate(self._records):
                out[i] = self._violations(record)
        return out

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Which trials have not failed and are known to keep all constraints: (n,)."""
        import numpy as np

        known = [r.state != FAILED and self._keeps(r) for r in self._records]
        return np.array(known, dtype=bool)

    def metric(self, name: str) -> NDArray[np.float64]:
        """The last value of any reported metric, in its own sign: (n,); NaN where there is none.

        "seconds" means the training seconds of a trial, unless trials report a metric of that name.
        """
        import numpy as np

        found = [r.last(name) for r in self._records]
        if name == "seconds" and all(v is None for v in found):
            return np.array([r.seconds or math.nan for r in self._records], dtype=float)
        return np.array([math.nan if v is None else v for v in found], dtype=float)

    @property
    def steps(self) -> NDArray[np.float64]:
        """Last reported steps: (n,); 0 before any report."""
        import numpy as np

        return np.array([r.step for r in self._records], dtype=float)

    def curve(self, number: int) -> tuple[list[float], list[float]]:
        """Return the steps and the normalised losses of a trial's reports (also of a running one)."""
        record = self._records[number]
        known = [(s, x) for s, x in zip(record.steps, record.losses, strict=True) if x == x]
        return [s for s, _ in known], [x for _, x in known]

    def rung(self, step: float) -> Mapping[int, float]:
        """Return number -> loss at the first report at or after ``step``, for all who got there.

        Feasibility first: who is known there to break a constraint has a loss of ``BROKEN`` or more, so that
        it comes after all others (``trial/ranked.py``).
        The first call for a step scans the history; later ones are free.
        """
        table = self._rungs.get(step)
        if table is None:
            table = {}
            for record in self._records:
                loss = self._ranked_at(record, step)
                if loss == loss:
                    table[record.number] = loss
            self._rungs[step] = table
        return table

    # -- the best ---------------------------------------------------------------------------------

    @property
    def best(self) -> Trial | None:
        """The best complete trial; before there is one, the best of those that came furthest.

        Only trials that keep all constraints count; of unfinished ones, those that are not known to
        break one.
        """
        if self._best is not None:
            return self._records[self._best[1]].freeze()
        known = [
            (-r.steps[-1], r.loss, r.number)
            for r in self._records
            if r.steps and r.state != FAILED and r.loss < math.inf and self._keeps(r, r.state != COMPLETE)
        ]
        return self._records[min(known)[2]].freeze() if known else None

    @property
    def best_trace(self) -> Sequence[tuple[int, float]]:
        """(number, loss) at each improvement among the complete trials."""
        return tuple(self._best_trace)

    @property
    def spent(self) -> Mapping[str, float]:
        """What has been used of each budget."""
        return {
            "trials": len(self._records),
            "seconds": self.seconds,
            "steps": self.committed_steps,
            "cost": self.cost,
        }
