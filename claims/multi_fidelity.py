"""Claims on schedulers and samplers that stop early, on complete tables of learning curves, with simulated time.

    python claims/multi_fidelity.py [PART ...]

Parts: extend (iterative deepening Hyperband), hyperband, top_k (one epoch), mobster, pasha, median, bohb, population,
lcbench, lcbench_model, front, pasha_digits; all by default. The table of curves is trained once and kept in the temporary folder: 300 networks of one hidden
layer on scikit-learn's digits, 81 epochs each (10 learning rates x 5 weight decays x 6 widths, momentum 0.9, batches of 32
of 500 images; the loss is the validation error in percent on the other 1,297). A second one, 100 configs x 27 epochs, is
of the same networks on make_classification. An epoch takes 1 + width / 64 simulated seconds. LCBench's sampled tables (17
tasks x 1,000 configs, epochs 3 to 52, with their seconds) are looked for in ../shared/data beside the repository.

A trial's clock goes on where it paused. "Best so far" counts every report, also of trials that were stopped.
Results go to results/multi_fidelity.json; a part that is not run keeps its records.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

import foretune as ft
from foretune.base.clock import SimulatedClock
from foretune.execute.executor import Job
from foretune.execute.simulated import SimulatedExecutor
from foretune.numeric.curves.dominance import dominant_curves
from foretune.numeric.pareto import hypervolume
from foretune.numeric.stats import wilson
from foretune.schedule import make
from foretune.schedule.hyperband import Hyperband, sizes
from foretune.space.fidelity import Fidelity
from foretune.store.memory import MemoryStore
from foretune.study.study import Study
from foretune.trial.problem import Problem

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data" / "yahpo"
RESULTS = ROOT / "claims" / "results" / "multi_fidelity.json"
COMMAND = "python claims/multi_fidelity.py"

HB = "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization"
ID = "Iterative Deepening Hyperband"
ONE = "Is One Epoch All You Need For Multi-Fidelity Hyperparameter Optimization?"
MOB = "Model-based Asynchronous Hyperparameter and Neural Architecture Search"
ASHA = "A System for Massively Parallel Hyperparameter Tuning"
PASHA = "PASHA: Efficient HPO and NAS with Progressive Resource Allocation"
VIZIER = "Google Vizier: A Service for Black-Box Optimization"
BOHB = "BOHB: Robust and Efficient Hyperparameter Optimization at Scale"
MOASHA = "Multi-objective Asynchronous Successive Halving"
PBT = "Population Based Training of Neural Networks"

RATES = np.geomspace(3e-4, 1.0, 10)
DECAYS = np.geomspace(1e-6, 1e-1, 5)
WIDTHS = (4, 8, 16, 32, 64, 128)
EPOCHS, BATCH = 81, 32

Array = NDArray[np.float64]


# -- tables of curves ---------------------------------------------------------------------------------


@dataclass
class Table:
    """Losses (n, positions) at epochs (positions,), and the seconds that it takes to come there, (n, positions)."""

    loss: Array
    seconds: Array
    epochs: tuple[int, ...]
    shape: tuple[int, ...] = ()  # of the grid, where the table is one
    named: tuple[ft.Space, Array] | None = (
        None  # else: a space, and the rows in its unit cube; the nearest counts
    )

    @property
    def best(self) -> float:
        """The least loss at the last epoch."""
        return float(np.nanmin(self.loss[:, -1]))

    @property
    def space(self) -> ft.Space:
        """Positions in the grid, or the row's number, or the space of the configs."""
        if self.named is not None:
            return self.named[0]
        if self.shape:
            return ft.Space({f"p{i}": ft.Int(0, n - 1) for i, n in enumerate(self.shape)})
        return ft.Space({"row": ft.Int(0, len(self.loss) - 1)})

    def row(self, config: Mapping[str, Any]) -> int:
        """Return the row of a config."""
        if self.named is not None:
            space, units = self.named
            return int(np.argmin(((units - space.encode([config])[0]) ** 2).sum(axis=1)))
        if self.shape:
            return int(np.ravel_multi_index([config[f"p{i}"] for i in range(len(self.shape))], self.shape))
        return int(config["row"])

    def part(self, rows: Any, epochs: int) -> Table:
        """Return some rows, up to an epoch."""
        last = self.epochs.index(epochs) + 1
        return Table(self.loss[rows, :last], self.seconds[rows, :last], self.epochs[:last])


def data_of(name: str) -> tuple[Array, Any, Array, Any]:
    """Return training inputs and labels, validation inputs and labels."""
    from sklearn.datasets import load_digits, make_classification

    if name == "digits":
        x, y = load_digits(return_X_y=True)
        x = x / 16.0
    else:
        x, y = make_classification(
            1800, 30, n_informative=12, n_redundant=6, n_classes=6, n_clusters_per_class=2, random_state=0
        )
        x = x / x.std(0)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    return x[:500], y[:500], x[500:], y[500:]


