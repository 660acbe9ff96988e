"""ModelCard: what a weights file says of itself. It travels inside the file, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from omniwsi.errors import WeightsError
from omniwsi.tissues import Tissue

Form = Literal[
    "concat",
    "trilinear",
    "multi-nets",
    "multi-head",
    "tal",
    "cond-none",
    "cond-input",
    "cond-dec",
    "masked-sigmoid",
]
"""The dynamic head in its two published forms, and what it is compared with (model/rivals.py)."""
FORMS: tuple[Form, ...] = get_args(Form)

NORMALISATION = "rgb/255"
"""RGB in [0, 1], no mean, no deviation: the only one there is so far."""


Condition = Literal["both", "task", "image"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)


@dataclass(frozen=True, slots=True)
class HeadShape:
    """How large a head is and what it depends on; published is as it stands here (DoDNet varies it in section 4.2)."""

    depth: int = 3
    """Layers."""
    width: int = 8
    """Channels between them."""
    condition: Condition = "both"
    """What the controller is told: the task code, the pooled code of the image, or both."""

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 8 or not 1 <= self.width <= 256:
            raise ValueError(f"a head has 1 to 8 layers of 1 to 256 channels, not {self.depth} of {self.width}")
        if self.condition not in CONDITIONS:
            raise ValueError(f"a head is conditioned on {', '.join(CONDITIONS)}, not {self.condition!r}")


@dataclass(frozen=True, slots=True)
class ModelCard:
    name: str
    form: Form
    """Which network it is."""
    tissues: tuple[Tissue, ...]
    """Tissue i has index i: its place in the task code."""
    tile_px: int
    """GroupNorm and the pooled code see a whole tile: another size is another function."""
    head: HeadShape = HeadShape()
    normalisation: str = NORMALISATION
    training: Mapping[str, Any] = field(default_factory=dict)
    """Data with licences, command, seed, steps: how to make it again."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """What was measured, on what."""
    limits: str = ""
    """What it must not be used for."""

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise WeightsError(f"{self.name}: unknown form {self.form!r}; this version knows {', '.join(FORMS)}")
        if [tissue.index for tissue in self.tissues] != list(range(len(self.tissues))) or not self.tissues:
            raise WeightsError(f"{self.name}: its tissues must have the indices 0, 1, 2, ... in order")
        if self.tile_px <= 0 or self.tile_px % 16:
            raise WeightsError(f"{self.name}: tile_px must be a multiple of 16, not {self.tile_px}")
        if self.head.condition != "both" and self.form != "concat":
            raise WeightsError(f"{self.name}: only concat can leave away a code, not {self.form}")
        if self.normalisation != NORMALISATION:
            raise WeightsError(f"{self.name}: unknown normalisation {self.normalisation!r}; update omniwsi")

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Raises WeightsError where the text is no card."""
        try:
            fields = json.loads(text)
            tissues = tuple(Tissue(**row) for row in fields.pop("tissues"))
            head = HeadShape(**fields.pop("head", {}))
            return cls(tissues=tissues, head=head, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(
                f"the model card cannot be read ({error}); the file was not written by omniwsi"
            ) from None

    def with_figures(self, figures: Mapping[str, Any]) -> ModelCard:
        return replace(self, figures=figures)
