"""Peers on a pipe: the protocol, and what becomes of a peer that breaks it."""

import sys
import textwrap
from pathlib import Path

import pytest

from foretune.base.errors import ArgumentError
from foretune.bench import peer as peers
from foretune.bench.contestant import Unsupported
from foretune.bench.data import repository
from foretune.bench.peer import Peer, PeerError, known_peers
from foretune.bench.race import race, run_trials
from foretune.bench.record import Book
from foretune.bench.task import DEVELOPMENT, Instance, Outcome, Task
from foretune.bench.tasks import make
from foretune.bench.timed import run_timed
from foretune.cli.bench import _list, _seeds
from foretune.space.domain import Float
from foretune.space.fidelity import Fidelity
from foretune.space.space import Space

ADAPTERS = repository(Path(__file__)) / "benchmarks" / "races" / "peers"

ADAPTER = """
    import os, random, sys, time
    from _space import Penalty, chosen, searched
    VERSION = "7.1"

    class Run:
        def __init__(self, method, space, seed, workers):
            self.method, self.space, self.rng, self.worse = method, space, random.Random(seed), Penalty()

        def ask(self):
            if self.method == "raises":
                raise ValueError("no good")
            if self.method == "dies":
                os._exit(3)
            if self.method == "sleeps":
                time.sleep(30)
            print("noise on stdout")
            values = {n: self.draw(t) for n, t in searched(self.space)}
            if self.method == "leaves":
                return 0, {n: 99.0 for n in values}
            found = object(), chosen(self.space, values)
            return (*found, 3.0) if self.method == "short" else found

        def draw(self, t):
            if t["type"] == "choice":
                return self.rng.randrange(len(t["values"]))
            return self.rng.uniform(t["low"], t["high"])

        def report(self, token, step, loss):
            return "stop" if self.method == "stops" else "go"

        def tell(self, token, loss):
            self.worse(loss)

    def begin(method, space, seed, trials, deterministic, steps, workers=1):
        if method == "picky":
            raise Unsupported("floats only")
        return Run(method, space, seed, workers)
"""


@pytest.fixture
def folders(tmp_path):
    """Adapters and an environment whose interpreter is this one."""
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    for name in ("_serve.py", "_space.py"):
        (adapters / name).write_text((ADAPTERS / name).read_text())
    (adapters / "fake.py").write_text(textwrap.dedent(ADAPTER))
    python = tmp_path / "envs" / "fake" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return adapters, tmp_path / "envs"


@pytest.fixture
def fake(folders):
    """Make a peer of a method; its process is ended."""
    made = []

    def of(method):
        made.append(Peer(f"fake.{method}", *folders))
        return made[-1]

    yield of
    for peer in made:
        peer.close()


def curves():
    """An instance whose full run has nine steps of a second each."""
    space = Space({"x": Float(0.0, 1.0)})
    return Instance(
        space,
        lambda c, s, n: Outcome(c["x"] + 1.0 / s, s),
        lambda c: c["x"],
        0.0,
        1.0,
        Fidelity(9, 1),
        (1.0, 3.0, 9.0),
    )


def task(name):
    family, _, rest = name.partition("/")
    return Task(make(family), name, "single", DEVELOPMENT) if rest else None


def test_a_peer_races_in_conditional_spaces(fake, tmp_path):
    """Configs, tokens and losses cross the pipe; what the package prints does not matter."""
    counts = race([task("conditional/nested")], [fake("plain")], [0, 1], 6, Book(tmp_path))
    assert counts == {"run": 2, "there": 0, "failed": 0, "refused": {}}
    runs = list(Book(tmp_path).runs())
    assert {r.version for r in runs} == {"7.1"}
    assert all(r.trials == 6 and r.ask[0] > 0 for r in runs)


def test_a_peer_is_the_same_under_the_same_seed(fake):
    """One process serves many runs; each begins anew."""
    place, peer = task("functions/camel2"), fake("plain")
    one, _, again = (run_trials(peer, place, place.instance(s), s, 5) for s in (3, 4, 3))
    assert one.trace == again.trace


@pytest.mark.parametrize(
    ("method", "words"), [("raises", "no good"), ("dies", "has ended"), ("leaves", "must be a number in")]
)
def test_a_peer_that_fails_is_told_of(fake, method, words):
    """An exception, a death and an illegal config end the run with a reason, and nothing else."""
    place = task("functions/camel2")
    run = run_trials(fake(method), place, place.instance(0), 0, 5)
    assert words in run.error


