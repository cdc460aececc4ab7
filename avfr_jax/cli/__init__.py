"""The command line: thin commands over the library. `main.py` is the entry; one file a command."""
