"""A sampler that proposes nothing, for studies whose configs are all planned beforehand."""

from __future__ import annotations

from foretune.study.queued import Queued

__all__ = ["Queued"]
