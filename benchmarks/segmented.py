"""What benchmarks share that segment as a user would: OUT SLIDE [-- OPTIONS of omniwsi segment]."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from omniwsi.run import folder_name


def asked(usage: str | None) -> tuple[Path, Path, list[str]]:
    """(OUT, SLIDE, OPTIONS) of the command line; ends the program with its usage where they are not there."""
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    if end != 2:
        sys.exit(usage)
    return Path(words[0]), Path(words[1]), words[end + 1 :]


def segmented(slide: Path, out: Path, options: Sequence[str]) -> Path:
    """The folder of the run."""
    command = [sys.executable, "-m", "omniwsi", "segment", str(slide), "-o", str(out), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out / folder_name(slide.name)
