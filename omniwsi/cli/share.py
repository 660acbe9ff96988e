"""Several slides on several GPUs: some of the slides to each, in a process of its own.

While one slide's contours are traced on a processor, another's tiles are seen by a GPU; and a slide is written by one process
alone, so its results are the same bytes as by one GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from omniwsi.errors import UsageError

ALONE = ("slides", "device", "workers", "report")
"""What each process is told for itself."""


def groups_of(devices: Sequence[str], slides: int) -> list[str]:
    """As many as there are slides for; more GPUs than slides share one, as `cuda:0,cuda:2`.

    >>> groups_of(["cuda:0", "cuda:1", "cuda:2"], 2)
    ['cuda:0,cuda:2', 'cuda:1']
    """
    count = min(len(devices), slides)
    return [",".join(devices[i::count]) for i in range(count)]


def fairly(slides: Sequence[Path], count: int) -> list[list[Path]]:
    """The largest first, each to whom has least so far; within a share they keep their order."""
    sizes = {slide: _size(slide) for slide in slides}
    shares: list[list[Path]] = [[] for _ in range(count)]
    for slide in sorted(slides, key=lambda slide: -sizes[slide]):
        min(shares, key=lambda share: (sum(sizes[other] for other in share), len(share))).append(slide)
    return [sorted(share, key=slides.index) for share in shares]


def _size(slide: Path) -> int:
    """Bytes; of what cannot be read, none: its process will say so."""
    try:
        return sum(path.stat().st_size for path in (slide.rglob("*") if slide.is_dir() else (slide,)))
    except OSError:
        return 0


def as_given(context: typer.Context) -> list[str]:
    """The options of this call that are not as they are by themselves, as words."""
    words: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name in ALONE or value is None or value == parameter.get_default(context):
            continue
        words += [parameter.opts[0]] if value is True else [parameter.opts[0], str(value)]
    return words


def among(groups: Sequence[str], slides: Sequence[Path], options: Sequence[str], workers: int) -> list[dict[str, Any]]:
    """Reports on all slides, in their order. The processes say for themselves what there is to say.

    Stopped, they are told to stop, and waited for. Where one finds the call itself wrong, the call ends with its status.
    """
    shares = fairly(slides, len(groups))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{i}.json") for i in range(len(groups))]
        running: list[subprocess.Popen[bytes]] = []
        try:
            for group, share, file in zip(groups, shares, files, strict=True):
                own = ["--device", group, "--workers", str(workers), "--report", str(file)]
                running.append(_start([*options, *own], share))
            for process in running:
                process.wait()
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
        if any(process.returncode == UsageError.exit_status for process in running):
            raise typer.Exit(UsageError.exit_status)  # which it has explained
        reports: dict[str, dict[str, Any]] = {}
        for group, share, file, process in zip(groups, shares, files, running, strict=True):
            lost = f"the process for {group} ended with status {process.returncode}"
            reports |= {str(slide): {"slide": str(slide), "error": lost, "kind": "run"} for slide in share}
            if file.exists():
                reports |= {report["slide"]: report for report in json.loads(file.read_text())}
    return [reports[str(slide)] for slide in slides]


def _start(options: Sequence[str], slides: Sequence[Path]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "omniwsi", "segment", *options, "--", *map(str, slides)]
    # Bars of several processes on one terminal would paint over each other: lines, as in a log.
    return subprocess.Popen(command, env=os.environ | {"TTY_COMPATIBLE": "0"})
