"""TrainOptions: what a training can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omniwsi.errors import UsageError
from omniwsi.model.card import FORMS, Form, HeadShape
from omniwsi.model.trunk import STRIDE_PX
from omniwsi.tissues import Tissue
from omniwsi.train.recipes import BEST, Recipe

METHODS: dict[str, Form] = {
    "dynamic": "concat",
    "dynamic-scale": "trilinear",
    **{form: form for form in FORMS if form not in ("concat", "trilinear")},
}
"""What can be trained, by the names of the papers' comparisons."""
FINISH_FROM = 0.8
"""Share of the steps after which squares of `finish_px` teach."""
GENTLE_UNTIL, STRONG_FROM = 0.2, 0.6
"""Shares of the steps between which lessons grow from gentle to as the recipe has them."""


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
    head: HeadShape | None = None
    """None: as `init` has it, or as published."""
    mpps: str = ""
    """Tissues to be learnt at another pixel size than `init` or the published networks have, as in "ptc=0.5"."""
    emphasis: str = ""
    """Tissues to be taught more often than the others, as in "vessel=3": those of which most labels say "not here" need it."""
    crop_px: int = 256
    """Side of the square the network is taught on."""
    finish_px: int | None = None
    """Side of the squares in the last fifth of the steps; None: as before. Small squares are quick to learn from, but tissues
    are told apart by what is around, and GroupNorm and the pooled code see a tile as a whole."""
    tile_px: int | None = None
    """Side of the tiles it will be given, as the card says; None: that of the last squares."""
    held_out: float = 0.25
    """Share of the patches kept for judging, by source."""
    fold: tuple[int, int] | None = None
    """Hold out fold i of n instead of a share."""
    drawn_share: float = 0.0
    """Share of each batch that comes from drawn sections instead of `data`."""
    drawn_sections: int = 8
    """How many sections are drawn a stain."""
    accumulate: int = 1
    """A batch is learnt in so many parts: the same lesson in less memory."""
    add_tissue: Tissue | None = None
    """One that the weights of `init` do not know; only what the controller says of it is learnt, the rest stays bit for bit."""
    tune_all: bool = False
    """With `add_tissue`: let the whole network learn."""
    seed: int = 0
    device: str = "cpu"
    command: str = ""
    """How it was called, for the model card."""
    judge_every: int = 500
    log_every: int = 20
    tensorboard: bool = False
    """Write `tensorboard/` too."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.recipe.batch_size < 1:
            raise UsageError("--steps and --batch-size are at least 1")
        if self.head and self.head.condition != "both" and self.form != "concat":
            raise UsageError("--condition is for --method dynamic; no other can leave away a code")
        if self.add_tissue and not self.init:
            raise UsageError("--add-tissue needs the weights it is added to, as in --init renal6")
        if self.add_tissue and self.drawn_share:
            raise UsageError("--drawn knows the six of the kidney only; leave it away with --add-tissue")
        if self.emphasis and not self.recipe.balanced:
            raise UsageError("--emphasis is for --sampling balanced; natural draws patches, whatever their tissue")
        if not 1 <= self.accumulate <= self.recipe.batch_size:
            raise UsageError(
                f"--accumulate is from 1 to the batch size, {self.recipe.batch_size}, not {self.accumulate}"
            )
        if not self.recipe.learning_rate > 0:
            raise UsageError(f"--learning-rate is more than 0, not {self.recipe.learning_rate:g}")
        for flag, side_px in (("--crop", self.crop_px), ("--finish", self.finish_px), ("--tile", self.tile_px)):
            if side_px is not None and (side_px < STRIDE_PX or side_px % STRIDE_PX):
                raise UsageError(f"{flag} is a multiple of {STRIDE_PX} pixels, as 256 is, not {side_px}")
        if not 0 <= self.held_out < 1:
            raise UsageError(f"--held-out is a share from 0 up to 1, as in 0.25, not {self.held_out:g}")
        if not 0 <= self.drawn_share <= 1:
            raise UsageError(f"--drawn is a share from 0 to 1, not {self.drawn_share:g}")

    @property
    def alone(self) -> bool:
        """An added tissue learns and nothing else does."""
        return self.add_tissue is not None and not self.tune_all

    @property
    def highest_rate(self) -> float:
        """Of concat an added tissue's own numbers are the head's weights; of trilinear the pooled code sums hundreds of them."""
        return self.recipe.alone_rate if self.alone and self.form == "concat" else self.recipe.learning_rate

    def strength(self, step: int) -> float:
        """From 0 to 1: how often a lesson is varied as strongly as the recipe says, and taught what other labels imply.

        A network that starts from nothing finds nothing of rare tissues for long where most lessons say "not here", and colours
        and sizes vary by more than what tells tissues apart.
        """
        if self.init is not None:
            return 1.0
        return min(max((step / self.steps - GENTLE_UNTIL) / (STRONG_FROM - GENTLE_UNTIL), 0.0), 1.0)

    def on_tissue(self, step: int) -> float:
        """Share of the squares with labelled tissue in their middle: as the recipe has it at first, none at the end.

        It is what lets rare tissues begin; a network that saw little else finds them all over a slide, most of which is something else.
        """
        return self.recipe.on_tissue * (1 - step / self.steps)

    def side_px(self, step: int) -> int:
        """Of the squares of this step."""
        return self.finish_px if self.finish_px and step >= FINISH_FROM * self.steps else self.crop_px
