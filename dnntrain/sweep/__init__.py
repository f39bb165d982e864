"""Many runs of one file: the space of configurations, how it is searched, and the workers that train it.

A *configuration* is an experiment without its seed, a *run* is a configuration with a seed (and a fold). Search and
pruning see the mean over the runs of a configuration. Optuna is imported where it is used.
"""
