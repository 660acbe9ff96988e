"""What a training writes down as it goes: a table, and the same for TensorBoard where that is wanted."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from omniwsi.errors import UsageError
from omniwsi.tissues import Tissue

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TABLE, BOARD = "log.csv", "tensorboard"


@dataclass(frozen=True, slots=True)
class Progress:
    """Told every `log_every` steps."""

    step: int
    steps: int
    loss: float
    seconds_a_step: float
    dice: dict[str, float] = field(default_factory=dict)
    """Mean foreground Dice by tissue on the held-out patches, whenever they were judged."""


class Log:
    """A context: `log.csv` in `folder`, and `tensorboard/` beside it if `board`.

    What an earlier process wrote of steps after `first_step` is taken back: they are done again.
    """

    def __init__(self, folder: Path, tissues: Sequence[Tissue], first_step: int, board: bool = False) -> None:
        self._path = folder / TABLE
        self._names = [tissue.name for tissue in tissues]
        self._board = _board(folder / BOARD, first_step) if board else None
        rows = self._rows_up_to(first_step)
        with self._path.open("w", newline="") as file:
            csv.writer(file).writerows([["step", "loss", "seconds_a_step", *self._names], *rows])

    def _rows_up_to(self, step: int) -> list[list[str]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="") as file:
            return [row for row in list(csv.reader(file))[1:] if int(row[0]) <= step]

    def add(self, progress: Progress) -> None:
        dice = [f"{progress.dice[name]:.4f}" if name in progress.dice else "" for name in self._names]
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow([progress.step, f"{progress.loss:.5f}", f"{progress.seconds_a_step:.3f}", *dice])
        if self._board is None:
            return
        scalars = {"loss": progress.loss, "seconds a step": progress.seconds_a_step}
        scalars |= {f"Dice/{name}": value for name, value in progress.dice.items()}
        for name, value in scalars.items():
            self._board.add_scalar(name, value, progress.step)

    def show(self, picture: Path, step: int) -> None:
        """What was found on held-out patches, for TensorBoard."""
        if self._board is not None and picture.exists():
            with Image.open(picture) as image:
                self._board.add_image("judged", np.asarray(image), step, dataformats="HWC")

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()


def require_tensorboard() -> None:
    """Raises UsageError where its package is missing: before anything is read, not after."""
    if find_spec("tensorboard") is None:
        raise UsageError('--tensorboard needs one more package: pip install "omniwsi[tensorboard]"')


def _board(folder: Path, first_step: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_step + 1)
