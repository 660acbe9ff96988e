"""The training loop: follows the loss, keeps what it has, and goes on where it was.

`out/` gets `last.pt` (everything needed to go on, every few minutes) and `log.csv` (a line every `log_every` steps); and each time the held-out
patches are judged `weights.safetensors`, `best.safetensors` if they are the best so far, `judged.jpg` with what was found on
some of those patches, and `lessons.json` with how often what was taught.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from omniwsi.errors import DataError, UsageError
from omniwsi.model.checkpoint import save_model
from omniwsi.model.forms import build
from omniwsi.model.network import Network
from omniwsi.model.omniseg import OmniSeg
from omniwsi.model.predictor import Precision, Predictor, best_precision, keep_freed_memory
from omniwsi.tissues import Tissue
from omniwsi.train.beginning import columns_of, new_model, tissues_of
from omniwsi.train.data import Patch, Sample, load, read_fold, read_split
from omniwsi.train.evaluate import find, means, score
from omniwsi.train.lessons import Batch, Lessons
from omniwsi.train.log import Log, Progress, require_tensorboard
from omniwsi.train.losses import LOSSES
from omniwsi.train.optimisers import optimisers
from omniwsi.train.options import TrainOptions
from omniwsi.train.ranks import Ranks
from omniwsi.train.sheet import Cell, sheet
from omniwsi.train.unbroken import unbroken

logger = logging.getLogger(__name__)

JUDGED = "judged.jpg"
_SAVED_EVERY_S = 300
"""What is killed outright loses no more."""
SHOWN_A_TISSUE = 6
"""Held-out patches on it."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    weights: Path
    dice: dict[str, float]


def train(options: TrainOptions, tell: Callable[[Progress], None] = lambda progress: None) -> TrainResult:
    """Teach a network; called again with the same `out` it goes on where it was stopped, bit for bit on the CPU.

    Under torchrun it is one of several processes; the first writes and tells. Raises DataError for data that cannot be
    used, a loss that is no number, or an `out` begun with other options; UsageError where memory does not suffice.
    """
    if options.tensorboard:
        require_tensorboard()
    ranks = Ranks.join(options.device)
    if options.recipe.batch_size < ranks.count:
        raise UsageError(f"{ranks.count} processes share a batch; pass --batch-size {ranks.count} or more")
    options.out.mkdir(parents=True, exist_ok=True)
    tissues = tissues_of(options)
    learn, judging = split(options, tissues)
    lessons = Lessons(learn, tissues, options)
    held_out = [load(patch) for patch in judging if patch.mask] if ranks.leads else []
    state = _State(new_model(options), options, ranks)
    state.restore()
    try:
        scores = _learn(state, lessons, held_out, tissues, tell)
    except BaseException:
        state.save()
        raise
    if not scores:  # nothing was left to learn, or nothing is held out
        scores = state.judge(held_out)
        state.save()
    return TrainResult(options.out / "weights.safetensors", scores)


def split(options: TrainOptions, tissues: Sequence[Tissue]) -> tuple[list[Patch], list[Patch]]:
    """(to learn from, to judge by). Where a tissue is added and nothing else may learn, its patches alone."""
    if options.fold is None:
        sides = read_split(options.data, tissues, options.held_out, options.seed)
    else:
        sides = read_fold(options.data, tissues, *options.fold, options.seed)
    added = options.add_tissue
    if added is None or not options.alone:
        return sides
    learn, judging = ([patch for patch in side if patch.tissue.name == added.name] for side in sides)
    return learn, judging


def _learn(
    state: _State,
    lessons: Lessons,
    held_out: Sequence[Sample],
    tissues: Sequence[Tissue],
    tell: Callable[[Progress], None],
) -> dict[str, float]:
    """To the last step; the leader keeps a log and tells. What was judged in the end, empty if nothing was."""
    scores: dict[str, float] = {}
    if not state.ranks.leads:
        for _ in _steps(state, lessons, held_out):
            pass
        return scores
    with Log(state.options.out, tissues, state.step, state.options.tensorboard) as log:
        for progress in _steps(state, lessons, held_out):
            log.add(progress)
            if progress.dice:
                log.show(state.options.out / JUDGED, progress.step)
            tell(progress)
            scores = progress.dice
    return scores


