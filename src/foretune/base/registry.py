"""The file registry: one technique is one file; listing reads source by ``ast``, imports nothing."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretune.base.errors import ArgumentError, did_you_mean, unknown_name

__all__ = ["Entry", "build", "entries", "lookup", "names", "sources"]

# Source: <title> [, <where>]; titles may wrap over indented lines and end at a blank line or "(".
_SOURCE = re.compile(r"^[ \t]*Source:[ \t]*(?P<title>.+?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a module says of itself: its name, its class, its first line, its sources.

    A module of a registered package declares ``__entry__ = "ClassName"``; its name is the file's.
    """

    name: str
    module: str
    attribute: str
    summary: str
    sources: tuple[str, ...]


def sources(text: str) -> tuple[str, ...]:
    """Find the titles that ``Source:`` lines of a docstring name (cut at `` | ``, where notes begin).

    >>> sources("A sampler.\\n\\nSource: Some Paper | Algorithm 1")
    ('Some Paper',)
    """
    found = (m.group("title").split(" | ")[0].strip() for m in _SOURCE.finditer(text))
    return tuple(dict.fromkeys(found))


@functools.cache
def entries(package: str) -> Mapping[str, Entry]:
    """Read the entries of a package's files, without importing any of them.

    Args:
        package: dotted name, such as ``"foretune.search"``.
    """
    spec = importlib.util.find_spec(package)
    found: dict[str, Entry] = {}
    if spec is None or spec.submodule_search_locations is None:
        return found
    for folder in spec.submodule_search_locations:
        for path in sorted(Path(folder).glob("*.py")):
            entry = _read(path, package)
            if entry is not None:
                found[entry.name] = entry
    return found


def _read(path: Path, package: str) -> Entry | None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    attribute = None
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
            continue
        if any(isinstance(t, ast.Name) and t.id == "__entry__" for t in node.targets):
            attribute = str(node.value.value)
    if attribute is None:
        return None
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, documented)]
    found = tuple(dict.fromkeys(s for t in texts for s in sources(t)))
    summary = (ast.get_docstring(tree) or "").partition("\n")[0]
    return Entry(path.stem, f"{package}.{path.stem}", attribute, summary, found)


def names(package: str) -> tuple[str, ...]:
    """Return the names of a package's entries, sorted."""
    return tuple(sorted(entries(package)))


def lookup(package: str, kind: str, name: str) -> Any:
    """Import and return the class that ``name`` stands for.

    Raises:
        UnknownNameError: with the nearest name and all known ones.
    """
    table = entries(package)
    if name not in table:
        bare, colon, _ = name.partition(":")
        if colon and bare in table:
            raise ArgumentError(
                f"{kind} must be a name alone here; got {name!r}. Its options go to make, in Python: "
                f"make({bare!r}, ...) with from {package} import make."
            )
        raise unknown_name(kind, name, table)
    entry = table[name]
    return getattr(importlib.import_module(entry.module), entry.attribute)


def build(package: str, kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Make what ``name`` stands for with its options; their values are checked by the class.

    Raises:
        UnknownNameError: with the nearest name and all known ones.
        ArgumentError: an option that the class does not have, with the nearest one and all that it has.
    """
    cls = lookup(package, kind, name)
    known = [f.name for f in dataclasses.fields(cls) if f.init]
    for option in options:
        if option not in known:
            has = f"It has {', '.join(known)}." if known else "It has none."
            raise ArgumentError(
                f"{kind} {name!r} has no option {option!r}.{did_you_mean(option, known)} {has}"
            )
    return cls(**options)
