"""The command line: `tfpipe VERB ...`. Each verb is a module with `add_arguments(parser)` and `run(arguments) -> int`.

Exit codes: 0 ok, 1 problems in the data, 2 usage, 3 the environment, 70 unexpected, 130 interrupted, 141 where nobody
reads stdout any more. Results go to stdout, progress and errors to stderr. Beam's options follow a literal `--`; an
unknown option is an error everywhere.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, logging
from absl.flags import argparse_flags

from tfpipe import __version__
from tfpipe.cli.failures import exit_code
from tfpipe.errors import UsageError

# For each verb: its module, and its line in --help.
VERBS = {
    "convert": ("tfpipe.cli.convert", "write images as TFRecord shards with a manifest"),
    "inspect": ("tfpipe.cli.inspect", "show what a dataset holds"),
    "check": ("tfpipe.cli.check", "compare every shard with the manifest"),
    "report": ("tfpipe.cli.report", "write an HTML page about a dataset: contents, health, images"),
    "show": ("tfpipe.cli.show", "show records as a model gets them, augmented too"),
    "gallery": ("tfpipe.cli.gallery", "draw every op and policy of tfpipe.augment"),
    "repair": ("tfpipe.cli.repair", "save the undamaged records of a dataset into a new one"),
    "export": ("tfpipe.cli.export", "write what TFDS, Croissant and DALI need to read a dataset"),
    "index": ("tfpipe.cli.index", "adopt TFRecords that other programs wrote"),
    "bench": ("tfpipe.cli.bench", "time every way to read a dataset"),
    "tune": ("tfpipe.cli.tune", "find the bottleneck and the fastest options for a dataset"),
    "search": ("tfpipe.cli.search", "find the augmentation under which a small model learns a dataset best"),
    "serve": ("tfpipe.cli.serve", "run a tf.data service that reads and decodes for other machines"),
    "doctor": ("tfpipe.cli.doctor", "say what this machine offers, and what is missing"),
    "demo": ("tfpipe.cli.demo", "walk through everything on real images, from files to a trained model"),
    "version": ("tfpipe.cli.version", "show the versions of tfpipe and of its dependencies"),
}


def main(verb: str | None = None) -> None:
    """Runs the command line of this process and exits; `verb`, if given, comes before its arguments."""
    command = sys.argv[1:] if verb is None else [verb, *sys.argv[1:]]
    arguments, beam_args = _cut_at_dashes(command)
    _quiet_libraries()

    def parse(_: Sequence[str]) -> argparse.Namespace:
        parsed = _build_parser(arguments).parse_args(arguments)
        if beam_args and parsed.verb != "convert":
            raise UsageError(f"tfpipe {parsed.verb} takes nothing after --.")
        parsed.beam_args = tuple(beam_args)
        return parsed

    def run_verb(parsed: argparse.Namespace) -> None:
        sys.exit(_module(parsed.verb).run(parsed))

    sys.exit(exit_code(lambda: app.run(run_verb, flags_parser=parse, argv=[sys.argv[0]]), command))


def _build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse_flags.ArgumentParser(
        prog="tfpipe",
        description="From a heap of images to a training pipeline that never lets the accelerator wait.",
        epilog="tfpipe VERB --help shows the options and examples of a verb.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tfpipe {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, (_, line) in VERBS.items():
        # Only the chosen verb's module is imported, so that `tfpipe --help` stays quick.
        module = _module(name) if name == chosen else None
        child = verbs.add_parser(
            name,
            help=line,
            description=(module.__doc__ if module else line),
            epilog=getattr(module, "EXAMPLES", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            inherited_absl_flags=None,
        )
        if module is not None:
            module.add_arguments(child)
            child.add_argument("--json", action="store_true", help="print the result as one JSON document")
    return parser


def _module(verb: str) -> Any:
    return importlib.import_module(VERBS[verb][0])


def _cut_at_dashes(command: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments before and after a literal --."""
    if "--" not in command:
        return list(command), []
    index = list(command).index("--")
    return list(command[:index]), list(command[index + 1 :])


def _quiet_libraries() -> None:
    """Suppresses the start-up messages of TensorFlow and Beam, unless the user asked for them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.set_verbosity(logging.ERROR)
