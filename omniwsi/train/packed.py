"""Samples as they wait in memory to be drawn: a label takes a bit a pixel, not a byte.

A picture has one set of pixels and up to a dozen labels, those that its own imply among them, so most of what a training held was
planes of yes and no (benchmarks/training.md).

Axes: H rows, W columns, C colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omniwsi.tissues import Tissue
from omniwsi.train.data import Sample


@dataclass(frozen=True, slots=True)
class Plane:
    """bool [H, W] in bits; one byte in all where it says one thing everywhere, as the masks of most labels do."""

    bits: np.ndarray
    """uint8 [H, W / 8 rounded up]"""
    width: int

    @classmethod
    def of(cls, plane_HW: np.ndarray) -> Plane:
        bits = np.packbits(plane_HW, axis=1)
        if plane_HW.all() or not plane_HW.any():
            bits = np.broadcast_to(bits[0, 0].copy(), bits.shape)
        return cls(bits, plane_HW.shape[1])

    def unpacked(self) -> np.ndarray:
        return np.unpackbits(self.bits, axis=1, count=self.width).view(bool)


@dataclass(frozen=True, slots=True, eq=False)
class PackedSample:
    """A `Sample`; it is itself and no other, so what is known of it can be looked up by it."""

    pixels_HWC: np.ndarray
    """uint8 RGB, shared by all labels of a picture at one mpp"""
    mask: Plane
    known: Plane
    tissue: Tissue
    source: str
    stain: str
    image: str
    shows_any: bool
    """whether there is any of the tissue"""

    @classmethod
    def of(cls, sample: Sample) -> PackedSample:
        return cls(
            sample.pixels_HWC,
            Plane.of(sample.mask_HW),
            Plane.of(sample.known_HW),
            sample.tissue,
            sample.source,
            sample.stain,
            sample.image,
            bool((sample.mask_HW & sample.known_HW).any()),
        )

    def unpacked(self) -> Sample:
        mask_HW, known_HW = self.mask.unpacked(), self.known.unpacked()
        return Sample(self.pixels_HWC, mask_HW, known_HW, self.tissue, self.source, self.stain, self.image)