def _steps(state: _State, lessons: Lessons, held_out: Sequence[Sample]) -> Iterator[Progress]:
    """Step after step, telling of some; whenever it judges, state and weights are on disk."""
    options, ranks = state.options, state.ranks
    told_at, since = state.step, time.perf_counter()
    for batch in lessons.batches(state.step, ranks.rank, ranks.count):
        loss = state.learn(batch)
        state.save_now_and_then()
        at_end = state.step == options.steps
        if state.step % options.judge_every and state.step % options.log_every and not at_end:
            continue
        scores: dict[str, float] = {}
        if state.step % options.judge_every == 0 or at_end:
            scores = state.judge(held_out)
            state.save()
        yield Progress(state.step, options.steps, loss, (time.perf_counter() - since) / (state.step - told_at), scores)
        told_at, since = state.step, time.perf_counter()


class _State:
    """Everything that changes while training."""

    def __init__(self, model: Network, options: TrainOptions, ranks: Ranks) -> None:
        self.options, self.ranks = options, ranks
        self.device = ranks.device(options.device)
        self.precision = best_precision(torch.device(self.device).type)
        self.model = _placed(model, self.device, self.precision)
        keep_freed_memory()
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.columns_KI = self._freeze_the_known()
        self.optimisers = optimisers(self.model, options.recipe, self.precision)
        self.step = 0
        self.best = -1.0
        self.taught: Counter[str] = Counter()
        self._changing = False
        self._saved_at = time.monotonic()

    def _freeze_the_known(self) -> Tensor | None:
        """Where a tissue is added: which of the controller's weights may learn, and nothing else."""
        if not self.options.alone:
            return None
        model = cast(OmniSeg, self.model)  # nothing else can be added to
        model.requires_grad_(False)
        model.controller.weight.requires_grad_(True)
        return columns_of(model, len(model.card.tissues) - 1)

    def learn(self, batch: Batch) -> float:
        """One step; the loss of the whole batch, all processes together."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = _learning_rate(self.step, self.options)
            optimiser.zero_grad(set_to_none=True)
        loss = self._gradients(batch)
        self.ranks.sum_gradients(self.model)
        if not math.isfinite(loss):
            names = ", ".join(lesson.name for lesson in batch.lessons)
            raise DataError(f"the loss became {loss} at step {self.step}, taught by {names}; look at these patches")
        if self.columns_KI is not None:
            cast(OmniSeg, self.model).controller.weight.grad.mul_(self.columns_KI)  # type: ignore[union-attr]  # just made
        nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        with unbroken():
            self._change(batch)
        return loss

    def _change(self, batch: Batch) -> None:
        self._changing = True
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        self._follow()
        self.taught.update(f"{lesson.sample.tissue.name}/{lesson.sample.stain}" for lesson in batch.lessons)
        self._changing = False

    def _gradients(self, batch: Batch) -> float:
        """Part by part, each weighed by how many of its labels say anything: the same as of the batch as a whole."""
        informed = max(1.0, self.ranks.sum(batch.informed, self.device))
        loss = 0.0
        for part in batch.parts(self.options.accumulate):
            try:
                share = self._loss(part) * (part.informed / informed)
                share.backward()
            except RuntimeError as error:
                raise _cure(error, part, self.options) from None
            loss += share.item()
        return self.ranks.sum(loss, self.device)

    def _loss(self, batch: Batch) -> Tensor:
        logits_P2HW = _forward(self.model, batch, self.device, self.precision)
        loss = LOSSES[self.options.recipe.loss]
        return loss(logits_P2HW, batch.mask_PHW.to(self.device), batch.known_PHW.to(self.device))

    def _follow(self) -> None:
        decay = min(self.options.recipe.average, self.step / (self.step + 10))
        now = self.model.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [now[name] for name in self.average], 1 - decay)

    def averaged(self, scores: dict[str, float] | None = None) -> Network:
        """The averaged network, with what was judged of it on its card."""
        card = self.model.card.with_figures({"step": self.step, "held_out_dice": scores or {}})
        model = build(card)
        model.load_state_dict(self.average)
        return model

    def judge(self, held_out: Sequence[Sample]) -> dict[str, float]:
        """Mean foreground Dice by tissue of the averaged network; its weights, and a picture of what it finds."""
        if not self.ranks.leads:
            return {}
        predictor = Predictor(self.averaged(), self.device, self.precision)
        judged, cells = [], []
        shown: Counter[str] = Counter()
        for sample in held_out:
            found_HW = find(predictor, sample)
            one = score(found_HW, sample)
            judged.append(one)
            if shown[one.tissue] < SHOWN_A_TISSUE:
                shown[one.tissue] += 1
                caption = f"{one.tissue} {one.stain} {Path(sample.image).stem}  Dice {one.dice:.2f}"
                cells.append(Cell(sample, caption, found_HW))
        scores = means(judged)
        self._keep(scores)
        if cells:
            sheet(cells).save(self.options.out / JUDGED, quality=90)
        return scores

    def _keep(self, scores: dict[str, float]) -> None:
        """The weights, and whether they are the best so far by the mean over tissues."""
        out = self.options.out
        save_model(self.averaged(scores), out / "weights.safetensors")
        (out / "lessons.json").write_text(json.dumps(dict(sorted(self.taught.items())), indent=2) + "\n")
        mean = sum(scores.values()) / len(scores) if scores else -1.0
        if mean > self.best:
            self.best = mean
            shutil.copyfile(out / "weights.safetensors", out / "best.safetensors")

    def save_now_and_then(self) -> None:
        if time.monotonic() - self._saved_at >= _SAVED_EVERY_S:
            self.save()

    def save(self) -> None:
        """The state to go on from: that after the last whole step. Half a step is not saved over it."""
        if self._changing or not self.ranks.leads:
            return
        content = {
            "options": _resume_key(self.options),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "best": self.best,
            "taught": dict(self.taught),
        }
        partial = self.options.out / "last.pt.partial"
        torch.save(content, partial)
        partial.replace(self.options.out / "last.pt")
        self._saved_at = time.monotonic()

    def restore(self) -> None:
        path = self.options.out / "last.pt"
        if not path.exists():
            return
        content = torch.load(path, map_location=self.device, weights_only=True)
        if content["options"] != _resume_key(self.options):
            raise DataError(f"{self.options.out} was begun with other options; pass the same ones, or another -o")
        self.model.load_state_dict(content["model"])
        self.average = content["average"]
        for optimiser, kept in zip(self.optimisers, content["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step, self.best = content["step"], content["best"]
        self.taught = Counter(content["taught"])
        logger.info("going on at step %d", self.step)


def _cure(error: RuntimeError, part: Batch, options: TrainOptions) -> Exception:
    """What to do where memory did not suffice; any other error as it is."""
    if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
        return error
    at_a_time = len(part.lessons)
    side_px = len(part.lessons[0].crop.mask_SS)
    flag = "--crop" if side_px == options.crop_px else "--finish"
    cure = f"--accumulate {2 * options.accumulate}" if at_a_time > 1 else f"a smaller {flag}"
    return UsageError(f"out of memory with {at_a_time} patches of {side_px} px at a time; pass {cure}")


def _resume_key(options: TrainOptions) -> str:
    """What may not change between a stop and going on: everything that shapes the lessons but their number."""
    same = asdict(options)
    for free in ("out", "steps", "device", "command", "judge_every", "log_every", "accumulate", "tensorboard"):
        del same[free]
    recipe = options.recipe
    same["recipe"] = (
        recipe.name,
        recipe.optimiser,
        recipe.batch_size,
        options.highest_rate,
        recipe.augmentation.name,
        recipe.balanced,
    )
    return json.dumps(same, default=str, sort_keys=True)


def _placed(model: Network, device: str, precision: Precision) -> Network:
    """On the CPU, float32 learns half as fast again with channels first; bfloat16 needs them last."""
    if torch.device(device).type == "cpu" and precision == "float32":
        return model
    return model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types


def _learning_rate(step: int, options: TrainOptions) -> float:
    recipe, done = options.recipe, step / options.steps
    warm = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    shape = (1 - done) ** 0.9 if recipe.schedule == "polynomial" else (1 + math.cos(math.pi * done)) / 2
    return options.highest_rate * warm * shape


def _forward(model: Network, batch: Batch, device: str, precision: Precision) -> Tensor:
    """logits_P2HW in float32. In bfloat16 the trunk's weights are rounded for the pass, their masters stay float32."""
    image_P = batch.image_P
    asked = batch.tissue_P.to(device), batch.scale_P.to(device), None if image_P is None else image_P.to(device)
    if precision == "float32":
        logits_P2HW: Tensor = model(batch.pixels_BCHW.to(device), *asked)
        return logits_P2HW
    rounded = {
        name: value if name.startswith("controller.") else value.bfloat16() for name, value in model.named_parameters()
    }
    x_BCHW = batch.pixels_BCHW.to(device, torch.bfloat16).contiguous(memory_format=torch.channels_last)
    return functional_call(model, rounded, (x_BCHW, *asked)).float()
