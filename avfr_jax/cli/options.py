"""Options that several commands share."""

import argparse


def deprecate(parser: argparse.ArgumentParser, old: str, new: str) -> None:
    """Accept the old spelling of an option for one release, without showing it in the help.

    Args:
      parser: has the option `new` already.
      old: e.g. `--enlarger`.
      new: e.g. `--super-resolver`.
    """
    parser._option_string_actions[old] = parser._option_string_actions[new]