class Network:
    """One hidden layer of rectified units, momentum 0.9, L2; softmax cross-entropy."""

    def __init__(self, width: int, inputs: int, classes: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.p = [
            rng.normal(0, math.sqrt(2 / inputs), (inputs, width)), np.zeros(width),
            rng.normal(0, math.sqrt(2 / width), (width, classes)), np.zeros(classes),
        ]  # fmt: skip
        self.v = [np.zeros_like(q) for q in self.p]
        self.epoch = 0

    def train(self, x: Array, y: Any, rate: float, decay: float, seed: int) -> None:
        """Train for one epoch."""
        order = np.random.default_rng((seed, self.epoch)).permutation(len(x))
        self.epoch += 1
        one = np.eye(self.p[3].size)
        for at in range(0, len(x) - BATCH + 1, BATCH):
            i = order[at : at + BATCH]
            h = np.maximum(x[i] @ self.p[0] + self.p[1], 0)
            z = h @ self.p[2] + self.p[3]
            e = np.exp(z - z.max(1, keepdims=True))
            d = (e / e.sum(1, keepdims=True) - one[y[i]]) / BATCH
            g = (d @ self.p[2].T) * (h > 0)
            for q, v, s in zip(self.p, self.v, (x[i].T @ g, g.sum(0), h.T @ d, d.sum(0)), strict=True):
                v *= 0.9
                v -= rate * (s + decay * q)
                q += v

    def error(self, x: Array, y: Any) -> float:
        """Return the percentage of wrong answers."""
        z = np.maximum(x @ self.p[0] + self.p[1], 0) @ self.p[2] + self.p[3]
        return float(100 * (z.argmax(1) != y).mean())


def trained(name: str, epochs: int, configs: list[tuple[float, float, int]]) -> Table:
    """Train a table, or take it from the temporary folder."""
    file = Path(tempfile.gettempdir()) / f"foretune-{name}-{len(configs)}-{epochs}.npz"
    if file.exists():
        with np.load(file) as known:
            loss = known["loss"]
    else:
        x, y, vx, vy = data_of(name)
        loss, begun = np.full((len(configs), epochs), np.nan), time.time()
        with np.errstate(all="ignore"):
            for n, (rate, decay, width) in enumerate(configs):
                net = Network(width, x.shape[1], int(y.max()) + 1, n)
                for e in range(epochs):
                    net.train(x, y, rate, decay, n)
                    loss[n, e] = net.error(vx, vy) if np.isfinite(net.p[2]).all() else np.nan
        np.savez(file, loss=loss)
        print(f"trained {name}: {loss.shape} in {time.time() - begun:.0f} s", flush=True)
    seconds = np.array([[(1 + w / 64) * (e + 1) for e in range(epochs)] for _, _, w in configs])
    return Table(loss, seconds, tuple(range(1, epochs + 1)))


def digits() -> Table:
    """Return the table of 300 x 81."""
    table = trained("digits", EPOCHS, list(itertools.product(RATES, DECAYS, WIDTHS)))
    table.shape = (len(RATES), len(DECAYS), len(WIDTHS))
    return table


def lcbench() -> Iterator[tuple[int, Table]]:
    """Yield each task of LCBench: the loss is 100 minus the validation accuracy."""
    import pandas

    rows = pandas.read_parquet(DATA / "lcbench_sample.parquet")
    rows = rows[rows.epoch > 1]  # the surrogate is not to be trusted at epoch 1
    for task, part in rows.groupby("task"):
        wide = part.pivot(index="config", columns="epoch", values=["time", "val_accuracy"])
        loss, seconds = 100 - wide["val_accuracy"].to_numpy(float), wide["time"].to_numpy(float)
        epochs = tuple(int(e) for e in wide["time"].columns)
        yield int(str(task)), Table(loss, np.maximum.accumulate(np.maximum(seconds, 1e-3), axis=1), epochs)


def configs_of_lcbench() -> tuple[ft.Space, Array]:
    """Return LCBench's space, and the 1,000 configs in its unit cube."""
    import pandas

    configs = (
        pandas.read_csv(DATA / "lcbench_sample_configs.csv").sort_values("config").drop(columns="config")
    )
    domains: dict[str, Any] = {
        "batch_size": ft.Int(16, 512, log=True), "learning_rate": ft.Float(1e-4, 0.1, log=True), "momentum": ft.Float(0.1, 0.99),
        "weight_decay": ft.Float(1e-5, 0.1), "num_layers": ft.Int(1, 5), "max_units": ft.Int(64, 1024, log=True),
        "max_dropout": ft.Float(0.0, 1.0),
    }  # fmt: skip
    space = ft.Space(domains)
    rows = [{n: (int(v) if isinstance(domains[n], ft.Int) else float(v)) for n, v in r.items()} for r in configs[list(domains)].to_dict("records")]  # fmt: skip
    return space, space.encode(rows)


# -- simulated studies --------------------------------------------------------------------------------


@dataclass
class Ran:
    """What a simulated study did.

    Attributes:
        at, loss: simulated time of each report, and the best loss so far then.
        spent: epochs trained when each report came, of all trials together.
        study: the study.
    """

    at: Array
    loss: Array
    spent: Array
    study: Study

    def reaches(self, level: float, axis: str = "at") -> float:
        """Return when the best so far first was at most ``level``; infinite if never."""
        hit = np.flatnonzero(self.loss <= level + 1e-9)
        return float(getattr(self, axis)[hit[0]]) if hit.size else math.inf

    @property
    def final(self) -> float:
        """The least loss among trials at their full length; of those that came furthest, if there is none."""
        best = self.study.history.best
        return math.inf if best is None else best.values["loss"]


class World:
    """A table, workers and a clock: runs studies on them, and remembers how far each trial has come."""

    def __init__(self, table: Table, workers: int = 1) -> None:
        self.table, self.clock, self.reached = table, SimulatedClock(), {}
        self.executor = SimulatedExecutor(self.profile, workers, self.clock)

    def profile(self, job: Job) -> Iterator[tuple[float, float, Mapping[str, float]]]:
        """Replay a curve from where the trial stands."""
        row, t = self.table.row(job.config), self.table
        begun = self.reached.get(job.number, 0.0)
        before = 0.0
        for e, s, y in zip(t.epochs, t.seconds[row], t.loss[row], strict=True):
            if e > begun and e <= job.until:
                yield float(s - before), e, {"loss": float(y)}
            if e <= job.until:
                before = float(s)
        self.reached[job.number] = job.until

    def run(self, study: Study) -> Ran:
        """Run a study to its end."""
        study.run(None, self.executor)
        log = [e for e in study.store.read(study.name) if e.kind == "report"]
        at = np.array([e.at for e in log])
        raw = [e.data["values"]["loss"] for e in log]
        loss = np.minimum.accumulate([x if isinstance(x, float) else math.inf for x in raw])
        last: dict[int, float] = {}
        spent, total = [], 0.0
        for e in log:
            total += e.data["step"] - last.get(e.number, 0.0)
            last[e.number] = e.data["step"]
            spent.append(total)
        return Ran(at, loss, np.array(spent), study)


def study_of(
    table: Table, sampler: Any, scheduler: Any, seed: int, budget: Any, clock: Any, high: int | None = None
) -> Study:
    """Make a study of a table."""
    low = table.epochs[0]
    return Study(
        table.space, "min loss", sampler=sampler, scheduler=scheduler, seed=seed, budget=budget, clock=clock,
        steps=Fidelity(high or table.epochs[-1], low, "epochs"), store=MemoryStore(),
    )  # fmt: skip


def run(table: Table, sampler: Any, scheduler: Any, seed: int, budget: Any = None, workers: int = 1) -> Ran:
    """Simulate one study."""
    world = World(table, workers)
    return world.run(study_of(table, sampler, scheduler, seed, budget, world.clock))


# -- records ------------------------------------------------------------------------------------------


def record(title: str, module: str, claim: str, status: str, evidence: str) -> dict[str, Any]:
    """Make a record."""
    print(f"{status:8} {title}: {evidence}", flush=True)
    return {"title": title, "module": f"foretune.{module}", "claim": claim, "status": status, "evidence": evidence, "command": COMMAND}  # fmt: skip


def share(wins: int, n: int) -> str:
    """Say a share with its 90 % interval."""
    low, high = wilson(wins, n, 0.9)
    return f"{wins} of {n} (90 % interval {low:.2f} to {high:.2f})"


def mean(values: Any) -> str:
    """Say a mean with its standard error."""
    v = np.asarray(values, dtype=float)
    return f"{v.mean():.4g} +- {v.std(ddof=1) / math.sqrt(len(v)):.2g}"


# -- the parts ----------------------------------------------------------------------------------------


def part_extend(seeds: int = 20) -> list[dict[str, Any]]:
    """Run R = 27, extend to 81; against a fresh run at 81."""
    table, found = digits(), []
    fresh = [run(table, "random", Hyperband(rounds=1), s) for s in range(seeds)]
    costs = np.array([r.spent[-1] for r in fresh])
    for policy in ("discard", "preserve", "efficient"):
        total, second, best = [], [], []
        for seed in range(seeds):
            world = World(table)
            scheduler = make("iterative_deepening_hyperband", policy=policy)
            study = study_of(table, "random", scheduler, seed, None, world.clock, 27)
            first = world.run(study)
            study.lengthen(81)
            ran = world.run(study)
            total.append(ran.spent[-1])
            second.append(ran.spent[-1] - first.spent[-1])
            best.append(ran.final)
        gap = np.array(best) - [r.final for r in fresh]
        error = gap.std(ddof=1) / math.sqrt(seeds)
        rerun = np.array([r.spent[-1] for r in fresh]) + [r - s for r, s in zip(total, second, strict=True)]
        always = bool((np.array(total) < rerun).all())
        within = abs(gap.mean()) <= 2 * error or gap.mean() < 0
        status = "held" if always and within else "partly" if always or within else "not held"
        found.append(
            record(
                ID, "schedule.iterative_deepening_hyperband",
                f"Policy {policy}: taking a finished round of R = 27 epochs to 81 costs less than running again at 81, and ends "
                "as well.",
                status,
                f"{seeds} seeds, 300 digits networks: epochs in all {mean(total)}, against {mean(rerun)} for R = 27 and then a "
                f"fresh R = 81 (fewer in {int((np.array(total) < rerun).sum())} of {seeds}; the extension alone {mean(second)}, "
                f"the fresh run alone {mean(costs)}). Final error {mean(best)} %, fresh {mean([r.final for r in fresh])} %, "
                f"paired difference {gap.mean():+.3f} +- {error:.3f} points.",
            )
        )  # fmt: skip
    return found


def part_hyperband(seeds: int = 10) -> list[dict[str, Any]]:
    """The paper's plan, and epochs until random search's final score."""
    problem = Problem(ft.Space({}), steps=Fidelity(81))
    begun = {r.bracket: (r.trials, r.step) for r in reversed(Hyperband(rounds=1).plan(problem))}
    plan = [begun[b] for b in range(5)]
    exact = sizes(3, 5) == (81, 34, 15, 8, 5) and plan == [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81)]
    table, trials, words, ok = digits(), 27, [], {}
    for name, scheduler in (("hyperband", Hyperband()), ("asha", make("asha"))):
        ratio, strict = [], []
        for seed in range(seeds):
            random = run(table, "random", "full", seed, f"{trials} trials")
            ours = run(table, "random", scheduler, 100 + seed, f"300 trials, {int(random.spent[-1])} steps")
            ratio.append(ours.reaches(random.final, "spent") / random.spent[-1])
            strict.append(ours.reaches(random.loss[-1], "spent") / random.spent[-1])
        wins = ok[name] = sum(r <= 1 / 3 for r in ratio)
        words.append(
            f"{name}: {share(wins, seeds)}, median {np.median(ratio):.2f} of the epochs (the least error of random search at "
            f"any epoch on the way, which is lower: {sum(r <= 1 / 3 for r in strict)} of {seeds})"
        )
    status = "held" if exact and ok["hyperband"] >= 8 else "partly" if exact else "not held"
    return [
        record(
            HB, "schedule.hyperband",
            "The plan for R = 81, eta = 3 is the paper's; random search's final score is reached with at most a third of its epochs "
            "in at least 8 of 10 studies.",
            status,
            f"n_s = {', '.join(str(n) for n, _ in plan)} at r = {', '.join(f'{r:g}' for _, r in plan)}: "
            f"{'exact' if exact else 'not the paper'}. Validation error of the best of {trials} fully trained digits networks (81 epochs) "
            f"reached with a third of the epochs: {'; '.join(words)}.",
        )
    ]  # fmt: skip


