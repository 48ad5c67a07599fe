"""The far end of the pipe: runs one adapter, answers JSON lines.

    ENVIRONMENT/bin/python -P _serve.py ADAPTER.py      (-P: the folder of the adapters stays off the front of the path)

An adapter is a file with VERSION and begin(method, space, seed, trials, deterministic, steps, workers) -> a run with
ask() -> (token, config) and tell(token, loss or None). In races over time ask() may answer (token, config, until), or
None where something under way must end first, and report(token, step, loss) -> "go", "stop" or "pause" is called at
each step. Where losses are noisy, named() may answer (config, stated loss), the best by the method's own reasoning. A
config that was trained before goes on from where it stopped. ``steps`` are the levels of the task,
``workers`` how many configs are under way at once.
``space`` is a mapping of names to tables: {"type": "float" | "int" | "choice" | "constant", "low", "high", "log",
"values", "default", "when": {parent: [values]}}.
Tokens are what the adapter likes; they stay in this process, numbered.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import sys
import time
import traceback
import warnings
from typing import Any


class Unsupported(Exception):
    """The method cannot search such a space."""


def load(path: str) -> Any:
    # at the end: an adapter is named like its package, which must be found first
    sys.path.append(os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location("adapter", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    module.__dict__["Unsupported"] = Unsupported
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def plain(value: Any) -> Any:
    """Make NumPy scalars plain."""
    if hasattr(value, "item"):
        return value.item()
    return str(value) if isinstance(value, str) else value


class Server:
    """Holds the adapter, its present run and the tokens."""

    def __init__(self, path: str) -> None:
        self.adapter = load(path)
        self.run: Any = None
        self.tokens: list[Any] = []

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        do = message.pop("do")
        began = time.perf_counter()
        out: dict[str, Any] = {}
        if do == "start":
            self.tokens = []
            self.run = self.adapter.begin(**message)
            out["version"] = self.adapter.VERSION
        elif do == "ask":
            asked = self.run.ask()
            if asked is None:
                out["wait"] = True
            else:
                self.tokens.append(asked[0])
                out["token"] = len(self.tokens) - 1
                out["config"] = {k: plain(v) for k, v in asked[1].items()}
                if len(asked) > 2:
                    out["until"] = asked[2]
        elif do == "tell":
            self.run.tell(self.tokens[message["token"]], message["loss"])
        elif do == "named":
            name = getattr(self.run, "named", None)  # a method that names none has none
            if name is not None:
                config, value = name()
                out["config"] = {k: plain(v) for k, v in config.items()}
                out["value"] = value
        elif do == "report":
            judge = getattr(self.run, "report", None)  # a method of full runs has none
            token = self.tokens[message["token"]]
            out["word"] = "go" if judge is None else judge(token, message["step"], message["loss"])
        else:
            raise ValueError(f"unknown message {do!r}")
        out["seconds"] = time.perf_counter() - began
        return out


def main() -> None:
    # what libraries print must not mix with the protocol
    wire = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    server: Server | None = None
    for line in sys.stdin:
        try:
            if server is None:
                server = Server(sys.argv[1])
            with contextlib.redirect_stdout(sys.stderr):
                out = server.answer(json.loads(line))
        except Unsupported as reason:
            out = {"unsupported": str(reason)}
        except Exception as error:
            traceback.print_exc()
            out = {"error": f"{type(error).__name__}: {error}"[:300]}
        wire.write(json.dumps(out) + "\n")
        wire.flush()


if __name__ == "__main__":
    main()
