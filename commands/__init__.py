"""One module a command: what main.py calls once the arguments are parsed."""
