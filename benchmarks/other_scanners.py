"""What other stains, lamps, lenses and files do to a result: the kidney crop changed in one way at a time, judged as by `on_crop.py`.

    python benchmarks/other_scanners.py OUT kidney_HE2_crop_6144x4608.tiff [-- OPTIONS of omniwsi segment]

A program's changes are not another laboratory's slides, which differ in what was cut and how; but what does not bear these will not bear those.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from on_crop import JUDGED, Verdict, verdicts
from PIL import Image
from scipy import ndimage
from segmented import asked, segmented
from skimage.color import hed_from_rgb, rgb_from_hed

from omniwsi.slide import open_slide
from omniwsi.train.augment import in_colours_of

MPP = 0.504
Change = Callable[[np.ndarray], np.ndarray]
"""uint8 [H, W, RGB] -> the same."""


def density(times: float) -> Change:
    """A thicker or thinner section, a weaker or stronger lamp."""
    return _of_density(times * np.eye(3))


def stains(haematoxylin: float = 1, eosin: float = 1) -> Change:
    """Stained for longer or shorter."""
    return _of_density(hed_from_rgb @ np.diag((haematoxylin, eosin, 1)) @ rgb_from_hed)


def light(red: float, blue: float) -> Change:
    """Another white."""
    return lambda pixels_HWC: _to_bytes(pixels_HWC * np.array((red / 255, 1 / 255, blue / 255), np.float32))


def hue(radians: float) -> Change:
    """All colours turned about the grey axis, in optical density: other dyes."""
    axis = np.full(3, 3**-0.5)
    turn = np.cos(radians) * np.eye(3) + np.sin(radians) * np.cross(np.eye(3), axis)
    turn += (1 - np.cos(radians)) * np.outer(axis, axis)
    return _of_density(turn.T)


def stain(name: str) -> Change:
    """The colours of a stain of `kidney_ki`; what it stains stays what haematoxylin and eosin did."""

    def change(pixels_HWC: np.ndarray) -> np.ndarray:
        pixels_1CHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None] / 255
        return _to_bytes(in_colours_of([name], pixels_1CHW)[0].permute(1, 2, 0).numpy())

    return change


def out_of_focus(um: float) -> Change:
    """By a Gaussian of that deviation."""
    return lambda pixels_HWC: ndimage.gaussian_filter(pixels_HWC, (um / MPP, um / MPP, 0))


def compressed(quality: int) -> Change:
    def change(pixels_HWC: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(pixels_HWC).save(file, "jpeg", quality=quality)
        return np.asarray(Image.open(file))

    return change


def _of_density(matrix_CC: np.ndarray) -> Change:
    """Optical densities of red, green and blue, as a row, times the matrix."""
    matrix_CC = matrix_CC.astype(np.float32)
    return lambda pixels_HWC: _to_bytes(np.exp(np.log(np.maximum(pixels_HWC, 1) / np.float32(255)) @ matrix_CC))


def _to_bytes(pixels_HWC: np.ndarray) -> np.ndarray:
    return (pixels_HWC.clip(0, 1) * 255).round().astype(np.uint8)


CHANGES: dict[str, tuple[Change, float]] = {
    "as it is": (density(1), MPP),
    "paler, 0.7 of the density": (density(0.7), MPP),
    "darker, 1.35 times": (density(1.35), MPP),
    "0.8 of the haematoxylin": (stains(haematoxylin=0.8), MPP),
    "1.25 times the haematoxylin": (stains(haematoxylin=1.25), MPP),
    "0.75 of the eosin": (stains(eosin=0.75), MPP),
    "1.3 times the eosin": (stains(eosin=1.3), MPP),
    "hue turned by -0.2 rad": (hue(-0.2), MPP),
    "hue turned by 0.2 rad": (hue(0.2), MPP),
    "in the colours of other H&E": (stain("he"), MPP),
    "in those of PAS": (stain("pas"), MPP),
    "in those of trichrome": (stain("tri"), MPP),
    "in those of silver": (stain("sil"), MPP),
    "yellower light, 0.85 of blue": (light(1, 0.85), MPP),
    "bluer light, 0.9 of red": (light(0.9, 1), MPP),
    "out of focus, 1 um": (out_of_focus(1), MPP),
    "out of focus, 2 um": (out_of_focus(2), MPP),
    "JPEG of quality 30": (compressed(30), MPP),
    "pixel size said to be 0.9 of what it is": (density(1), 0.9 * MPP),
    "pixel size said to be 1.1 of what it is": (density(1), 1.1 * MPP),
}
"""Name -> (what is done to the picture, the pixel size it is said to have)."""


def main(out: Path, crop: Path, options: list[str]) -> None:
    with open_slide(crop) as slide:
        pixels_HWC = slide.read(slide.info.l0_box)
    out.mkdir(parents=True, exist_ok=True)
    print("| the crop | " + " | ".join(f"{name}: found, false, Dice" for name in JUDGED) + " | mean Dice |")
    print("|---" * (len(JUDGED) + 2) + "|")
    for i, (name, (change, mpp)) in enumerate(CHANGES.items()):
        picture = out / f"{i}.png"
        Image.fromarray(change(pixels_HWC)).save(picture, compress_level=1)
        judged = verdicts(segmented(picture, out, ["--mpp", str(mpp), "--tissues", ",".join(JUDGED), *options]))
        mean = np.mean([verdict.dice for verdict in judged.values()])
        print(f"| {name} | {' | '.join(map(_cell, judged.values()))} | {mean:.3f} |", flush=True)


def _cell(verdict: Verdict) -> str:
    return f"{verdict.found}/{verdict.there}, {verdict.false_objects}, {verdict.dice:.2f}"


if __name__ == "__main__":
    main(*asked(__doc__))
