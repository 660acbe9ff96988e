"""The training loop: draws batches, follows the loss, keeps what it has, and goes on where it was.

`out/` gets `last.pt` (everything needed to go on), `log.csv` (a line every `log_every` steps) and, each time the
held-out patches are judged, `weights.safetensors`.

Axes: B image, C colour, H rows, W columns.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from omniwsi.errors import DataError, UsageError
from omniwsi.model.card import Form, ModelCard
from omniwsi.model.checkpoint import find_weights, load_model, read_card, save_model, sha256_of
from omniwsi.model.head import BIAS_COUNTS, HEAD_SIZE, SHAPES, WEIGHT_COUNTS
from omniwsi.model.omniseg import OmniSeg, scale_code
from omniwsi.model.predictor import Precision, Predictor, best_precision, keep_freed_memory
from omniwsi.model.trunk import CODE_CHANNELS, STRIDE_PX
from omniwsi.synthetic import STAINS, draw_section
from omniwsi.tissues import KIDNEY, Tissue
from omniwsi.train.augment import Crop, cut, recolor
from omniwsi.train.data import Sample, implied, load, read_split
from omniwsi.train.evaluate import judge, means
from omniwsi.train.losses import LOSSES
from omniwsi.train.recipes import BEST, Recipe

logger = logging.getLogger(__name__)

LIMITS = "For research. Not for diagnosis: look at the contours before you trust a number."


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What `omniwsi train` can be told."""

    data: tuple[Path, ...]
    """Folders or manifests of patches."""
    out: Path
    recipe: Recipe = BEST
    steps: int = 4000
    form: Form = "concat"
    name: str = "mine"
    """The name on the model card."""
    init: str | None = None
    """Weights to start from: a shipped name or a file."""
    crop_px: int = 256
    """Side of the square the network is taught on; it becomes the tile size on the card."""
    held_out: float = 0.25
    """Share of the patches kept for judging, by source."""
    drawn_share: float = 0.0
    """Share of each batch that comes from drawn sections instead of `data`."""
    drawn_sections: int = 8
    """How many sections are drawn a stain."""
    seed: int = 0
    device: str = "cpu"
    command: str = ""
    """How it was called, for the model card."""
    judge_every: int = 500
    log_every: int = 20

    def __post_init__(self) -> None:
        if self.steps < 1 or self.recipe.batch_size < 1:
            raise UsageError("--steps and --batch-size are at least 1")
        if self.crop_px < STRIDE_PX or self.crop_px % STRIDE_PX:
            raise UsageError(f"--crop is a multiple of {STRIDE_PX} pixels, as 256 is, not {self.crop_px}")
        if not 0 <= self.held_out < 1:
            raise UsageError(f"--held-out is a share from 0 up to 1, as in 0.25, not {self.held_out:g}")
        if not 0 <= self.drawn_share <= 1:
            raise UsageError(f"--drawn is a share from 0 to 1, not {self.drawn_share:g}")


@dataclass(frozen=True, slots=True)
class Batch:
    pixels_BCHW: Tensor
    mask_BHW: Tensor
    known_BHW: Tensor
    tissue_B: Tensor
    scale_B: Tensor


@dataclass(frozen=True, slots=True)
class Progress:
    """Told every `log_every` steps."""

    step: int
    steps: int
    loss: float
    seconds_a_step: float
    dice: dict[str, float] = field(default_factory=dict)
    """Mean foreground Dice by tissue on the held-out patches, whenever they were judged."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    weights: Path
    dice: dict[str, float]


def train(options: TrainOptions, tell: Callable[[Progress], None] = lambda progress: None) -> TrainResult:
    """Teach a network; called again with the same `out` it goes on where it was stopped, bit for bit on the CPU.

    Raises DataError for data that cannot be used, a loss that is no number, or an `out` begun with other options.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    learn, judging = _samples(options)
    model = _new_model(options)
    state = _State(model, options)
    state.restore()
    try:
        for progress in _steps(state, learn, judging):
            _log(options.out / "log.csv", progress)
            tell(progress)
    except BaseException:
        state.save()
        raise
    scores = state.judge(judging)
    state.save()
    return TrainResult(state.save_weights(scores), scores)


