"""One loop, one updater, checkpoints: knows methods and batches, never a net or a dataset by name."""