def crossing_table(n: int = 100, epochs: int = 27) -> Table:
    """Curves whose order turns around: y_i(t) = u_i + 2 (1 - u_i) / sqrt(t), u_i = i / n; all pairs cross."""
    u = (np.arange(n)[:, None] + 0.5) / n
    t = np.arange(1, epochs + 1)
    y = 100 * (u + 2 * (1 - u) / np.sqrt(t))
    return Table(y, np.broadcast_to(t, y.shape).astype(float), tuple(range(1, epochs + 1)))


def part_top_k(seeds: int = 10) -> list[dict[str, Any]]:
    """One epoch and the best five, against a round of Hyperband, halving and ASHA with the same number of configs."""
    rng = np.random.default_rng(0)
    configs = [
        (float(np.exp(rng.uniform(np.log(3e-4), 0.0))), float(np.exp(rng.uniform(np.log(1e-6), np.log(0.1)))), int(rng.choice(WIDTHS)))
        for _ in range(100)
    ]  # fmt: skip
    tables = {
        "digits": digits().part(rng.permutation(300)[:100], 27),
        "make_classification": trained("make_classification", 27, configs),
        "crossing (y = u + 2 (1 - u) / sqrt(t))": crossing_table(),
    }
    trials = sum(sizes(3, 4))
    said, ok, failed = [], [], False
    for name, table in tables.items():
        found: dict[str, list[tuple[float, float]]] = {}
        for seed in range(seeds):
            for scheduler in ("one_epoch_top_k", "hyperband", "successive_halving", "asha"):
                ran = run(table, "random", scheduler, seed, f"{trials} trials")
                found.setdefault(scheduler, []).append((ran.final - table.best, ran.spent[-1]))
        ours, theirs = np.array(found["one_epoch_top_k"]), np.array(found["hyperband"])
        wins = int((ours[:, 0] <= theirs[:, 0] + 0.5).sum())
        cheaper = bool((ours[:, 1] < theirs[:, 1]).all())
        d = dominant_curves(table.loss)
        if "crossing" in name:
            failed = wins < 8
        else:
            ok.append(wins >= 8 and cheaper)
        costs = ", ".join(
            f"{k} {np.mean([c for _, c in v]):.0f} epochs, regret {np.mean([r for r, _ in v]):.2f}"
            for k, v in found.items()
        )
        said.append(f"{name}: within 0.5 points of Hyperband in {wins} of {seeds}; {costs}; pairs that cross {d.crossing_rate:.2f}, K needed {d.needed} of {len(table.loss)}")  # fmt: skip
    status = "held" if all(ok) and failed else "partly" if any(ok) else "not held"
    return [
        record(
            ONE, "schedule.one_epoch_top_k",
            "Training all configs one epoch and the best 5 to the end is within 0.5 points of Hyperband in at least 8 of 10 studies "
            "with fewer epochs; where curves cross it fails.",
            status,
            f"Tables of 100 configs x 27 epochs, {trials} configs a study, {seeds} seeds. " + ". ".join(said) + ".",
        )
    ]  # fmt: skip