def _steps(state: _State, learn: _Pool, judging: Sequence[Sample]) -> Iterator[Progress]:
    """Step after step, telling of some; whenever it judges, state and weights are on disk."""
    options = state.options
    told_at, since = state.step, time.perf_counter()
    while state.step < options.steps:
        loss = state.learn(draw_batch(learn, options, state.generator))
        at_end = state.step == options.steps
        if state.step % options.judge_every and state.step % options.log_every and not at_end:
            continue
        scores: dict[str, float] = {}
        if state.step % options.judge_every == 0 and not at_end:
            scores = state.judge(judging)
            state.save()
            state.save_weights(scores)
        yield Progress(state.step, options.steps, loss, (time.perf_counter() - since) / (state.step - told_at), scores)
        told_at, since = state.step, time.perf_counter()


# --- Data -----------------------------------------------------------------------------------------------------------


_Cells = tuple[tuple[tuple[Sample, ...], ...], ...]
"""[tissue][stain] -> samples"""


@dataclass(frozen=True, slots=True)
class _Pool:
    """Samples to draw from: real ones by tissue and stain, and drawn ones."""

    real: tuple[Sample, ...]
    cells: _Cells
    """of `real`"""
    implied: _Cells
    drawn: tuple[Sample, ...]


def _samples(options: TrainOptions) -> tuple[_Pool, list[Sample]]:
    learn, judging = read_split(options.data, KIDNEY, options.held_out, options.seed)
    if not learn and options.drawn_share < 1:
        raise DataError(
            "nothing to learn from: name a folder of patches, or pass --drawn 1 to learn from drawings alone"
        )
    real = tuple(load(patch) for patch in learn)
    drawn = tuple(drawn_samples(options.drawn_sections, options.seed)) if options.drawn_share else ()
    others = [other for sample in real for other in implied(sample, KIDNEY)] if options.recipe.implied else []
    return _Pool(real, _cells(real), _cells(others), drawn), [load(patch) for patch in judging if patch.mask]


def _cells(samples: Sequence[Sample]) -> _Cells:
    cells: dict[str, dict[str, list[Sample]]] = {}
    for sample in samples:
        cells.setdefault(sample.tissue.name, {}).setdefault(sample.stain, []).append(sample)
    return tuple(tuple(tuple(group) for group in stains.values()) for stains in cells.values())


def drawn_samples(
    sections_a_stain: int, seed: int, tissues: Sequence[Tissue] = KIDNEY, side_um: float = 512
) -> Iterator[Sample]:
    """Every tissue of drawn sections in every stain, as Samples at the tissue's own mpp."""
    for stain in STAINS:
        for i in range(sections_a_stain):
            section = draw_section(side_um, side_um, stain, seed * 1000 + i, mpp=0.25, to_the_edge=i % 3 > 0)
            for tissue in tissues:
                times = round(tissue.mpp / section.mpp)
                pixels = _mean_pool(section.pixels_HWC, times).round().astype("uint8")
                mask = _mean_pool(section.truth_THW[tissue.index, :, :, None], times)[..., 0] > 0.5
                yield Sample(pixels, mask, np.ones_like(mask), tissue, f"drawn/{stain}/{i}", stain)


