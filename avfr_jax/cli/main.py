"""`avfr`: parse arguments, run one command, report bad input as one sentence with exit status 2."""

import argparse
import importlib
import sys
from collections.abc import Sequence

import avfr_jax
from avfr_jax.errors import AvfrError
from avfr_jax.interrupts import exit_on_signals
from avfr_jax.streams import standard_streams

# Order of the help page; each is a module of this package with `add_arguments(parser)` and `run(arguments)`.
_COMMANDS = {
    "reenact": "animate a portrait with the motion of a face in a video",
    "frontalize": "turn the head of a portrait to the front",
    "orbit": "turn the head of a portrait from side to side",
    "demo": "run reenact on the bundled material and show the result",
    "explain": "plot the intermediate results behind one frame of a reenactment",
    "encode": "compress a video of a face to a few bytes a frame",
    "decode": "decode such a stream to a video",
    "import": "convert a published checkpoint to a model folder",
    "models": "list the models known by name",
    "inspect": "describe a video, image, stream or model folder, and whether it is marked as generated",
    "doctor": "check devices, versions, face backend, codecs and weights",
}
_STOPPED = "stopped; unfinished files were removed."
_EPILOG = """\
examples:
  avfr demo
  avfr reenact --source me.jpg --driving talk.mp4 --output out.mp4
  avfr COMMAND --help      arguments of a command, with an example
"""


def _module(command: str) -> str:
    return f"avfr_jax.cli.{'import_' if command == 'import' else command}"


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="avfr",
        description="Talking-head reenactment: portraits that move, in JAX.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"avfr {avfr_jax.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in _COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name in argv[:1]:  # the modules of the other commands are not imported
            module = importlib.import_module(_module(name))
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


@standard_streams("avfr")
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
      argv: its words. None takes those of the program, which then ends at once on signals, see `exit_on_signals`.

    Returns:
      0, or the command's own status (`doctor`: 1); 2 for bad input, with one sentence on stderr; 130 after a
      KeyboardInterrupt.
    """
    if argv is None:
        exit_on_signals("avfr", _STOPPED)
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser(words).parse_args(words)
        from avfr_jax.cli.options import pipes_as_files
        from avfr_jax.runtime import log_to_stderr

        log_to_stderr()
        with pipes_as_files(arguments):
            return int(arguments.run(arguments) or 0)
    except ModuleNotFoundError as error:
        from avfr_jax.packages import missing_package

        missing = missing_package(error)
        if missing is None:
            raise
        print(f"avfr: {missing}", file=sys.stderr)
        return 2
    except AvfrError as error:
        verbose = "--verbose" in words
        print(f"avfr: {error}{' (--verbose lists all)' if error.details and not verbose else ''}", file=sys.stderr)
        for line in error.details if verbose else ():
            print(f"  {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\navfr: {_STOPPED}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