def part_mobster(seeds: int = 10) -> list[dict[str, Any]]:
    """Four workers on 150 configs x 27 epochs: simulated time to within 0.5 points of the best."""
    whole = digits()
    chosen = np.arange(300).reshape(whole.shape)[:, :, ::2].ravel()  # widths 4, 16, 64
    table = whole.part(chosen, 27)
    table.shape = (10, 5, 3)
    level, times = table.best + 0.5, {}
    for seed in range(seeds):
        limit = 0.0
        for name, sampler, scheduler in (
            ("asha", "random", "asha"), ("asha, stopping", "random", "asha_stopping"), ("random", "random", "full"),
            ("mobster", "mobster", "asha"),
            ("mobster, stopping", "mobster", "asha_stopping"),
        ):  # fmt: skip
            # once the others have arrived, there is nothing more to be won
            budget = (
                "150 trials" if sampler == "random" or limit == math.inf else f"150 trials, {4 * limit:.0f} s"
            )
            ran = run(table, sampler, scheduler, seed, budget, workers=4)
            times.setdefault(name, []).append(ran.reaches(level))
            if sampler == "random":
                limit = max(limit, ran.reaches(level))
    t = {k: np.array(v) for k, v in times.items()}
    asha, random = int((t["mobster"] < t["asha"]).sum()), int((t["mobster"] < t["random"]).sum())
    both = int(((t["mobster"] < t["asha"]) & (t["mobster"] < t["random"])).sum())
    rivals = np.minimum(np.minimum(t["asha"], t["asha, stopping"]), t["random"])
    stopping = int((t["mobster, stopping"] < rivals).sum())
    status = "held" if both >= 7 else "partly" if max(asha, random, stopping) >= 7 else "not held"
    good = int((table.loss[:, -1] <= level).sum())
    return [
        record(
            MOB, "search.mobster",
            "With four workers the time to within 0.5 points of the best is below that of ASHA and of random search in at least 7 of "
            "10 studies; with nothing pending the proposals are those of sequential EI.",
            status,
            f"Digits, 150 configs x 27 epochs ({good} configs end within 0.5 points of the best), {seeds} seeds: before ASHA in {asha}, "
            f"before random search in {random}, before both in {both} (with asha_stopping, which the paper has too: before random "
            f"search and ASHA, both variants, in {stopping}). Median seconds: "
            + ", ".join(f"{k} {np.median(v):.0f}" for k, v in t.items())
            + ". With nothing pending the proposals equal the Gaussian process's exactly (tests/unit/test_mobster.py).",
        )
    ]  # fmt: skip