def _mean_pool(values_HWC: np.ndarray, times: int) -> np.ndarray:
    height, width, channels = values_HWC.shape
    return values_HWC.reshape(height // times, times, width // times, times, channels).mean((1, 3))


def draw_batch(pool: _Pool, options: TrainOptions, generator: torch.Generator) -> Batch:
    """Random crops of random samples, varied as the recipe says."""
    recipe = options.recipe
    samples = [_draw_sample(pool, options, generator) for _ in range(recipe.batch_size)]
    crops: list[Crop] = [cut(sample, options.crop_px, recipe.augmentation, generator) for sample in samples]
    pixels_BCHW = torch.stack([crop.pixels_CSS for crop in crops])
    return Batch(
        recolor(pixels_BCHW, recipe.augmentation, generator),
        torch.stack([crop.mask_SS for crop in crops]),
        torch.stack([crop.known_SS for crop in crops]),
        torch.tensor([sample.tissue.index for sample in samples]),
        torch.tensor([scale_code(sample.tissue.mpp) for sample in samples]),
    )


def _draw_sample(pool: _Pool, options: TrainOptions, generator: torch.Generator) -> Sample:
    if pool.drawn and torch.rand((), generator=generator) < options.drawn_share:
        return _pick(pool.drawn, generator)
    if pool.implied and torch.rand((), generator=generator) < options.recipe.implied:
        return _pick(_pick(_pick(pool.implied, generator), generator), generator)
    if options.recipe.balanced:
        return _pick(_pick(_pick(pool.cells, generator), generator), generator)
    return _pick(pool.real, generator)


def _pick(items: Sequence[Any], generator: torch.Generator) -> Any:
    return items[int(torch.randint(len(items), (), generator=generator))]


# --- State ----------------------------------------------------------------------------------------------------------


def _new_model(options: TrainOptions) -> OmniSeg:
    card = ModelCard(
        options.name, options.form, KIDNEY, options.crop_px, training=_training_card(options), limits=LIMITS
    )
    torch.manual_seed(options.seed)
    model = OmniSeg(card)
    if options.init:
        initial = load_model(options.init)
        model.load_state_dict(initial.state_dict())
    elif options.recipe.fresh_heads:
        start_heads_apart(model)
    return model


def _training_card(options: TrainOptions) -> dict[str, Any]:
    recipe = asdict(options.recipe)
    del recipe["augmentation"]
    return {
        "command": options.command,
        "data": [path.name for path in options.data],
        "recipe": recipe,
        "steps": options.steps,
        "init": _origin(options.init) if options.init else None,
        "held_out": options.held_out,
        "drawn_share": options.drawn_share,
        "seed": options.seed,
    }


def _origin(weights: str) -> dict[str, Any]:
    """Of weights that were gone on from: which they are and how they came to be, back to the first."""
    path = find_weights(weights)
    return {"sha256": sha256_of(path), **read_card(path).training}


def start_heads_apart(model: OmniSeg) -> None:
    """Let the controller begin with a living head of its own for each tissue, the pooled code whispering at first.

    A controller started as PyTorch starts layers writes weights near 0.04: most hidden units of most tissues never fire
    and never learn. Here the task code's columns are the weights of ordinary 1x1 layers, hidden biases are positive, and the
    columns of the pooled code are a tenth of their usual size.
    """
    weight_KI = model.controller.weight
    heads = torch.zeros(len(model.card.tissues), HEAD_SIZE)
    start = 0
    for (_, into), count in zip(SHAPES, WEIGHT_COUNTS, strict=True):
        heads[:, start : start + count] = torch.randn(len(heads), count) * math.sqrt(2 / into)
        start += count
    heads[:, start : start + sum(BIAS_COUNTS[:-1])] = 0.2
    with torch.no_grad():
        model.controller.bias.zero_()
        weight_KI.mul_(0.1)
        if model.card.form == "concat":
            weight_KI[:, CODE_CHANNELS:] = heads.T
        else:  # the code is multiplied in: the head is written by its mean, which is near 0.4 when training starts
            per_tissue = weight_KI.view(HEAD_SIZE, CODE_CHANNELS, len(heads), -1)
            per_tissue += heads.T[:, None, :, None] / (0.4 * CODE_CHANNELS)


class _State:
    """Everything that changes while training."""

    def __init__(self, model: OmniSeg, options: TrainOptions) -> None:
        self.options = options
        self.precision = best_precision(torch.device(options.device).type)
        self.model = _placed(model, options.device, self.precision)
        keep_freed_memory()
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        self.optimiser = _optimiser(model, options.recipe)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.step = 0
        self._drawn_until = self.generator.get_state()
        self._changing = False

    def learn(self, batch: Batch) -> float:
        device = self.options.device
        for group in self.optimiser.param_groups:
            group["lr"] = _learning_rate(self.step, self.options)
        logits_B2HW = _forward(self.model, batch.pixels_BCHW, batch.tissue_B, batch.scale_B, device, self.precision)
        loss = LOSSES[self.options.recipe.loss](logits_B2HW, batch.mask_BHW.to(device), batch.known_BHW.to(device))
        if not torch.isfinite(loss):
            raise DataError(f"the loss became {loss.item()} at step {self.step}; a lower learning rate may help")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self._changing = True
        self.optimiser.step()
        self.step += 1
        self._follow()
        self._drawn_until = self.generator.get_state()
        self._changing = False
        return loss.item()

    def _follow(self) -> None:
        decay = min(self.options.recipe.average, self.step / (self.step + 10))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def predictor(self) -> Predictor:
        """The averaged network, as segmenting uses it."""
        averaged = OmniSeg(self.model.card)
        averaged.load_state_dict(self.average)
        return Predictor(averaged, self.options.device, self.precision)

    def judge(self, judging: Sequence[Sample]) -> dict[str, float]:
        """Mean foreground Dice by tissue."""
        return means(judge(self.predictor(), judging)) if judging else {}

    def save(self) -> None:
        """The state to go on from: that after the last whole step. Half a step is not saved over it."""
        if self._changing:
            return
        content = {
            "options": _resume_key(self.options),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "generator": self._drawn_until,
            "step": self.step,
        }
        partial = self.options.out / "last.pt.partial"
        torch.save(content, partial)
        partial.replace(self.options.out / "last.pt")

    def save_weights(self, scores: dict[str, float]) -> Path:
        """The averaged network with what was judged of it on its card."""
        weights = self.options.out / "weights.safetensors"
        averaged = OmniSeg(self.model.card.with_figures({"step": self.step, "held_out_dice": scores}))
        averaged.load_state_dict(self.average)
        save_model(averaged, weights)
        return weights

    def restore(self) -> None:
        path = self.options.out / "last.pt"
        if not path.exists():
            return
        content = torch.load(path, map_location=self.options.device, weights_only=True)
        if content["options"] != _resume_key(self.options):
            raise DataError(f"{self.options.out} was begun with other options; pass the same ones, or another -o")
        self.model.load_state_dict(content["model"])
        self.average = content["average"]
        self.optimiser.load_state_dict(content["optimiser"])
        self._drawn_until = content["generator"].cpu()
        self.generator.set_state(self._drawn_until)
        self.step = content["step"]
        logger.info("going on at step %d", self.step)


def _resume_key(options: TrainOptions) -> str:
    """What may not change between a stop and going on: everything that shapes the lessons but their number."""
    same = asdict(options) | {"out": "", "steps": 0, "device": "", "command": "", "judge_every": 0, "log_every": 0}
    same["recipe"] = options.recipe.name, options.recipe.batch_size
    return json.dumps(same, default=str, sort_keys=True)


def _placed(model: OmniSeg, device: str, precision: Precision) -> OmniSeg:
    """On the CPU, float32 learns half as fast again with channels first; bfloat16 needs them last."""
    if torch.device(device).type == "cpu" and precision == "float32":
        return model
    return model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            model.parameters(), recipe.learning_rate, 0.99, weight_decay=recipe.weight_decay, nesterov=True
        )
    return torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)


