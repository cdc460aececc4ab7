"""`python -m avfr_jax` is `avfr`."""

from avfr_jax.interrupts import exit_on_signals

if __name__ == "__main__":  # before the imports, which take a while
    exit_on_signals("avfr", "stopped; unfinished files were removed.")


import sys

from avfr_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
