"""Online tuners: a setting for each job of a stream, learned from the cost of the jobs before."""

from foretune.search.online.bandit_tuner import BanditTuner
from foretune.search.online.neural_igw import NeuralIGW
from foretune.search.online.tuner import OnlineTuner

__all__ = ["BanditTuner", "NeuralIGW", "OnlineTuner"]
