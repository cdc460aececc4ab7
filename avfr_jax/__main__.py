"""`python -m avfr_jax` is `avfr`."""

import sys

from avfr_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
