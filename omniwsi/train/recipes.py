"""How a network is taught: everything about it that is not data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from omniwsi.errors import UsageError
from omniwsi.train.augment import AUGMENTATIONS, PUBLISHED, STRONG, Augmentation


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    optimiser: Literal["sgd", "muon"]
    """Muon for the wide convolutions, AdamW for the rest; or SGD for all."""
    loss: Literal["published", "balanced"]
    learning_rate: float
    alone_rate: float
    """Where all that learns is what the task code says of one added tissue: 162 numbers that have far to go."""
    schedule: Literal["polynomial", "cosine"]
    """Polynomial: (1 - t)^0.9, as published. Cosine: to zero, after a warm-up."""
    warmup_steps: int
    weight_decay: float
    batch_size: int
    augmentation: Augmentation
    balanced: bool
    """Draw tissues equally often (but for TrainOptions.emphasis), and stains within a tissue by the root of how much there is of them, those without any of it in a
    quarter of its lessons; otherwise patches equally often."""
    implied: float
    """Share of each batch drawn from what labels imply of other tissues."""
    on_tissue: float
    """Share of the squares with labelled tissue in their middle at first; ever fewer until the end. Where a tissue is rare, most others
    hold none of it, and first teach a network that it is nowhere (after Isensee et al., Nature Methods 2021: oversampled foreground)."""
    average: float
    """Decay of the moving average of weights that is kept in the end; 0 keeps the last ones."""
    fresh_heads: bool
    """Start every tissue's head apart and alive; otherwise as PyTorch starts a layer."""


MIDL2022 = Recipe(
    name="midl2022",
    optimiser="sgd",
    loss="published",
    learning_rate=1e-3,
    alone_rate=1e-3,
    schedule="polynomial",
    warmup_steps=0,
    weight_decay=5e-4,
    batch_size=4,
    augmentation=PUBLISHED,
    balanced=False,
    implied=0,
    on_tissue=0,
    average=0,
    fresh_heads=False,
)
"""As published: SGD with Nesterov momentum 0.99."""

BEST = Recipe(
    name="best",
    optimiser="muon",
    loss="balanced",
    learning_rate=1e-3,
    alone_rate=3e-2,
    schedule="cosine",
    warmup_steps=50,
    weight_decay=1e-2,
    batch_size=8,
    augmentation=STRONG,
    balanced=True,
    implied=0.2,
    on_tissue=0.6,
    average=0.998,
    fresh_heads=True,
)
"""The best one found so far (benchmarks/weights.md)."""

SAMPLINGS = ("balanced", "natural")
RECIPES = {recipe.name: recipe for recipe in (MIDL2022, BEST)}


def find_recipe(
    name: str,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    augmentation: str | None = None,
    sampling: str | None = None,
) -> Recipe:
    """By its name; what is None stays as the recipe has it. Raises UsageError."""
    if name not in RECIPES:
        raise UsageError(f"--recipe takes {' or '.join(RECIPES)}, not {name}")
    if augmentation is not None and augmentation not in AUGMENTATIONS:
        raise UsageError(f"--augmentation takes {', '.join(AUGMENTATIONS)}, not {augmentation}")
    if sampling is not None and sampling not in SAMPLINGS:
        raise UsageError(f"--sampling takes {' or '.join(SAMPLINGS)}, not {sampling}")
    recipe = RECIPES[name]
    return replace(
        recipe,
        batch_size=recipe.batch_size if batch_size is None else batch_size,
        learning_rate=recipe.learning_rate if learning_rate is None else learning_rate,
        alone_rate=recipe.alone_rate if learning_rate is None else learning_rate,
        augmentation=recipe.augmentation if augmentation is None else AUGMENTATIONS[augmentation],
        balanced=recipe.balanced if sampling is None else sampling == "balanced",
    )
