"""The command line as a whole: help, version, start-up, exit codes, tracebacks, pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from foretune.base.errors import ArgumentError, StoreError, UnknownNameError
from foretune.cli.exits import STORE, USAGE, code_of, guarded

COMMANDS = (
    "demo", "tune", "show", "worker", "extend", "report", "fit", "check", "check coords", "check transfer",
    "check stability", "check audit", "transfer", "papers", "doctor", "samplers", "schedulers", "laws", "plan",
    "recommend", "parametrizations", "bench", "bench race", "bench show", "bench tasks", "compare", "finalists",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_holds_an_example(cli, command):
    """Each command's help renders, and shows how to call that very command."""
    ran = cli(*command.split(), "--help")
    assert ran.code == 0
    examples = ran.out.partition("Examples:")[2]
    assert f"foretune {command}" in examples


def test_every_command_is_in_the_list_above(cli):
    """The help of the whole names exactly the commands that these tests know."""
    listed = cli("--help").out.partition("Commands:")[2].partition("Examples:")[0]
    names = {line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2:3].strip()}
    assert names == {c for c in COMMANDS if " " not in c}


def test_help_documents_the_exit_codes(cli):
    """All documented exit codes stand in the help of the whole."""
    text = cli("--help").out.partition("Exit codes:")[2]
    assert [line.split()[0] for line in text.splitlines()[1:7]] == ["0", "1", "2", "3", "4", "130"]


def test_version(cli):
    """--version prints the package's version."""
    import foretune

    assert cli("--version").out == f"foretune {foretune.__version__}\n"


def test_start_up_imports_nothing_heavy():
    """The command line's own import loads no number cruncher and no terminal library."""
    code = (
        "import sys, json, foretune.cli.main; heavy = ('numpy', 'torch', 'scipy', 'plotly', 'rich', 'sqlite3'); "
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_unknown_command_and_option_are_wrong_usage(cli):
    """A misspelt command or option ends with code 2 and the nearest name."""
    assert cli("shwo").code == 2
    assert "show" in cli("shwo").err
    assert cli("tune", "--spce", "x").code == 2
    assert "--space" in cli("tune", "--spce", "x").err


def test_errors_have_codes():
    """Trouble with a store is told apart from wrong input by the exit code."""
    assert code_of(StoreError("torn")) == STORE
    assert code_of(UnknownNameError("no such")) == USAGE


def test_an_error_is_one_line_without_traceback(capsys):
    """Expected errors print one line on stderr."""
    with pytest.raises(SystemExit) as end, guarded():
        raise ArgumentError("lr must be positive; got -1.")
    assert end.value.code == USAGE
    assert capsys.readouterr().err == "Error: lr must be positive; got -1.\n"


def test_the_traceback_is_shown_on_request(monkeypatch):
    """FORETUNE_TRACEBACK=1 lets the exception through."""
    monkeypatch.setenv("FORETUNE_TRACEBACK", "1")
    with pytest.raises(ArgumentError), guarded():
        raise ArgumentError("x")


def test_a_bug_keeps_its_traceback():
    """What is not an error of the family is not hidden."""
    with pytest.raises(ZeroDivisionError), guarded():
        raise ZeroDivisionError


def test_an_interrupt_has_its_code(capsys):
    """Ctrl-C ends with 130 and what the command has to say about it."""
    with pytest.raises(SystemExit) as end, guarded():
        raise KeyboardInterrupt("Interrupted. Go on with: foretune worker study.db:a")
    assert end.value.code == 130
    assert "foretune worker study.db:a" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    """A closed pipe ends a command quietly."""
    read, write = os.pipe()
    os.close(read)
    main = [sys.executable, "-c", "from foretune.cli.main import main; main()", "papers"]
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(main, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "name"),
    [("samplers", "random"), ("schedulers", "asha"), ("laws", "chinchilla"), ("parametrizations", "mup")],
)
def test_lists(cli, command, name):
    """Each list has a known name with a summary, as text and as JSON."""
    rows = {row["name"]: row for row in cli(command, "--json").json}
    assert rows[name]["summary"]
    assert f"{name} " in cli(command).out


def _example(folder: Path, body: str) -> Path:
    path = folder / "stdlib_lm.py"
    path.write_text(body)
    return path


def test_demo_runs_the_example_and_prints_its_object_last(cli, tmp_path, monkeypatch):
    """The demo hands its options to the example's run_demo and prints what it returns."""
    from foretune.cli import demo

    body = "def run_demo(quick, seed, out):\n    print('working')\n    return {'args': [quick, seed, out]}\n"
    path = _example(tmp_path, body)
    monkeypatch.setattr(demo, "example_file", lambda: path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stdlib_lm", raising=False)
    for extra in ("torch", "plotly"):
        monkeypatch.setitem(sys.modules, extra, sys)  # the fake example needs neither
    ran = cli("demo", "--quick", "--seed", "3", "--out", "here", "--json")
    monkeypatch.delitem(sys.modules, "stdlib_lm", raising=False)
    assert ran.code == 0
    assert ran.out.startswith("working\n")
    assert ran.json == {"args": [True, 3, "here"]}


def test_demo_says_which_extra_is_missing(cli, monkeypatch):
    """Without torch the demo names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    ran = cli("demo")
    assert ran.code == 2
    assert "foretune[torch]" in ran.err


def test_the_example_is_found_in_a_checkout():
    """The loader finds the example's file."""
    from foretune.cli.demo import example_file

    assert example_file().name == "stdlib_lm.py"


def test_a_warning_is_one_line():
    """What the package warns of is read without the place in its code, in a process of its own."""
    code = (
        "import sys, warnings\n"
        "from foretune.cli import main\n"
        "main.app = lambda **_: warnings.warn('Foretune: a word.', RuntimeWarning)\n"
        "main.main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == "Warning: Foretune: a word.\n"


def test_the_demo_says_what_came_out_and_where_the_report_lies(monkeypatch):
    """Also where no terminal is: the forecast, the losses, the config, and the report's path last."""
    from types import SimpleNamespace

    from typer.testing import CliRunner

    from foretune.cli import demo
    from foretune.cli.main import app

    found = {
        "forecast": 2.14, "low": 2.05, "high": 2.25, "outcome": 2.17, "inside": True, "ours": 2.17, "direct": 2.33,
        "untuned": 3.88, "config": {"lr": 0.19}, "report": "runs/report.html",
    }  # fmt: skip
    monkeypatch.setattr(demo, "load_example", lambda: SimpleNamespace(run_demo=lambda **_: found))
    ran = CliRunner().invoke(app, ["demo", "--quick"])
    assert ran.exit_code == 0, ran.output
    lines = ran.output.splitlines()
    assert lines[-4] == "Forecast 2.14 [2.05, 2.25], outcome 2.17: inside the interval"
    assert lines[-2:] == ['Config   {"lr": 0.19}', "Report   runs/report.html"]
