"""What may happen to a patch between the microscope and the network, drawn at random.

Shape first, colour after: `cut` turns a sample of any size into one square crop, warped in a single interpolation, and
says which of its pixels are known; the rest work on whole batches, on whatever device they lie.

Axes: B image, C colour, P label of an image, Q their planes, H rows, W columns, S the crop's side. Pixels are float32 in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from omniwsi.train.data import Sample
from omniwsi.train.lumen import HOLLOW, Lumen, find_lumen

ColorStep = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How strongly patches are varied."""

    name: str
    max_turn_deg: float
    scales: tuple[float, float]
    bend_px: float
    """Deviation of the elastic displacement."""
    glass: float
    """Probability that part of the crop becomes glass, where there is nothing of any tissue."""
    wider_lumen: float
    """Probability that the lumen of an artery or a tubule is widened, where one is."""
    colors: tuple[tuple[float, ColorStep], ...]
    """(probability, step), applied in this order to each image independently."""
    gentler: Augmentation | None = None
    """What a network that starts from nothing sees first; None: the same."""


@dataclass(frozen=True, slots=True)
class Crop:
    pixels_CSS: Tensor
    mask_SS: Tensor
    known_SS: Tensor
    beside: tuple[tuple[Tensor, Tensor], ...] = ()
    """(mask_SS, known_SS) of each further label of the picture."""

    @property
    def labels(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """(mask_SS, known_SS) of its own, then of those beside."""
        return (self.mask_SS, self.known_SS), *self.beside


def cut(
    sample: Sample,
    side_px: int,
    how: Augmentation | None,
    generator: Generator,
    on_tissue: float = 0,
    beside: Sequence[Sample] = (),
) -> Crop:
    """A crop of `sample` at a random place, turned, flipped, scaled and bent; the centre, as it is, if `how` is None.

    With probability `on_tissue` labelled tissue lies in its middle, or as near as the sample's border allows, where there
    is any. Beyond the sample its mirror image is shown and nothing is known. `beside` are other labels of the same pixels.
    """
    height, width = sample.mask_HW.shape
    lumen = _lumen_to_widen(sample, how, generator)
    middle = _tissue_pixel(sample, generator) if on_tissue and _uniform(generator) < on_tissue else None
    grid_SS2 = _sampling_grid(width, height, side_px, how, generator, (lumen.x, lumen.y) if lumen else middle)
    if lumen:
        grid_SS2 = lumen.widened(grid_SS2, HOLLOW[sample.tissue.name].draw(lumen, generator))
    inside_SS = ((grid_SS2 >= -0.5) & (grid_SS2 <= torch.tensor([width - 0.5, height - 0.5]))).all(-1)
    window, unit_1SS2 = _window(grid_SS2, width, height)
    pixels_CHW = torch.from_numpy(sample.pixels_HWC[window].copy()).permute(2, 0, 1).float() / 255
    pixels = functional.grid_sample(
        pixels_CHW[None], unit_1SS2, "bilinear", padding_mode="reflection", align_corners=False
    )
    both_P2HW = np.stack([(label.mask_HW[window], label.known_HW[window]) for label in (sample, *beside)])
    planes_1QHW = torch.from_numpy(both_P2HW).float().flatten(0, 1)[None]
    planes_1QSS = functional.grid_sample(planes_1QHW, unit_1SS2, "nearest", "border", align_corners=False)
    own, *others = [(mask_SS, known_SS * inside_SS) for mask_SS, known_SS in planes_1QSS[0].unflatten(0, (-1, 2))]
    crop = Crop(pixels[0], *own, tuple(others))
    return _with_glass(crop, generator) if how is not None and _uniform(generator) < how.glass else crop


def _window(grid_SS2: Tensor, width: int, height: int) -> tuple[tuple[slice, slice], Tensor]:
    """(rows and columns of the sample that are seen, the grid in units of them as torch samples by): most of a large one is not."""
    columns, rows = (_reached(grid_SS2[..., axis], size_px) for axis, size_px in enumerate((width, height)))
    begin_2, size_2 = torch.tensor([[columns.start, rows.start], [len(columns), len(rows)]])
    unit_SS2 = (2 * (grid_SS2 - begin_2) + 1) / size_2 - 1
    return (slice(rows.start, rows.stop), slice(columns.start, columns.stop)), unit_SS2[None]


def _reached(places_SS: Tensor, size_px: int) -> range:
    """The pixels of an axis that are seen, be it in the mirror: where the grid leaves the sample, the range ends at its border."""
    begin, end = math.floor(places_SS.min()) - 1, math.ceil(places_SS.max()) + 2
    begin, end = min(begin, 2 * size_px - end), max(end, -begin)
    return range(max(0, begin), min(size_px, end))


def _with_glass(crop: Crop, generator: Generator) -> Crop:
    """The tissue ends at a ragged line; beyond it is glass, known to be nothing."""
    side_px = len(crop.mask_SS)
    angle, at = _uniform(generator, 0, 2 * math.pi), _uniform(generator, -0.2, 0.6) * side_px
    steps = torch.arange(side_px) - (side_px - 1) / 2
    depth_SS = steps[:, None] * math.sin(angle) + steps * math.cos(angle) + 15 * _smooth_field(side_px, generator)[0]
    is_glass_SS = depth_SS > at
    color_C = 0.88 + 0.11 * _uniform(generator) + 0.02 * (torch.rand(3, generator=generator) - 0.5)
    glass = color_C[:, None, None] + 0.008 * torch.randn(crop.pixels_CSS.shape, generator=generator)
    own, *others = [
        (torch.where(is_glass_SS, 0.0, mask_SS), torch.where(is_glass_SS, 1.0, known_SS))
        for mask_SS, known_SS in crop.labels
    ]
    return Crop(torch.where(is_glass_SS, glass.clamp(0, 1), crop.pixels_CSS), *own, tuple(others))


def _lumen_to_widen(sample: Sample, how: Augmentation | None, generator: Generator) -> Lumen | None:
    if how is None or not how.wider_lumen or sample.tissue.name not in HOLLOW:
        return None  # nor is a number drawn: other lessons stay as they are
    if _uniform(generator) >= how.wider_lumen:
        return None
    return find_lumen(sample, generator)


def _tissue_pixel(sample: Sample, generator: Generator) -> tuple[int, int] | None:
    """(x, y) of one that is known, each as likely; None where there is none."""
    places = np.flatnonzero(sample.mask_HW & sample.known_HW)
    if not len(places):
        return None
    y, x = divmod(int(places[int(torch.randint(len(places), (), generator=generator))]), sample.mask_HW.shape[1])
    return x, y


def _sampling_grid(
    width: int,
    height: int,
    side_px: int,
    how: Augmentation | None,
    generator: Generator,
    middle: tuple[float, float] | None = None,
) -> Tensor:
    """For every pixel of the crop the place (x, y) in the sample, in its pixels (centres at whole numbers)."""
    steps = torch.arange(side_px) - (side_px - 1) / 2
    y_SS, x_SS = torch.meshgrid(steps, steps, indexing="ij")
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    if how is not None:
        turn = math.radians(how.max_turn_deg) * _uniform(generator, -1, 1)
        scale = math.exp(_uniform(generator, *(math.log(s) for s in how.scales)))
        flip_x, flip_y = (1 if _uniform(generator) < 0.5 else -1 for _ in range(2))
        if how.bend_px:
            bend = _smooth_field(side_px, generator) * how.bend_px * _uniform(generator)
            x_SS, y_SS = x_SS + bend[0], y_SS + bend[1]
        x_SS, y_SS = x_SS * flip_x / scale, y_SS * flip_y / scale
        x_SS, y_SS = (
            x_SS * math.cos(turn) - y_SS * math.sin(turn),
            x_SS * math.sin(turn) + y_SS * math.cos(turn),
        )
        # In a sample larger than the crop it may lie anywhere; a smaller one is seen whole, not quite in the middle.
        room_x, room_y = (max(n - side_px / scale, side_px / 8) / 2 for n in (width, height))
        if middle is None:
            centre_x += room_x * _uniform(generator, -1, 1)
            centre_y += room_y * _uniform(generator, -1, 1)
        else:
            centre_x = min(max(middle[0], centre_x - room_x), centre_x + room_x)
            centre_y = min(max(middle[1], centre_y - room_y), centre_y + room_y)
    return torch.stack([x_SS + centre_x, y_SS + centre_y], -1)


def _smooth_field(side_px: int, generator: Generator) -> Tensor:
    """Two displacement fields [2, S, S] of deviation about 1 that change over some 60 px."""
    coarse = torch.randn(1, 2, max(4, side_px // 60 + 3), max(4, side_px // 60 + 3), generator=generator)
    return functional.interpolate(coarse, (side_px, side_px), mode="bicubic", align_corners=True)[0]


def recolor(pixels_BCHW: Tensor, how: Augmentation, generator: Generator) -> Tensor:
    """Each colour step of `how` on a random part of the batch; the result stays in [0, 1]."""
    for probability, step in how.colors:
        chosen_B = torch.rand(len(pixels_BCHW), generator=generator) < probability
        if chosen_B.any():
            pixels_BCHW = pixels_BCHW.clone()
            pixels_BCHW[chosen_B] = step(pixels_BCHW[chosen_B], generator).clamp(0, 1)
    return pixels_BCHW


# Ruifrok and Johnston (2001): optical densities of haematoxylin, eosin and diaminobenzidine in red, green and blue.
_HED = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def stain_shift(pixels_BCHW: Tensor, generator: Generator) -> Tensor:
    """Stronger, weaker or shifted stains: each HED channel scaled by up to 25 % and moved by up to 0.05."""
    hed = (_HED / _HED.norm(dim=1, keepdim=True)).to(pixels_BCHW)
    density = -pixels_BCHW.clamp(min=1 / 255).log()
    stains = torch.einsum("bchw,cs->bshw", density, torch.linalg.inv(hed))
    gain, shift = (
        _per_image(len(pixels_BCHW), 3, low, high, generator).to(pixels_BCHW)
        for low, high in ((0.75, 1.25), (-0.05, 0.05))
    )
    # Glass has no stain: what is shifted is scaled by how dense the pixel is.
    weight = (density.mean(1, keepdim=True) / 0.2).clamp(max=1)
    return torch.exp(-torch.einsum("bshw,sc->bchw", stains * gain + shift * weight, hed))


def hue_turn(pixels_BCHW: Tensor, generator: Generator) -> Tensor:
    """Turns all colours about the grey axis by up to 0.35 rad in optical density: another stain, same structure."""
    angle = _per_image(len(pixels_BCHW), 1, -0.35, 0.35, generator)[:, 0, 0, 0].to(pixels_BCHW)
    axis = torch.full((3,), 1 / math.sqrt(3)).to(pixels_BCHW)
    cross = torch.linalg.cross(torch.eye(3).to(pixels_BCHW), axis.expand(3, 3))
    turn_B33 = (
        torch.eye(3).to(pixels_BCHW) * angle.cos()[:, None, None]
        + cross * angle.sin()[:, None, None]
        + torch.outer(axis, axis) * (1 - angle.cos())[:, None, None]
    )
    density = -pixels_BCHW.clamp(min=1 / 255).log()
    return torch.exp(-torch.einsum("bij,bjhw->bihw", turn_B33, density))


STAIN_DENSITIES = {
    "he": ((0.37, 0.77, 0.37), ((0.065, 0.078, 0.033), (0.078, 0.146, 0.060), (0.033, 0.060, 0.030))),
    "pas": ((0.50, 0.80, 0.37), ((0.097, 0.108, 0.044), (0.108, 0.181, 0.064), (0.044, 0.064, 0.026))),
    "tri": ((0.70, 1.51, 0.97), ((0.111, 0.139, 0.081), (0.139, 0.523, 0.336), (0.081, 0.336, 0.237))),
    "sil": ((0.99, 1.51, 1.00), ((0.744, 0.749, 0.626), (0.749, 0.887, 0.680), (0.626, 0.680, 0.597))),
}
"""Haematoxylin and eosin, periodic acid-Schiff, trichrome, silver: mean and covariance of the optical density in red, green and blue of tissue, mean over the patches of `kidney_ki` of a stain."""
_GLASS_DENSITY, _TISSUE_DENSITY = 0.06, 0.15
"""What is lighter is glass for sure, what is darker tissue."""


def restain(pixels_BCHW: Tensor, generator: Generator) -> Tensor:
    """Towards the colours of another stain, more or less, and lighter or darker than it."""
    names = tuple(STAIN_DENSITIES)
    stains = [names[i] for i in torch.randint(len(names), (len(pixels_BCHW),), generator=generator)]
    strength, lighter = (
        _per_image(len(pixels_BCHW), 1, low, high, generator).to(pixels_BCHW) for low, high in ((0.2, 1.0), (0.7, 1.2))
    )
    return in_colours_of(stains, pixels_BCHW, strength, lighter)


def in_colours_of(
    stains: Sequence[str], pixels_BCHW: Tensor, strength: Tensor | float = 1, lighter: Tensor | float = 1
) -> Tensor:
    """Each image in the colours of its stain: densities of tissue get the stain's mean and covariance.

    The map is the linear one between two Gaussians that moves densities least (Pitie and Kokaram, CVMP 2007), so order is kept:
    what was darker stays darker. Glass is left alone. `strength`, of 0 to 1, is how far to go; `lighter` multiplies the new densities.
    """
    density = -pixels_BCHW.clamp(min=1 / 255).log()
    tissue_B1HW = (density.mean(1, keepdim=True) - _GLASS_DENSITY).div(_TISSUE_DENSITY - _GLASS_DENSITY).clamp(0, 1)
    mean_B3, covariance_B33 = _moments(density, tissue_B1HW)
    towards_mean = torch.tensor([STAIN_DENSITIES[stain][0] for stain in stains]).to(density)
    towards_covariance = torch.tensor([STAIN_DENSITIES[stain][1] for stain in stains]).to(density)
    root = _root(covariance_B33)
    inverse = torch.linalg.inv(root)
    map_B33 = inverse @ _root(root @ towards_covariance @ root) @ inverse
    moved = torch.einsum("bij,bjhw->bihw", map_B33, density - mean_B3[..., None, None])
    moved = (moved + towards_mean[..., None, None]).clamp(min=0) * lighter
    return torch.exp(-(density + (moved - density) * strength * tissue_B1HW))


def _moments(density_BCHW: Tensor, weight_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """(mean [B, 3], covariance [B, 3, 3]), weighted; never quite flat."""
    weight = weight_B1HW.flatten(2) / weight_B1HW.flatten(2).sum(2, keepdim=True).clamp(min=1e-6)
    density = density_BCHW.flatten(2)
    mean = (density * weight).sum(2)
    centred = density - mean[..., None]
    return mean, (centred * weight) @ centred.mT + 2e-3 * torch.eye(3).to(density)


def _root(positive_B33: Tensor) -> Tensor:
    """The symmetric square root of symmetric positive matrices."""
    values, vectors = torch.linalg.eigh(positive_B33)
    return (vectors * values.clamp(min=1e-8).sqrt()[:, None]) @ vectors.mT


def contrast(pixels_BCHW: Tensor, generator: Generator) -> Tensor:
    """Contrast about the mean by 0.75 to 1.3."""
    gain = _per_image(len(pixels_BCHW), 1, 0.75, 1.3, generator).to(pixels_BCHW)
    mean = pixels_BCHW.mean((1, 2, 3), keepdim=True)
    return (pixels_BCHW - mean) * gain + mean


def brightness(pixels_BCHW: Tensor, generator: Generator) -> Tensor:
    """Brighter or darker by up to 0.12 of the range."""
    return pixels_BCHW + _per_image(len(pixels_BCHW), 1, -0.12, 0.12, generator).to(pixels_BCHW)


def gamma(pixels_BCHW: Tensor, generator: Generator) -> Tensor:
    """Another camera curve: exponent 0.7 to 1.4."""
    exponent = _per_image(len(pixels_BCHW), 1, math.log(0.7), math.log(1.4), generator).exp()
    return pixels_BCHW.clamp(min=1e-4) ** exponent.to(pixels_BCHW)


def blur(pixels_BCHW: Tensor, generator: Generator) -> Tensor:
    """Out of focus, or enlarged from half the resolution: a Gaussian of 0.4 to 1.6 px."""
    sigma = 0.4 + 1.2 * _uniform(generator)
    taps = torch.arange(-4, 5, dtype=pixels_BCHW.dtype, device=pixels_BCHW.device)
    kernel = torch.exp(-(taps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 9)
    padded = functional.pad(pixels_BCHW, (4, 4, 4, 4), mode="reflect")
    rows = functional.conv2d(padded, kernel, groups=3)
    return functional.conv2d(rows, kernel.transpose(2, 3), groups=3)


def noise(pixels_BCHW: Tensor, generator: Generator) -> Tensor:
    """Camera noise of deviation up to 0.03."""
    sigma = _per_image(len(pixels_BCHW), 1, 0, 0.03, generator)
    return pixels_BCHW + (sigma * torch.randn(pixels_BCHW.shape, generator=generator)).to(pixels_BCHW)


def jpeg(pixels_BCHW: Tensor, generator: Generator) -> Tensor:
    """Blocks of 8 x 8 quantised as a JPEG coder would, one step for all frequencies but growing with them."""
    side = 8
    k = torch.arange(side, dtype=pixels_BCHW.dtype, device=pixels_BCHW.device)
    cosine = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / (2 * side)) * math.sqrt(2 / side)
    cosine[0] /= math.sqrt(2)
    step = (0.01 + 0.07 * _uniform(generator)) * (1 + (k[:, None] + k[None]) / 4)
    B, C, H, W = pixels_BCHW.shape
    blocks = pixels_BCHW.reshape(B, C, H // side, side, W // side, side)
    waves = torch.einsum("ui,bcyixj,vj->bcyuxv", cosine, blocks, cosine)
    waves = (waves / step[:, None]).round() * step[:, None]
    return torch.einsum("ui,bcyuxv,vj->bcyixj", cosine, waves, cosine).reshape(B, C, H, W)


def dropout(pixels_BCHW: Tensor, generator: Generator) -> Tensor:
    """Coarse holes: up to a tenth of the picture, in squares of an eighth of its side, painted mid grey."""
    share = 0.1 * _uniform(generator)
    holes = torch.rand(len(pixels_BCHW), 1, 8, 8, generator=generator) < share
    holes = functional.interpolate(holes.float(), pixels_BCHW.shape[-2:], mode="nearest").to(pixels_BCHW)
    return pixels_BCHW * (1 - holes) + 0.5 * holes


def _uniform(generator: Generator, low: float = 0, high: float = 1) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _per_image(count: int, channels: int, low: float, high: float, generator: Generator) -> Tensor:
    """[count, channels, 1, 1], uniform."""
    return low + (high - low) * torch.rand(count, channels, 1, 1, generator=generator)


NONE = Augmentation("none", max_turn_deg=0, scales=(1, 1), bend_px=0, glass=0, wider_lumen=0, colors=())
"""Flips and shifts alone: to see what a network can learn by heart."""

PUBLISHED = Augmentation(
    "published",
    max_turn_deg=180,
    scales=(0.8, 1.25),
    bend_px=0,
    glass=0,
    wider_lumen=0,
    colors=((0.5, contrast), (0.5, brightness), (0.5, dropout), (0.5, blur), (0.5, noise)),
)
"""Affine, flip, contrast, brightness, coarse dropout, blur and noise at probability 0.5 (Deng et al., MIDL 2022)."""

STRONG = Augmentation(
    "strong",
    max_turn_deg=180,
    scales=(0.6, 1.7),
    bend_px=6,
    glass=0.15,
    wider_lumen=0.35,
    colors=(
        (0.3, restain),
        (0.8, stain_shift),
        (0.5, hue_turn),
        (0.4, gamma),
        (0.4, contrast),
        (0.3, brightness),
        (0.3, blur),
        (0.3, noise),
        (0.3, jpeg),
    ),
    gentler=PUBLISHED,
)
"""What the best recipe uses: also elastic, other stains, wider lumens, gamma and JPEG. Of kidney_ki at "1 um" some tubules are twice as wide as others."""

AUGMENTATIONS = {augmentation.name: augmentation for augmentation in (NONE, PUBLISHED, STRONG)}