def tasks() -> list[tuple[int, Table]] | None:
    """Return LCBench's tables; None, with a word, if they are not here."""
    if not DATA.exists():
        print(f"Not run: LCBench's tables are not at {DATA}.")
        return None
    return list(lcbench())


def part_lcbench(seeds: int = 5, full: int = 100) -> list[dict[str, Any]]:
    """How much earlier Hyperband and ASHA have random search's final quality."""
    known = tasks()
    if known is None:
        return []
    speed: dict[str, dict[int, list[float]]] = {}
    hits: dict[str, dict[int, list[float]]] = {}
    for task, table in known:
        for seed in range(seeds):
            random = run(table, "random", "full", seed, f"{full} trials", workers=4)
            end, level = random.at[-1], random.loss[-1]
            for name, scheduler, trials in (
                ("hyperband", make("hyperband", eta=2), 1000), ("asha", make("asha", eta=2), 1000),
                ("asha, eta 4", make("asha", eta=4), 1000), ("one_epoch_top_k", make("one_epoch_top_k"), 2 * full),
            ):  # fmt: skip
                budget = f"{trials} trials, {4 * end:.0f} s"
                ran = run(table, "random", scheduler, 100 + seed, budget, workers=4)
                at = ran.reaches(level)
                speed.setdefault(name, {}).setdefault(task, []).append(end / at)
                hits.setdefault(name, {}).setdefault(task, []).append(random.reaches(level) / at)
    found = []
    for name in speed:
        per = {t: float(np.median(v)) for t, v in speed[name].items()}
        hit = {t: float(np.median(v)) for t, v in hits[name].items()}
        ten, n = sum(s >= 10 for s in per.values()), len(per)
        faster = sum(s > 1 for s in hit.values())
        status = "held" if ten >= n / 2 else "not held"
        kind = name.partition(",")[0]
        title = {"hyperband": HB, "asha": ASHA, "one_epoch_top_k": ONE}[kind]
        found.append(
            record(
                title, f"schedule.{kind}",
                f"On LCBench, {name} has the final quality of random search ten times earlier on at least half of the tasks.",
                status,
                f"17 tasks, {seeds} seeds, 4 simulated workers, epochs 3 to 52, random search of {full} full trainings (three epochs are 1/17 of one). Time of "
                f"random search's whole run over the time to its final accuracy, median of seeds: at least 10 on {ten} of {n} tasks; "
                f"over tasks median {np.median(list(per.values())):.1f} (from {min(per.values()):.1f} to {max(per.values()):.1f}). "
                f"Against the moment when random search itself had it: median {np.median(list(hit.values())):.1f} "
                f"(from {min(hit.values()):.2f} to {max(hit.values()):.1f}), earlier on {faster} tasks.",
            )
        )  # fmt: skip
    return found


