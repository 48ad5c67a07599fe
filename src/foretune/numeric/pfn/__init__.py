"""Prior-fitted networks: Bayesian prediction by one forward pass of a network trained on draws of a prior.

``network.py`` holds the general class for anybody's prior; ``prior.py`` is the prior of losses over
hyperparameters, ``train.py`` fits the stored network to it, ``stored()`` loads that network.
"""