def test_a_peer_that_hangs_is_ended(fake, monkeypatch):
    """No answer within the limit is a failure; the process is gone."""
    peer, place = fake("sleeps"), task("functions/camel2")
    peer.start(place.instance(0), 0, 5)
    monkeypatch.setattr(peers, "LIMIT", 0.3)
    with pytest.raises(PeerError, match="no answer within"):
        peer.ask()
    assert peer._process is None


def test_a_peer_may_decline(fake):
    """A method that cannot search a space says so."""
    with pytest.raises(Unsupported, match="floats only"):
        fake("picky").start(task("functions/camel2").instance(0), 0, 5)


@pytest.mark.parametrize(("method", "more"), [("plain", 0), ("stops", 8), ("short", 4)])
def test_a_peer_races_over_time(fake, method, more):
    """Stopping at the first report, or asking for short runs, begins more trials in the same time."""
    run = run_timed(fake(method), task("functions/camel2"), curves(), 0, 4.0, 1)
    assert run.error == ""
    assert run.trials >= 4 + more


def test_absent_peers_are_named(folders):
    """A peer without an adapter, or without an environment, says what to do."""
    with pytest.raises(ArgumentError, match=r"Did you mean 'fake'"):
        Peer("faek.x", *folders)
    (folders[1] / "fake" / "bin" / "python").unlink()
    with pytest.raises(ArgumentError, match=r"setup\.py"):
        Peer("fake.x", *folders)


def test_every_adapter_is_installable():
    """Each adapter of the repository has its line in setup.py, and the other way round."""
    setup = (ADAPTERS.parent / "setup.py").read_text()
    for name in known_peers(ADAPTERS):
        assert f'"{name}": [' in setup


def test_the_command_races_and_shows(cli, tmp_path):
    """Race, race again, show, and a page; JSON on stdout."""
    where = ["--results", str(tmp_path / "r")]
    race_ = [
        "bench",
        "race",
        "--tasks",
        "functions/camel2,functions/branin2",
        "--trials",
        "6",
        "--seeds",
        "2",
        *where,
    ]
    assert cli(*race_, "--samplers", "random,sobol", "--json").json["run"] == 8
    assert cli(*race_, "--samplers", "random,sobol", "--json").json["there"] == 8
    page = tmp_path / "page.html"
    ran = cli("bench", "show", *where, "--ours", "sobol", "--places", "3,6", "--page", str(page), "--by-task")
    assert ran.code == 0
    assert "functions/camel2" in ran.out
    assert "<h1>" in page.read_text()
    assert cli("bench", "show", *where, "--json").json["rows"] == 4
    assert {t["half"] for t in cli("bench", "tasks", "functions", "--json").json} == {
        "development",
        "held out",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["race", "--tasks", "functions", "--seeds", "x"], "--seeds must be"),
        (["race", "--tasks", "functions", "--samplers", ""], "at least one"),
        (["race", "--tasks", "functions", "--samplers", "random,random"], "more than once"),
        (["race", "--tasks", "functions", "--samplers", "rnadom"], "random"),
        (["race", "--tasks", "functions", "--samplers", "random", "--trials", "0"], "length"),
        (["race", "--tasks", "functions", "--samplers", "random", "--runs", "3"], "learning curves"),
        (["race", "--tasks", "functions", "--samplers", "random", "--peers", "nobody"], "no adapter"),
        (["show"], "no run of the group"),
        (["tasks", "hpobenhc"], "Did you mean"),
    ],
)
def test_bad_input_is_refused(cli, tmp_path, arguments, words):
    """One clear error each, exit code 2, nothing written."""
    where = [] if arguments[0] == "tasks" else ["--results", str(tmp_path / "r")]
    ran = cli("bench", *arguments, *where)
    assert ran.code == 2
    assert words in ran.err
    assert not (tmp_path / "r").exists()


def test_lists_keep_options_together():
    """Commas within a sampler's options do not split it; seeds are counts or ranges."""
    assert _list("random,gp:initial=6,most=50,tpe") == ["random", "gp:initial=6,most=50", "tpe"]
    assert (_seeds("3"), _seeds("4-5")) == ([0, 1, 2], [4, 5])
