"""Cross-validation by source: as many trainings as folds, every patch judged once by a network that never saw its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from omniwsi.errors import UsageError
from omniwsi.model.checkpoint import load_model
from omniwsi.model.predictor import Predictor
from omniwsi.train.beginning import tissues_of
from omniwsi.train.data import load
from omniwsi.train.evaluate import Score, Summary, judge, summarise
from omniwsi.train.log import Progress
from omniwsi.train.loop import split, train
from omniwsi.train.options import TrainOptions
from omniwsi.train.report import write_report


@dataclass(frozen=True, slots=True)
class CrossValidation:
    scores: tuple[Score, ...]
    summaries: tuple[Summary, ...]
    written: tuple[Path, ...]


def cross_validate(
    options: TrainOptions, folds: int, tell: Callable[[int, Progress], None] = lambda fold, progress: None
) -> CrossValidation:
    """Trains under `options.out`/fold-I, going on with what is there, and writes the figures over all patches beside them."""
    if folds < 2:
        raise UsageError(f"--folds is 2 or more, not {folds}")
    tissues = tissues_of(options)
    scores: list[Score] = []
    for fold in range(folds):
        own = replace(options, fold=(fold, folds), out=options.out / f"fold-{fold}")
        result = train(own, lambda progress, fold=fold: tell(fold, progress))  # type: ignore[misc]  # bound now
        predictor = Predictor(load_model(result.weights), options.device)
        scores += judge(predictor, (load(patch) for patch in split(own, tissues)[1] if patch.mask))
    summaries = summarise(scores)
    about = {
        "data": ", ".join(path.name for path in options.data),
        "folds": folds,
        "seed": options.seed,
        "steps": options.steps,
        "command": options.command,
    }
    written = write_report(options.out, about, scores, summaries)
    return CrossValidation(tuple(scores), tuple(summaries), written)
