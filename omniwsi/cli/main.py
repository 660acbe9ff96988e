"""The application: its commands, and how they end.

Commands import what they need when they run: `omniwsi --help` loads neither torch nor zarr.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from omniwsi import __version__
from omniwsi.cli import compare, data, demo, doctor, evaluate, info, segment, train, weights
from omniwsi.cli.console import complain, note
from omniwsi.errors import OmniWSIError

app = typer.Typer(
    name="omniwsi",
    help="Whole kidney slides in, every tissue out.",
    epilog="Begin with: omniwsi demo. Then: omniwsi segment SLIDE -o results. Anything wrong: omniwsi doctor",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("segment")(segment.segment)
app.command("info")(info.info)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"omniwsi {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


class Stopped(BaseException):
    """A signal asked for an end: Ctrl-C, or the SIGTERM of a cluster. Not an error."""

    def __init__(self, number: int) -> None:
        self.exit_status = 128 + number


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise Stopped(number)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 a slide failed, 2 wrong usage, 130 and 143 stopped by a signal."""
    # Ctrl-C too: its own KeyboardInterrupt would be swallowed by the framework, without a word of how to go on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app()
    except OmniWSIError as error:
        complain(str(error))
        sys.exit(error.exit_status)
    except Stopped as stop:
        note("stopped; nothing finished is lost, the same command goes on from here")
        _die(stop.exit_status)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


def _die(status: int) -> NoReturn:
    """At once: a reading thread in the middle of a slide must not hold up a stop."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
