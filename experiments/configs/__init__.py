"""One file an experiment: `CONFIG`, and in its docstring the command, the expected result and the time."""
