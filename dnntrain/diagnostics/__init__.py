"""Looking at an experiment: what it is made of, before and after training."""
