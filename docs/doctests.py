"""Examples of docstrings are shown as code: what stands from ``>>>`` to the next blank line is fenced."""

from __future__ import annotations

from typing import Any

import griffe


def fenced(text: str) -> str:
    """Put fences around the examples of a docstring."""
    found: list[str] = []
    inside = ""
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if not inside and line.lstrip().startswith(">>>"):
            inside = f"{indent}```"
            found.append(f"{inside}pycon")
        elif inside and not line.strip():
            found.append(inside)
            inside = ""
        found.append(line)
    return "\n".join([*found, inside] if inside else found)


class Doctests(griffe.Extension):
    """Fences the examples of each object's docstring as it is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
