"""Where the published tables are, and how they are read."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foretune.base.errors import ArgumentError
from foretune.base.lazy import require

__all__ = ["data_root", "parquet", "repository"]

MARK = "benchmarks/races"  # what makes a folder the repository's root


def repository(start: Path | None = None) -> Path | None:
    """Return the repository's root: the first folder above ``start`` (or this file, or here) with the races."""
    places = [start] if start is not None else [Path(__file__), Path.cwd()]
    for place in places:
        for folder in _upwards(place.resolve()):
            if (folder / MARK).is_dir():
                return folder
    return None


def _upwards(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


def data_root(given: str | Path | None = None) -> Path | None:
    """Return the folder of the published tables: the one given, or ../shared/data beside the repository.

    Raises:
        ArgumentError: the folder given is not there.
    """
    if given is not None:
        path = Path(given)
        if not path.is_dir():
            raise ArgumentError(f"--data must be a folder with the published tables; {str(given)!r} is none.")
        return path
    root = repository()
    if root is None:
        return None
    found = root.parent / "shared" / "data"
    return found if found.is_dir() else None


@functools.lru_cache(maxsize=16)
def parquet(path: Path) -> dict[str, Any]:
    """Read a Parquet table as columns: name -> array."""
    table = require("pyarrow.parquet", "A race on published tables").read_table(path)
    return {
        name: table.column(name).to_numpy(zero_copy_only=False)
        if str(table.schema.field(name).type).startswith(("int", "float", "double"))
        else table.column(name).to_pylist()
        for name in table.column_names
    }
