"""The race over simulated time: several workers, learning curves, trials that are stopped, paused and resumed.

Time is counted in full runs: the mean time of training a config of the table to its full length. A config that was
trained before goes on from where it stopped, whoever asks for it: every contestant is given its checkpoints.
Methods' own seconds stand still on this clock; they are told in the table of overheads.
"""

from __future__ import annotations

import heapq
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, final

from foretune.base.clock import SimulatedClock
from foretune.base.codec import canonical
from foretune.base.key import Key
from foretune.bench.contestant import Asked, Contestant, code_digest, read_spec
from foretune.bench.peer import PeerError
from foretune.bench.record import Run
from foretune.bench.task import Instance, Task
from foretune.schedule import make as make_scheduler
from foretune.search import make as make_sampler
from foretune.space.fidelity import Fidelity
from foretune.study.study import Study
from foretune.trial.trial import Trial

__all__ = ["OursTimed", "full_run", "run_timed"]

DRAWS = 256  # configs whose mean time is the unit


@final
class OursTimed(Contestant):
    """A sampler and a scheduler of Foretune, driven through a study in memory.

    Args:
        spec: ``sampler+scheduler``, options as ``gp+asha:eta=2``.
    """

    def __init__(self, spec: str) -> None:
        from foretune import __version__

        self.name = spec
        sampler, _, scheduler = spec.partition("+")
        kind, options = read_spec(sampler)
        self._sampler = make_sampler(kind, **options)
        kind, options = read_spec(scheduler or "full")
        self._scheduler = make_scheduler(kind, **options)
        parts = (type(self._sampler).__module__, type(self._scheduler).__module__)
        self.version = f"{__version__}+{'.'.join(code_digest(p) for p in parts)}"

    def start(self, instance: Instance, seed: int, trials: int, workers: int = 1) -> None:
        self._clock = SimulatedClock()
        low, high = instance.levels[0], instance.levels[-1]
        self._study = Study(
            instance.space, "min loss", sampler=self._sampler, scheduler=self._scheduler,
            steps=Fidelity(high, low, instance.steps.unit) if high > low else None,
            seed=Key.of(seed).fold("contestant").integer(), clock=self._clock, lease=1e12, ask_cap="off",
        )  # fmt: skip

    def tick(self, now: float) -> None:
        self._clock.advance_to(now)

    def ask(self) -> Asked | None:
        began = time.perf_counter()
        found = self._study.next()
        seconds = time.perf_counter() - began
        if not isinstance(found, Trial):
            return None
        return Asked(found.number, found.config, seconds, found.plan.until)

    def report(self, token: Any, step: float, loss: float, spent: float) -> tuple[str, float]:
        began = time.perf_counter()
        verdict = self._study.report(token, step, seconds=spent, loss=loss)
        return verdict.word, time.perf_counter() - began

    def tell(self, token: Any, loss: float) -> float:
        began = time.perf_counter()
        if math.isfinite(loss):
            self._study.finish(token)
        else:
            self._study.finish(token, state="failed", reason="the run failed")
        return time.perf_counter() - began


@dataclass
class _Job:
    """A config under way."""

    asked: Asked
    config: dict[str, Any]
    text: str
    reports: Iterator[tuple[float, float, float]]  # (step, loss, seconds of training in all)
    begun: float  # clock time at which it would have begun from nothing
    last: float = math.inf


def full_run(instance: Instance) -> float:
    """Return the mean seconds of a full run, over random configs of a fixed draw."""
    drawn = instance.space.sample(DRAWS, Key.of(0).fold("full run"))
    return statistics.fmean(instance.measure(c, instance.levels[-1], 0).seconds for c in drawn)


def _curve(
    instance: Instance, config: dict[str, Any], after: float, until: float
) -> Iterator[tuple[float, float, float]]:
    """Yield (step, loss, seconds) at each whole step after ``after``, from the first level on."""
    step = max(math.floor(after) + 1, math.ceil(instance.levels[0]))
    while step <= until:
        found = instance.measure(config, float(step), 0)
        yield float(step), found.loss, found.seconds
        if not math.isfinite(found.loss):
            return
        step += 1


def run_timed(
    contestant: Contestant, task: Task, instance: Instance, seed: int, length: float, workers: int
) -> Run:
    """Run one contestant for ``length`` full runs of simulated time on ``workers`` workers.

    The incumbent is the config with the least loss seen at any step; it is judged at full length.
    """
    unit = full_run(instance)
    high = instance.levels[-1]
    trained: dict[str, float] = {}
    trace: list[tuple[float, float, float]] = []
    asks: list[float] = []
    queue: list[tuple[float, int, _Job]] = []
    best, spent, now, order, error = math.inf, 0.0, 0.0, 0, ""
    free = workers

    def push(job: _Job) -> bool:
        nonlocal order
        item = next(job.reports, None)
        if item is None:
            return False
        step, job.last, seconds = item
        job.asked = job.asked._replace(until=step)
        order += 1
        heapq.heappush(queue, (job.begun + seconds, order, job))
        return True

    try:
        contestant.start(instance, seed, max(1, round(length * workers)), workers)
        while now <= length * unit:
            contestant.tick(now)
            while free:
                asked = contestant.ask()
                if asked is None:
                    break
                asks.append(asked.seconds)
                config = instance.space.check(asked.config)
                text = canonical(config)
                until = min(high, max(instance.levels[0], asked.until or high))
                after = trained.get(text, 0.0)
                before = instance.measure(config, after, 0).seconds if after else 0.0
                reports = _curve(instance, config, after, until)
                job = _Job(asked, config, text, reports, now - before)
                if push(job):
                    free -= 1
                    continue
                # asked for what was trained already: the answer is there at once
                found = instance.measure(config, until, 0)
                contestant.report(asked.token, until, found.loss, found.seconds)
                spent += contestant.tell(asked.token, found.loss)
                now += 1e-6 * unit  # no contestant may ask for the same for ever
                if now > length * unit:
                    break
            if not queue:
                break  # nothing under way, and nothing more to do
            now, _, job = heapq.heappop(queue)
            if now > length * unit:
                break
            contestant.tick(now)
            step, loss = float(job.asked.until or high), job.last
            trained[job.text] = max(step, trained.get(job.text, 0.0))
            if loss < best:
                best = loss
                trace.append((now / unit, loss, instance.judge(job.config)))
            word, seconds = contestant.report(job.asked.token, step, loss, now - job.begun)
            spent += seconds
            if word == "go" and push(job):
                continue
            spent += contestant.tell(job.asked.token, loss)
            free += 1
    except (PeerError, ValueError, ArithmeticError, RuntimeError) as wrong:
        error = f"{type(wrong).__name__}: {wrong}"[:300]
        contestant.close()
    middle = statistics.median(asks) if asks else 0.0
    return Run(
        task=task.name, group="fidelity", half=task.half, contestant=contestant.name, version=contestant.version,
        seed=seed, axis="full runs", length=length, scale=(instance.best, instance.typical), trace=tuple(trace),
        ask=(sum(asks) + spent, middle, asks[-1] if asks else 0.0), trials=len(asks),
        error=error, at=datetime.now(UTC).isoformat(timespec="seconds"), edition=task.family.edition,
    )  # fmt: skip
