"""How things are said: results on standard output, everything else on standard error, plain where there is no terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

_PIPED_WIDTH = 200
"""Columns where there is no terminal to ask: a table in a log or a file is not folded to the 80 of a screen."""


def _console(stderr: bool) -> Console:
    width = None if (sys.stderr if stderr else sys.stdout).isatty() or os.environ.get("COLUMNS") else _PIPED_WIDTH
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=width)


out = _console(stderr=False)
err = _console(stderr=True)

_LINE_EVERY_S = 15.0


def complain(line: str) -> None:
    err.print(f"[bold red]error:[/] {escape(line)}")


def warn(line: str) -> None:
    err.print(f"[yellow]warning:[/] {escape(line)}")


def note(line: str) -> None:
    err.print(escape(line))


def table(*columns: str, title: str = "") -> Table:
    """A plain table: the first column left, the others right."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i == 0 else "right")
    return made


def duration(seconds: float) -> str:
    """Two units at most.

    >>> duration(4.2), duration(75), duration(7322)
    ('4 s', '1 min 15 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes for people.

    >>> size(999), size(12_300_000)
    ('999 B', '12.3 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class Meter:
    """Progress of one long job: a bar on a terminal, now and then a line elsewhere."""

    def __init__(self, name: str, progress: Progress | None) -> None:
        self._name = name
        self._progress = progress
        self._task = progress.add_task(name, total=None, what="", pace="") if progress else None
        self._began = self._last_line = time.monotonic()
        self._stage = ""
        self._first_done = 0
        self._amount = 0.0

    def show(self, stage: str, done: int, total: int, what: str = "", amount: float = 0.0, unit: str = "") -> None:
        """`amount` was done since the last call, in `unit`; the pace is of this stage alone."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._first_done, self._amount = stage, now, done, 0.0
        self._amount += amount
        spent = now - self._began
        pace = f"{self._amount / spent:.3g} {unit}/s" if unit and spent > 1 else ""
        fresh = done - self._first_done
        left = f"{duration(spent / fresh * (total - done))} left" if fresh and spent > 2 and done < total else ""
        says = "  ".join(part for part in (pace, left) if part)
        if self._progress and self._task is not None:
            label = f"{stage} {done:,}/{total:,} {what}"
            self._progress.update(self._task, completed=done, total=total or 1, what=label, pace=says)
        elif now - self._last_line > _LINE_EVERY_S:
            self._last_line = now
            share = f"{100 * done / total:.0f} %" if total else ""
            note("  ".join(part for part in (self._name, f"{stage} {done}/{total} ({share})", what, says) if part))


@contextmanager
def meter(name: str) -> Iterator[Meter]:
    """A Meter on standard error; its bar goes when it is left."""
    if not err.is_terminal:
        yield Meter(name, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[what]}", style="dim"),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=err, transient=True, refresh_per_second=5) as progress:
        yield Meter(escape(name), progress)