def part_lcbench_model(seeds: int = 1, full: int = 100) -> list[dict[str, Any]]:
    """The same with MOBSTER: proposals anywhere in the space, of which the nearest of the 1,000 configs is trained."""
    known = tasks()
    if known is None:
        return []
    named = configs_of_lcbench()
    speed: dict[int, list[float]] = {}
    for task, table in known:
        table.named = named
        plain = Table(table.loss, table.seconds, table.epochs)
        for seed in range(seeds):
            random = run(plain, "random", "full", seed, f"{full} trials", workers=4)
            end, level = random.at[-1], random.loss[-1]
            ran = run(
                table, "mobster", make("asha", eta=4), 100 + seed, f"200 trials, {0.4 * end:.0f} s", workers=4
            )
            at = ran.reaches(level)
            speed.setdefault(task, []).append(end / at)
    won = sum(np.median(v) >= 10 for v in speed.values())
    n = len(speed)
    status = "held" if won >= n / 2 else "not held"
    return [
        record(
            MOB, "search.mobster",
            "On LCBench, mobster with ASHA has the final quality of random search ten times earlier on at least half of the tasks.",
            status,
            f"17 tasks, {seeds} seeds, 4 simulated workers, eta 4, a tenth of the time of random search's {full} full trainings, at most "
            f"200 trials: it has the final accuracy of random search within that tenth on {won} of {n} tasks.",
        )
    ]  # fmt: skip


def part_pasha(seeds: int = 3) -> list[dict[str, Any]]:
    """PASHA against ASHA: time, and accuracy of the config that it names, trained to the end."""
    known = tasks()
    if known is None:
        return []
    ratio, loss = {}, {}
    for task, table in known:
        for seed in range(seeds):
            ends = []
            for scheduler in (make("pasha", eta=2, final=False), make("asha", eta=2)):
                ran = run(table, "random", scheduler, seed, "256 trials", workers=4)
                best = ran.study.history.best
                row = table.row(best.config)
                more = table.seconds[row, -1] - table.seconds[row, table.epochs.index(int(best.step))]
                ends.append((ran.at[-1], more, table.loss[row, -1]))
            (t1, _, y1), (t2, _, y2) = ends
            ratio.setdefault(task, []).append(t2 / t1)
            loss.setdefault(task, []).append(y1 - y2)
    r = [float(np.mean(v)) for v in ratio.values()]
    d = [float(np.mean(v)) for v in loss.values()]
    status = (
        "held" if np.median(r) > 2 and np.mean(d) < 1.0 else "partly" if np.median(r) > 1.2 else "not held"
    )
    return [
        record(
            PASHA, "schedule.pasha",
            "PASHA names a config of similar final accuracy as ASHA in a fraction of the time (the paper: 2 to 15 times faster).",
            status,
            f"LCBench, 17 tasks, {seeds} seeds, 256 configs, 4 simulated workers, eta 2: ASHA takes {np.median(r):.2f} times as long in "
            f"the median task (from {min(r):.2f} to {max(r):.2f}); final accuracy of the config that PASHA names is {np.mean(d):.2f} "
            f"points below that of ASHA's in the mean (tasks from {min(d):.2f} to {max(d):.2f}).",
        )
    ]  # fmt: skip


