"""What is claimed about speed, memory and accuracy, as commands: `python -m benchmarks.NAME`."""
