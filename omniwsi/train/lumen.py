"""Arteries and tubules of a wider lumen than those that were labelled: the wall, as thick as it was, is pushed outwards.

Patches of arteries are few, and most of those show arterioles; of an artery with a lumen of 100 um a network that has learnt from them
paints the wall and leaves out the white. So it does with dilated tubules, or calls a part of them another kind (benchmarks/weights.md).

Axes: H rows, W columns of a sample, S the side of a crop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Generator, Tensor

from omniwsi.train.data import Sample


@dataclass(frozen=True, slots=True)
class Widening:
    """How far at most."""

    stretched: float
    """How many times as long the inner rim of a wall may become: its nuclei are drawn out with it."""
    by_px: float

    def draw(self, lumen: Lumen, generator: Generator) -> float:
        """Pixels: small ones as likely as large ones, by their ratio."""
        stretched = math.exp(math.log(self.stretched) * torch.rand((), generator=generator).item())
        return min((stretched - 1) * lumen.radius_px, self.by_px)


_TUBULE = Widening(stretched=3, by_px=30)
HOLLOW = {"vessel": Widening(stretched=5, by_px=60), "distal_tubule": _TUBULE, "proximal_tubule": _TUBULE}
"""Tissues whose lumen is part of them, and may be of any width."""

_BRIGHT = 200
"""Mean of red, green and blue from which on a pixel within tissue is lumen."""
_LEAST_RADIUS_PX = 4


@dataclass(frozen=True, slots=True)
class Lumen:
    """A disc in a lumen, in pixels of its sample."""

    x: float
    y: float
    radius_px: float

    def widened(self, grid_SS2: Tensor, by_px: float) -> Tensor:
        """Where in the sample to look (x, y), so that the disc appears `by_px` larger, and all around it farther from its centre by as much."""
        centre_2 = torch.tensor([self.x, self.y])
        away_SS2 = grid_SS2 - centre_2
        distance_SS1 = away_SS2.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        radius_px = self.radius_px + by_px
        inside = self.radius_px / radius_px
        return centre_2 + away_SS2 * torch.where(distance_SS1 < radius_px, inside, 1 - by_px / distance_SS1)


def find_lumen(sample: Sample, generator: Generator) -> Lumen | None:
    """The widest place of a lumen in the labelled tissue, of several a wide one more likely; None where all are narrow."""
    tissue_HW = sample.mask_HW & sample.known_HW
    rows, columns = (np.flatnonzero(tissue_HW.any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    lumen_HW = tissue_HW[window] & (sample.pixels_HWC[window].mean(-1) >= _BRIGHT)
    wide = list(_wide_discs(lumen_HW, int(columns[0]), int(rows[0])))
    if not wide:
        return None
    areas = torch.tensor([disc.radius_px**2 for disc in wide])
    return wide[int(torch.multinomial(areas, 1, generator=generator))]


def _wide_discs(lumen_HW: np.ndarray, x0: int, y0: int) -> Iterator[Lumen]:
    """The largest disc in each lumen, but for narrow ones. (x0, y0) is where the array lies."""
    labels_HW, _ = ndimage.label(lumen_HW)
    areas_px = np.bincount(labels_HW.ravel())
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels_HW), 1):
        if areas_px[label] < math.pi * (_LEAST_RADIUS_PX - 1) ** 2:
            continue  # most are specks
        depth_HW = ndimage.distance_transform_edt(np.pad(labels_HW[rows, columns] == label, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth_HW.argmax(), depth_HW.shape)
        if depth_HW[y, x] >= _LEAST_RADIUS_PX:
            radius_px = float(depth_HW[y, x]) - 0.5  # from a pixel's middle to the rim, not to the next one's middle
            yield Lumen(float(x0 + columns.start + x), float(y0 + rows.start + y), radius_px)
