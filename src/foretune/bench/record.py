"""Results: one JSON line a run, appended and never changed, so that a race resumes and n grows."""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from foretune.base.codec import from_json, to_json
from foretune.base.errors import ArgumentError

__all__ = ["Book", "Run", "newest"]


@final
@dataclass(frozen=True)
class Run:
    """One run of one contestant on one instance.

    Attributes:
        task: the task's name.
        group: the race that it belongs to.
        half: the half of the split that it belongs to.
        contestant: who ran.
        version: of the contestant's code.
        seed: of the instance and of the contestant.
        axis: what the trace counts: "trials" or "seconds" (simulated).
        length: how far the run went on that axis.
        scale: (best, typical) losses of the instance.
        trace: (place, observed loss, judged loss) at each improvement of the observed one.
        ask: seconds inside the method: total, median of its asks, last.
        trials: how many it began.
        repeats: how many configs it had measured before.
        failures: how many of its runs failed.
        error: why the run ended early, if it did; such a run has no rank.
        at: when it was run, ISO date.
        edition: of the task; runs on an older one are left out.
        named: (place, stated loss, judged loss) of the config that the method itself names as its best, at a few
            places of a noisy race; of the one with the best reported loss where it names none.
    """

    task: str
    group: str
    half: str
    contestant: str
    version: str
    seed: int
    axis: str
    length: float
    scale: tuple[float, float]
    trace: tuple[tuple[float, float, float], ...]
    ask: tuple[float, float, float] = (0.0, 0.0, 0.0)
    trials: int = 0
    repeats: int = 0
    failures: int = 0
    error: str = ""
    at: str = ""
    edition: int = 1
    named: tuple[tuple[float, float, float], ...] = ()

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What makes two records runs of the same thing."""
        return (self.task, self.edition, self.version, self.seed)

    def regret(self, place: float, named: bool = False) -> float:
        """Normalised regret of the incumbent at a place: 0 the best there is, 1 the median config.

        Before the first result that did not fail it is that of a bad config, 2: worse than the median one.

        Args:
            place: on the axis.
            named: whether the config counts that the method named last, not the best reported one.
        """
        best, typical = self.scale
        found = math.nan
        for at, _, judged in self.named if named else self.trace:
            if at > place:
                break
            found = judged
        value = (found - best) / (typical - best)
        return min(max(value, 0.0), 2.0) if value == value else 2.0

    @property
    def optimism(self) -> float:
        """How much better the reported loss of the winner is than its judged loss (in the loss's unit)."""
        return self.trace[-1][2] - self.trace[-1][1] if self.trace else math.nan

    @property
    def stated_optimism(self) -> float:
        """How much better the loss that the method states of the config it names is than its judged loss."""
        return self.named[-1][2] - self.named[-1][1] if self.named else math.nan


def _round(value: float) -> float:
    return float(f"{value:.7g}")


@final
class Book:
    """A folder of results, one file a contestant.

    Args:
        folder: made if absent.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._read: dict[Path, tuple[int, dict[tuple[str, int, str, int], float]]] = {}

    def path(self, contestant: str) -> Path:
        """Return the file of a contestant."""
        safe = "".join(c if c.isalnum() or c in "._-+=," else "_" for c in contestant)
        return self.folder / f"{safe}.jsonl"

    def append(self, run: Run) -> None:
        """Add a run; one write under a lock, so that several races can fill one folder."""
        rounded = {
            **to_json(run),
            "trace": [[_round(v) for v in row] for row in run.trace],
            "named": [[_round(v) for v in row] for row in run.named],
            "ask": [_round(v) for v in run.ask],
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.path(run.contestant).open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0, 2)
                torn = b""
                if file.tell():
                    file.seek(-1, 2)
                    torn = b"" if file.read(1) == b"\n" else b"\n"  # a race that was killed left half a line
                file.write(torn + (json.dumps(rounded, separators=(",", ":")) + "\n").encode())
        except OSError as error:
            raise ArgumentError(
                f"Results cannot be written to {str(self.folder)!r}: {error.strerror}."
            ) from None

    def runs(self) -> Iterator[Run]:
        """Read all runs; half-written lines are passed over."""
        for path in sorted(self.folder.glob("*.jsonl")):
            yield from _runs(path)

    def has(self, contestant: str, task: str, edition: int, version: str, seed: int, length: float) -> bool:
        """Whether such a run, as long or longer, is there."""
        path = self.path(contestant)
        size = path.stat().st_size if path.exists() else 0
        if self._read.get(path, (-1, {}))[0] != size:
            known: dict[tuple[str, int, str, int], float] = {}
            for run in _runs(path) if size else ():
                known[run.key] = max(run.length, known.get(run.key, 0.0))
            self._read[path] = (size, known)
        return self._read[path][1].get((task, edition, version, seed), -1.0) >= length


def _runs(path: Path) -> Iterator[Run]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            data: Mapping[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield from_json(Run, data)


def newest(runs: Sequence[Run]) -> list[Run]:
    """Keep each task's last edition and each contestant's version that ran last; of equal runs, the longest."""
    edition: dict[str, int] = {}
    for run in runs:
        edition[run.task] = max(run.edition, edition.get(run.task, 0))
    last: dict[str, Run] = {}
    for run in runs:
        if run.contestant not in last or run.at >= last[run.contestant].at:
            last[run.contestant] = run
    kept: dict[tuple[str, str, int], Run] = {}
    for run in runs:
        if run.version == last[run.contestant].version and run.edition == edition[run.task]:
            place = (run.contestant, run.task, run.seed)
            if place not in kept or run.length > kept[place].length:
                kept[place] = run
    return list(kept.values())