def part_pasha_digits(seeds: int = 10) -> list[dict[str, Any]]:
    """The same on digits, where each epoch is reported, so that the noise of rankings can be measured."""
    table, ratio, gap, top = digits(), [], [], []
    for seed in range(seeds):
        pasha, asha = (
            run(table, "random", scheduler, seed, "150 trials", workers=4)
            for scheduler in (make("pasha", final=False), "asha")
        )
        rows = [table.row(r.study.history.best.config) for r in (pasha, asha)]
        ratio.append(asha.at[-1] / pasha.at[-1])
        gap.append(table.loss[rows[0], -1] - table.loss[rows[1], -1])
        top.append(max(t.step for t in pasha.study.history))
    status = (
        "held"
        if np.median(ratio) > 2 and np.mean(gap) < 0.5
        else "partly"
        if np.median(ratio) > 1.2
        else "not held"
    )
    return [
        record(
            PASHA, "schedule.pasha",
            "On digits, with a report each epoch, PASHA names a config of similar final error as ASHA in less than half of the time.",
            status,
            f"150 of 300 digits networks, R = 81, eta 3, 4 simulated workers, {seeds} seeds: ASHA takes {np.median(ratio):.2f} times as "
            f"long in the median (from {min(ratio):.2f} to {max(ratio):.2f}); highest rung in use {np.median(top):g} epochs in the "
            f"median; final error of the config that PASHA names {mean(gap)} points above that of ASHA's.",
        )
    ]  # fmt: skip


def part_median(seeds: int = 10) -> list[dict[str, Any]]:
    """Median stopping against full trainings: epochs saved, result kept."""
    table = digits()
    saved, gap = [], []
    for seed in range(seeds):
        full = run(table, "random", "full", seed, "60 trials")
        ours = run(table, "random", "median_stopping", seed, "60 trials")
        saved.append(1 - ours.spent[-1] / full.spent[-1])
        gap.append(ours.final - full.final)
    kept = sum(g <= 1e-9 for g in gap)
    status = (
        "held" if np.mean(saved) > 0.3 and kept >= 8 else "partly" if np.mean(saved) > 0.1 else "not held"
    )
    return [
        record(
            VIZIER, "schedule.median_stopping",
            "The median stopping rule saves a large part of the training without losing the best trial.",
            status,
            f"Digits, 60 of 300 configs, {seeds} seeds: {100 * np.mean(saved):.0f} % of the epochs saved (from {100 * min(saved):.0f} to "
            f"{100 * max(saved):.0f}); the best final error is that of full training in {kept} of {seeds}, {np.mean(gap):+.3f} points in "
            "the mean.",
        )
    ]  # fmt: skip


def part_bohb(seeds: int = 3, full: int = 60) -> list[dict[str, Any]]:
    """BOHB against Hyperband with random proposals, in the same simulated time."""
    known = tasks()
    if known is None:
        return []
    named = configs_of_lcbench()
    regret: dict[str, dict[int, list[tuple[float, float]]]] = {"bohb": {}, "random": {}}
    for task, table in known:
        table.named = named
        budget = f"{full * float(table.seconds[:, -1].mean()):.0f} s"
        for seed, (name, per) in itertools.product(range(seeds), regret.items()):
            ran = run(table, name, make("hyperband", eta=2), seed, budget, workers=4)
            half = ran.loss[np.searchsorted(ran.at, 0.5 * ran.at[-1])]
            per.setdefault(task, []).append((ran.final - table.best, half - table.best))
    b, h = (np.array([np.mean(v, axis=0) for v in per.values()]) for per in regret.values())
    wins, n = int((b[:, 0] < h[:, 0]).sum()), len(b)
    early = int((b[:, 1] < h[:, 1]).sum())
    status = "held" if wilson(wins, n, 0.9)[0] > 0.5 else "partly" if wins > n / 2 else "not held"
    return [
        record(
            BOHB, "search.bohb",
            "Hyperband with proposals from kernel densities ends better than Hyperband with random ones, in the same time.",
            status,
            f"LCBench, 17 tasks, {seeds} seeds, 4 simulated workers, eta 2, as much time as {full} full trainings take, proposals anywhere "
            f"in the space (the nearest of 1,000 configs counts): lower mean final regret on {share(wins, n)} of the tasks, at half of "
            f"the time on {early}; regret {mean(b[:, 0])} against {mean(h[:, 0])} points of accuracy over tasks.",
        )
    ]  # fmt: skip


