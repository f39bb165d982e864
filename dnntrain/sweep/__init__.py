"""Many runs of one file: the space of configurations, and how it is searched. Optuna is imported where it is used."""
