"""One file an experiment; each defines `CONFIG` and says in its first lines how to run it and what to expect."""
