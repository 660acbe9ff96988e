"""Samples as they wait in memory to be drawn: a label takes a bit a pixel, and nothing is much enlarged before it is drawn.

A picture has one set of pixels and up to a dozen labels, those that its own imply among them, so most of what a training held were
planes of yes and no; and where tubules at 1 um tell of capillaries at 0.5 um, pictures four times their size (benchmarks/training.md).

Axes: H rows, W columns, C colour.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from omniwsi.tissues import Tissue
from omniwsi.train.data import Sample, at_mpp

_ENLARGED_WHEN_DRAWN = 1.5
"""A picture that would become so many times as long waits as it is stored: enlarged beforehand it takes that squared in memory, enlarged when drawn some milliseconds each time."""


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
    """A `Sample`, maybe yet to be enlarged. It is itself and no other, so what is known of it can be looked up by it."""

    pixels_HWC: np.ndarray
    """uint8 RGB, shared by all labels of a picture at one mpp"""
    mpp: float
    """of the pixels: that of the tissue, or coarser"""
    mask: Plane
    known: Plane
    tissue: Tissue
    source: str
    stain: str
    image: str

    def unpacked(self, like: Sample | None = None) -> Sample:
        """At the mpp of its tissue. `like` is another label of the same picture at that mpp, whose pixels are then its own."""
        mask_HW, known_HW = self.mask.unpacked(), self.known.unpacked()
        sample = Sample(self.pixels_HWC, mask_HW, known_HW, self.tissue, self.source, self.stain, self.image)
        if self.mpp == self.tissue.mpp:
            return sample
        return at_mpp(sample, self.mpp, None if like is None else like.pixels_HWC)

    @property
    def shows_any(self) -> bool:
        """Whether there is any of the tissue."""
        if not self.mask.bits.any():
            return False
        sample = self.unpacked()
        return bool((sample.mask_HW & sample.known_HW).any())


class Packer:
    """Packs one label after the other; what several have in common is kept once."""

    def __init__(self) -> None:
        self._pictures: dict[tuple[str, float, float], np.ndarray] = {}
        """(file, its mpp, mpp kept) -> pixels_HWC"""
        self._planes: dict[tuple[tuple[int, ...], bytes], Plane] = {}
        """by what is in them: of one label a dozen others may follow, and a patch may be named many times"""

    def pack(self, stored: Sample, mpp: float) -> PackedSample:
        """`stored` has pixels of `mpp` micrometres, as its file has them."""
        later = mpp >= _ENLARGED_WHEN_DRAWN * stored.tissue.mpp
        kept_mpp = mpp if later else stored.tissue.mpp
        picture = stored.image, mpp, kept_mpp
        sample = stored if kept_mpp == mpp else at_mpp(stored, mpp, self._pictures.get(picture))
        pixels_HWC = self._pictures.setdefault(picture, sample.pixels_HWC) if stored.image else sample.pixels_HWC
        return PackedSample(
            pixels_HWC,
            kept_mpp,
            self._plane(sample.mask_HW),
            self._plane(sample.known_HW),
            sample.tissue,
            sample.source,
            sample.stain,
            sample.image,
        )

    def _plane(self, plane_HW: np.ndarray) -> Plane:
        plane = Plane.of(plane_HW)
        content = plane_HW.shape, hashlib.blake2b(plane.bits.tobytes(), digest_size=16).digest()
        return self._planes.setdefault(content, plane)
