"""The command line: the only code that prints."""

from omniwsi.cli.main import main

__all__ = ["main"]
