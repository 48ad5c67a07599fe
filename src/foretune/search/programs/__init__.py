"""Evolution of short arithmetic programs: how exact a formula can be for how many operations. No sampler."""

from foretune.search.programs.evolve import ProgramEvolver
from foretune.search.programs.program import Program

__all__ = ["Program", "ProgramEvolver"]