def _learning_rate(step: int, options: TrainOptions) -> float:
    recipe, done = options.recipe, step / options.steps
    warm = min(1.0, (step + 1) / recipe.warmup_steps) if recipe.warmup_steps else 1.0
    shape = (1 - done) ** 0.9 if recipe.schedule == "polynomial" else (1 + math.cos(math.pi * done)) / 2
    return recipe.learning_rate * warm * shape


def _forward(
    model: OmniSeg, pixels_BCHW: Tensor, tissue_B: Tensor, scale_B: Tensor, device: str, precision: Precision
) -> Tensor:
    """Logits in float32. In bfloat16 the trunk's weights are rounded for the pass, their masters stay float32."""
    tissue_B, scale_B = tissue_B.to(device), scale_B.to(device)
    if precision == "float32":
        logits_B2HW: Tensor = model(pixels_BCHW.to(device), tissue_B, scale_B)
        return logits_B2HW
    rounded = {
        name: value if name.startswith("controller.") else value.bfloat16() for name, value in model.named_parameters()
    }
    x_BCHW = pixels_BCHW.to(device, torch.bfloat16).contiguous(memory_format=torch.channels_last)
    return functional_call(model, rounded, (x_BCHW, tissue_B, scale_B)).float()


def _log(path: Path, progress: Progress) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        names = [tissue.name for tissue in KIDNEY]
        if new:
            writer.writerow(["step", "loss", "seconds_a_step", *names])
        dice = [f"{progress.dice[name]:.4f}" if name in progress.dice else "" for name in names]
        writer.writerow([progress.step, f"{progress.loss:.5f}", f"{progress.seconds_a_step:.3f}", *dice])