def part_front(seeds: int = 10) -> list[dict[str, Any]]:
    """Error and width of digits networks: the hypervolume of fully trained ones, after as many epochs."""
    table = digits()
    width = np.log2([w for _, _, w in itertools.product(RATES, DECAYS, WIDTHS)])
    scale = np.array([100.0, 8.0])
    volume: dict[str, list[float]] = {}
    for seed in range(seeds):
        for name in ("multi_objective_asha", "asha", "full"):
            world = World(table)
            replay = world.profile

            def profile(job: Job, replay: Any = replay) -> Iterator[tuple[float, float, Mapping[str, float]]]:
                for seconds, epoch, values in replay(job):
                    yield seconds, epoch, {**values, "width": float(width[table.row(job.config)])}

            world.executor = SimulatedExecutor(profile, 1, world.clock)
            study = Study(
                table.space, ["min loss", "min width"], sampler="random", scheduler=name, seed=seed, clock=world.clock,
                budget="200 trials, 1600 steps", steps=Fidelity(81, 1, "epochs"), store=MemoryStore(),
            )  # fmt: skip
            study.run(None, world.executor)
            done = study.history.losses[study.history.numbers("complete")]
            volume.setdefault(name, []).append(float(hypervolume(done / scale, np.ones(2))))
    v = {k: np.array(x) for k, x in volume.items()}
    ours = v["multi_objective_asha"]
    a, f = int((ours > v["asha"]).sum()), int((ours > v["full"]).sum())
    status = "held" if min(a, f) >= 8 else "partly" if max(a, f) >= 8 else "not held"
    return [
        record(
            MOASHA, "schedule.multi_objective_asha",
            "Halving by non-dominated sorting covers more of the front of two goals than halving by one of them, and than full trainings, "
            "after as many epochs.",
            status,
            f"Digits, error (of 100 %) and log2 width (of 8), at most 200 configs and 1,600 epochs, {seeds} seeds: hypervolume of the fully "
            f"trained {mean(ours)}, larger than ASHA's ({mean(v['asha'])}) in {a}, than that of full trainings ({mean(v['full'])}) in {f}.",
        )
    ]  # fmt: skip


class Member:
    """What a member of the population tracks: its network."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def state_dict(self) -> dict[str, Any]:
        return {"p": self.network.p, "v": self.network.v, "epoch": self.network.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.p = [q.copy() for q in state["p"]]
        self.network.v = [q.copy() for q in state["v"]]
        self.network.epoch = state["epoch"]


def part_population(seeds: int = 10) -> list[dict[str, Any]]:
    """A population that is really trained, against random search with as many epochs."""
    x, y, vx, vy = data_of("digits")
    high, members = 40, 10

    def train(config: Mapping[str, Any], run_: Any) -> None:
        member = Member(Network(32, x.shape[1], 10, run_.seed))
        run_.track(model=member)
        with np.errstate(all="ignore"):
            for epoch in range(run_.start, run_.until):
                member.network.train(x, y, config["lr"], config["decay"], run_.seed)
                finite = np.isfinite(member.network.p[2]).all()
                run_.report(epoch + 1, loss=member.network.error(vx, vy) if finite else math.nan)

    space = ft.Space({"lr": ft.Float(3e-4, 1.0, log=True), "decay": ft.Float(1e-6, 0.1, log=True)})
    gaps, final = [], {}
    for seed in range(seeds):
        for name, scheduler, budget in (
            ("pbt", make("population_based_training", population=members, interval=4), None), ("random", "full", f"{members} trials"),
        ):  # fmt: skip
            study = Study(space, steps=high, sampler="random", scheduler=scheduler, budget=budget, seed=seed)
            study.run(train)
            history = study.history
            final.setdefault(name, []).append(history.best.values["loss"])
        gaps.append(final["pbt"][-1] - final["random"][-1])
    wins, n = sum(g < 0 for g in gaps), len(gaps)
    z = np.mean(gaps) / (np.std(gaps, ddof=1) / math.sqrt(n))
    status = "held" if wins >= 7 and z < -1.65 else "partly" if np.mean(gaps) < 0 else "not held"
    return [
        record(
            PBT, "schedule.population_based_training",
            "A population that exploits and explores while it trains ends better than the same number of networks trained apart.",
            status,
            f"Digits networks really trained ({members} of them, {high} epochs, compared every 4; learning rate and weight decay), {n} "
            f"seeds: best final error {mean(final['pbt'])} % against {mean(final['random'])} %; lower in {wins}, paired difference "
            f"{mean(gaps)} points.",
        )
    ]  # fmt: skip


PARTS = {
    "extend": part_extend, "hyperband": part_hyperband, "top_k": part_top_k, "mobster": part_mobster, "pasha": part_pasha,
    "median": part_median, "bohb": part_bohb, "population": part_population, "lcbench": part_lcbench,
    "lcbench_model": part_lcbench_model, "front": part_front, "pasha_digits": part_pasha_digits,
}  # fmt: skip


def keep(made: list[dict[str, Any]]) -> None:
    """Put records in the place of those with the same title and claim."""
    with open(RESULTS, "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # parts may run side by side
        file.seek(0)
        known = {(m["title"], m["claim"]) for m in made}
        kept = [r for r in map(json.loads, file) if (r["title"], r["claim"]) not in known]
        file.seek(0)
        file.truncate()
        file.write("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in [*kept, *made]))


def main() -> None:
    """Run the parts named on the command line, all by default, and keep the others' records."""
    for part in sys.argv[1:] or list(PARTS):
        begun = time.time()
        keep(PARTS[part]())
        print(f"-- {part}: {time.time() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
