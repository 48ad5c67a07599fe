"""Peers: other packages, each in an environment of its own, behind JSON lines on a pipe.

One line each way: {"do": "start", ...}, {"do": "ask"}, {"do": "tell", "token": ..., "loss": ...}. An answer is a
mapping; {"error": ...} ends the run, {"unsupported": ...} says that the method takes no part. Seconds are measured
inside the peer's process, so that the pipe costs it nothing.
"""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from foretune.base.errors import ArgumentError, did_you_mean
from foretune.bench.contestant import Asked, Contestant, Named, Unsupported
from foretune.bench.task import Instance

__all__ = ["Peer", "PeerError", "known_peers"]

LIMIT = 600.0  # seconds for one answer; a peer that takes longer has failed


class PeerError(RuntimeError):
    """A peer's process failed, or broke the protocol."""


def known_peers(folder: Path) -> dict[str, Path]:
    """Return adapter by package: the files of the folder that do not begin with an underscore."""
    return {p.stem: p for p in sorted(folder.glob("*.py")) if not p.stem.startswith("_")}


@final
class Peer(Contestant):
    """A method of another package.

    Args:
        spec: ``package`` or ``package.method``, such as ``"optuna.tpe"``.
        adapters: folder of the adapters, one file a package.
        environments: folder of the environments, one a package.
    """

    def __init__(self, spec: str, adapters: Path, environments: Path) -> None:
        self.name = spec
        package, _, self._method = spec.partition(".")
        known = known_peers(adapters)
        if package not in known:
            raise ArgumentError(
                f"There is no adapter for the peer {package!r} in {adapters}.{did_you_mean(package, known)}"
            )
        python = environments / package / "bin" / "python"
        if not python.exists():
            raise ArgumentError(
                f"The peer {package!r} has no environment at {environments / package}: make it with "
                f"`python benchmarks/races/setup.py {environments} {package}`."
            )
        self._command = [str(python), "-P", str(adapters / "_serve.py"), str(known[package])]
        self._process: subprocess.Popen[str] | None = None
        self.version = "unknown"

    def _spawn(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            env = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, env=env,
            )  # fmt: skip
        return self._process

    def _call(self, **message: Any) -> Mapping[str, Any]:
        process = self._spawn()
        assert process.stdin is not None  # for the type checker: both are pipes
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            self.close()
            raise PeerError(f"{self.name}: its process has ended") from None
        ready, _, _ = select.select([process.stdout], [], [], LIMIT)
        line = process.stdout.readline() if ready else ""
        if not line:
            self.close()
            what = "its process has ended" if ready else f"no answer within {LIMIT:g} s"
            raise PeerError(f"{self.name}: {what}")
        answer: Mapping[str, Any] = json.loads(line)
        if "unsupported" in answer:
            raise Unsupported(f"{self.name}: {answer['unsupported']}")
        if "error" in answer:
            raise PeerError(f"{self.name}: {answer['error']}")
        return answer

    def start(self, instance: Instance, seed: int, trials: int, workers: int = 1) -> None:
        answer = self._call(
            do="start", method=self._method, space=instance.space.to_dict(), seed=seed, trials=trials,
            deterministic=instance.deterministic, steps=list(instance.levels), workers=workers,
        )  # fmt: skip
        self.version = str(answer["version"])

    def ask(self) -> Asked | None:
        answer = self._call(do="ask")
        if answer.get("wait"):
            return None
        return Asked(answer["token"], answer["config"], float(answer["seconds"]), answer.get("until"))

    def report(self, token: Any, step: float, loss: float, spent: float) -> tuple[str, float]:
        answer = self._call(do="report", token=token, step=step, loss=loss)
        return str(answer["word"]), float(answer["seconds"])

    def tell(self, token: Any, loss: float) -> float:
        answer = self._call(do="tell", token=token, loss=loss if math.isfinite(loss) else None)
        return float(answer["seconds"])

    def named(self) -> Named | None:
        answer = self._call(do="named")
        return Named(answer["config"], float(answer["value"])) if "config" in answer else None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None
