"""Checkpoints of trials: one folder a trial, one file a step, written whole or not at all."""

from __future__ import annotations

import os
import pickle
import random
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foretune.base.errors import StudyError

__all__ = [
    "PROTOCOLS", "Checkpoints", "adopt", "draw_on", "hand_over", "inherited", "load", "newest", "restore", "save",
]  # fmt: skip

# How an object gives its state and takes it back; torch's and NumPy's words, and torch.Generator's.
PROTOCOLS = (("state_dict", "load_state_dict"), ("get_state", "set_state"))

_FILE = re.compile(r"^(step|from)-([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)\.ckpt$")


def _steps(folder: Path, kind: str = "step") -> list[tuple[float, Path]]:
    if not folder.is_dir():
        return []
    found = [(_FILE.match(p.name), p) for p in folder.iterdir()]
    return sorted((float(m[2]), p) for m, p in found if m is not None and m[1] == kind)


def newest(folder: str | Path | None) -> tuple[float, Path] | None:
    """Return (step, file) of the newest checkpoint in a trial's folder."""
    found = _steps(Path(folder)) if folder is not None else []
    return found[-1] if found else None


def inherited(folder: str | Path | None) -> tuple[float, Path] | None:
    """Return (step, file) of the checkpoint that a trial has from the one it continues."""
    found = _steps(Path(folder), "from") if folder is not None else []
    return found[-1] if found else None


def hand_over(parent: str | Path, child: str | Path, before: float) -> None:
    """Give a trial the newest checkpoint of another that lies before step ``before``.

    It is linked, or copied where links are not possible, into the child's own folder, so that whatever the
    other trial does later (go on, end, lose its checkpoints) changes nothing. Without one, nothing is done.
    """
    place = Path(child)
    if newest(place) is not None or inherited(place) is not None:
        return
    for step, file in reversed(_steps(Path(parent))):
        if step >= before:
            continue
        place.mkdir(parents=True, exist_ok=True)
        target = place / f"from-{step:.12g}.ckpt"
        try:
            os.link(file, target)
        except FileExistsError:
            return
        except FileNotFoundError:  # it went on at this very moment
            continue
        except OSError:
            part = target.with_suffix(".part")
            shutil.copyfile(file, part)
            os.replace(part, target)
        return


def _state(value: Any) -> Any:
    give = next(give for give, take in PROTOCOLS if hasattr(value, give) and hasattr(value, take))
    return getattr(value, give)()


def restore(value: Any, state: Any) -> None:
    """Put a saved state back into an object, in place."""
    take = next(take for give, take in PROTOCOLS if hasattr(value, give) and hasattr(value, take))
    getattr(value, take)(state)


def adopt(value: Any, state: Any) -> None:
    """Put another trial's saved state into an object; an optimizer keeps the settings of its own.

    For an object with ``param_groups`` (torch's optimizers) learning rates, decays and the like stay what
    the child's config made them; moments and counts are the other trial's.
    """
    own = getattr(value, "param_groups", None)
    if (
        isinstance(state, Mapping)
        and isinstance(own, list)
        and len(state.get("param_groups", ())) == len(own)
    ):
        groups = [
            {**theirs, **{k: v for k, v in mine.items() if k != "params"}}
            for theirs, mine in zip(state["param_groups"], own, strict=True)
        ]
        state = {**state, "param_groups": groups}
    restore(value, state)


def save(folder: str | Path, step: float, objects: Mapping[str, Any]) -> Path:
    """Write the states of ``objects`` at ``step``, then remove older files.

    A newer one stays: it is that of a worker who has taken the trial over.

    The states of the global generators go along, so that a resumed trial draws what it would have drawn:
    that of ``random``, and those of NumPy and torch where they are imported.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    older = _steps(place)
    body: dict[str, Any] = {"objects": {k: _state(v) for k, v in objects.items()}}
    body["random"] = random.getstate()
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        body["numpy"] = numpy.random.get_state()
    target = place / f"step-{step:.12g}.ckpt"
    handle, name = tempfile.mkstemp(dir=place, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            if torch is not None:
                body["torch"] = torch.get_rng_state()
                torch.save(body, file)
            else:
                pickle.dump(body, file, protocol=5)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    for at, path in older:
        if at < step and path != target:
            path.unlink(missing_ok=True)
    for _, path in _steps(place, "from"):  # it has a state of its own now
        path.unlink(missing_ok=True)
    return target


def draw_on(body: Mapping[str, Any]) -> None:
    """Set the global generators to the states that a checkpoint holds."""
    random.setstate(body["random"])
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and "numpy" in body:
        numpy.random.set_state(body["numpy"])
    if torch is not None and "torch" in body:
        torch.set_rng_state(body["torch"])


def load(file: str | Path) -> dict[str, Any]:
    """Read what :func:`save` wrote. Only open checkpoints that you trust: they are pickles.

    Tensors come to the CPU, wherever they were: the device that a trial had need not be there, or free, when
    it is taken up again, and ``load_state_dict`` moves them to where the model is.
    """
    try:
        with open(file, "rb") as handle:
            if handle.read(2) == b"PK":  # torch's format is a zip file
                import torch

                handle.seek(0)
                return dict(torch.load(handle, map_location="cpu", weights_only=False))
            handle.seek(0)
            return dict(pickle.load(handle))
    except Exception as error:  # whatever unpickling of torn or foreign bytes ends in
        raise StudyError(
            f"The checkpoint {str(file)!r} cannot be read ({error}). Delete it: the trial then starts "
            "again from its beginning; what it reported is kept."
        ) from error


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # not in a fork: the folder is the parent's
        shutil.rmtree(folder, ignore_errors=True)


class Checkpoints:
    """The checkpoints of a study, under ``root/<study>/<number>/``.

    Args:
        root: folder, or None for a temporary one that goes with the process.
        study: the study's name.
        keep: "resumable" deletes a trial's checkpoint when the trial ends; "best" also keeps that of
            the best complete trial; "all" deletes nothing.
    """

    def __init__(self, root: str | Path | None, study: str, keep: str = "best") -> None:
        self._safe = re.sub(r"[^A-Za-z0-9._-]", lambda m: f"%{ord(m[0]):02x}", study)
        self._root = None if root is None else Path(root) / self._safe
        self.keep = keep

    @property
    def root(self) -> Path:
        """The study's folder; it need not exist."""
        if self._root is None:  # made when first asked for: most studies in memory never are
            folder = tempfile.mkdtemp(prefix="foretune-")
            weakref.finalize(self, _remove, folder, os.getpid())
            self._root = Path(folder) / self._safe
        return self._root

    def folder(self, number: int) -> Path:
        """Return the folder of a trial (it need not exist)."""
        return self.root / f"{number:06d}"

    def exist(self, number: int) -> bool:
        """Whether there is anything in the folder of a trial."""
        return self._root is not None and self.folder(number).is_dir()

    def ended(self, number: int, best: int | None) -> None:
        """Apply the keep-policy after a trial has ended."""
        if self.keep == "all" or not self.exist(number):
            return
        if self.keep == "best" and number == best:
            for other in self._marked() - {number}:
                shutil.rmtree(self.folder(other), ignore_errors=True)
            if self.folder(number).is_dir():
                (self.folder(number) / "best").touch()
        else:
            shutil.rmtree(self.folder(number), ignore_errors=True)

    def _marked(self) -> set[int]:
        return {int(p.parent.name) for p in self.root.glob("*/best")}
