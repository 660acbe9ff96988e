"""The dynamic head against its rivals: one trunk, one recipe, one rule for seeds; only the method differs.

A seed decides what is held out, how a network begins and what it is taught, the same for all methods.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from omniwsi.errors import UsageError
from omniwsi.model.checkpoint import load_model
from omniwsi.model.network import Network
from omniwsi.model.predictor import Predictor
from omniwsi.train.data import load, read_split
from omniwsi.train.evaluate import Summary, judge, summarise
from omniwsi.train.log import Progress
from omniwsi.train.loop import train
from omniwsi.train.options import METHODS, TrainOptions
from omniwsi.train.report import table_row

_TIMED_RUNS = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One method: what it scored over seeds, and what it costs."""

    method: str
    seeds: int
    dice: dict[str, tuple[float, float]]
    """tissue -> mean and deviation over seeds of the mean over held-out patches"""
    hd95_um: dict[str, tuple[float, float]]
    parameters: int
    macs_a_pixel: float
    """for all tissues"""
    seconds_a_mpx: float
    """for all tissues, on this machine"""

    @property
    def mean_dice(self) -> float:
        return float(np.mean([mean for mean, _ in self.dice.values()]))


def compare(
    methods: Sequence[str],
    seeds: Sequence[int],
    options: TrainOptions,
    tell: Callable[[str, int, Progress], None] = lambda method, seed, progress: None,
) -> Iterator[Row]:
    """A Row a method, as soon as its seeds are trained under `options.out`/METHOD/SEED; what was trained is not again.

    Raises UsageError for methods that there are not.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods or not seeds:
        raise UsageError(f"there is no method {', '.join(unknown) or 'named'}; known are {', '.join(METHODS)}")
    for method in methods:
        judged = [_judged(method, seed, options, tell) for seed in seeds]
        network = load_model(options.out / method / str(seeds[0]) / "weights.safetensors")
        yield Row(
            method,
            len(seeds),
            _over_seeds(judged, "dice"),
            _over_seeds(judged, "hd95_um"),
            sum(parameter.numel() for parameter in network.parameters()),
            macs_a_pixel(network),
            seconds_a_mpx(network, options.device),
        )


def _judged(
    method: str, seed: int, options: TrainOptions, tell: Callable[[str, int, Progress], None]
) -> dict[str, Summary]:
    own = replace(options, form=METHODS[method], seed=seed, out=options.out / method / str(seed), name=method)
    result = train(own, lambda progress: tell(method, seed, progress))
    predictor = Predictor(load_model(result.weights), options.device)
    _, held_out = read_split(options.data, predictor.card.tissues, options.held_out, seed)
    scores = list(judge(predictor, (load(patch) for patch in held_out if patch.mask)))
    return {summary.tissue: summary for summary in summarise(scores) if summary.stain == "all"}


def _over_seeds(judged: Sequence[dict[str, Summary]], figure: str) -> dict[str, tuple[float, float]]:
    values: dict[str, list[float]] = {}
    for summaries in judged:
        for tissue, summary in summaries.items():
            values.setdefault(tissue, []).append(summary.figures[figure][0])
    return {tissue: (float(np.mean(own)), float(np.std(own))) for tissue, own in values.items()}


def macs_a_pixel(network: Network) -> float:
    """Multiplications to find all tissues in a tile, a pixel of it."""
    side = network.card.tile_px
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.decode(network.encode(torch.zeros(1, 3, side, side)), network.card.tissues)
    return counter.get_total_flops() / 2 / side**2


def seconds_a_mpx(network: Network, device: str) -> float:
    """To find all tissues; the median of several tiles."""
    predictor, side = Predictor(network, device), network.card.tile_px
    pixels = np.random.default_rng(0).integers(0, 255, (8, side, side, 3), np.uint8)
    seconds = []
    for _ in range(_TIMED_RUNS + 1):
        since = time.perf_counter()
        predictor.decode(predictor.encode(pixels), network.card.tissues)
        seconds.append(time.perf_counter() - since)
    return float(np.median(seconds[1:])) / (len(pixels) * side**2 / 1e6)  # the first one warms up


def markdown(rows: Sequence[Row]) -> str:
    """A table: Dice (mean over seeds, ± deviation if there are several), then what it costs; a second one with HD95."""
    tissues = list(dict.fromkeys(tissue for row in rows for tissue in row.dice))
    heads = ["method", *tissues, "mean", "parameters", "kMAC a pixel", "s a Mpx"]
    lines = [table_row(heads), table_row(["---"] * len(heads))]
    for row in rows:
        dice = [_said(row.dice.get(tissue), 3, row.seeds) for tissue in tissues]
        costs = [f"{row.parameters / 1e6:.1f} M", f"{row.macs_a_pixel / 1e3:.0f}", f"{row.seconds_a_mpx:.2f}"]
        lines.append(table_row([row.method, *dice, f"{row.mean_dice:.3f}", *costs]))
    lines += ["", "HD95 in micrometres, of patches where something was found:", ""]
    lines += [table_row(["method", *tissues]), table_row(["---"] * (1 + len(tissues)))]
    lines += [
        table_row([row.method, *(_said(row.hd95_um.get(tissue), 1, row.seeds) for tissue in tissues)]) for row in rows
    ]
    return "\n".join(lines) + "\n"


def write_comparison(folder: Path, rows: Sequence[Row]) -> tuple[Path, Path]:
    """`comparison.md` and `comparison.json`."""
    paths = folder / "comparison.md", folder / "comparison.json"
    paths[0].write_text(markdown(rows), encoding="utf-8")
    content = [
        {
            "method": row.method,
            "seeds": row.seeds,
            "dice": row.dice,
            "hd95_um": {t: [None if math.isnan(v) else v for v in pair] for t, pair in row.hd95_um.items()},
            "parameters": row.parameters,
            "macs_a_pixel": row.macs_a_pixel,
            "seconds_a_mpx": row.seconds_a_mpx,
        }
        for row in rows
    ]
    paths[1].write_text(json.dumps(content, indent=2) + "\n")
    return paths


def _said(pair: tuple[float, float] | None, digits: int, seeds: int) -> str:
    if pair is None or math.isnan(pair[0]):
        return "-"
    return f"{pair[0]:.{digits}f}" + (f" ± {pair[1]:.{digits}f}" if seeds > 1 else "")
