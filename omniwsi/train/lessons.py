"""What is taught in each step. Lesson i of step s depends on the seed, s and i, and on nothing else.

So a training goes on bit for bit after a stop, several processes share a batch without a word, and on a GPU the next
lessons are made while this one is learnt.

Axes: B image, P label of an image (one or more each), C colour, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from omniwsi.errors import DataError
from omniwsi.model.omniseg import scale_code
from omniwsi.synthetic import STAINS, draw_section
from omniwsi.tissues import KIDNEY, Tissue, emphasis_of
from omniwsi.train.ahead import made_ahead, spare_cores
from omniwsi.train.augment import Crop, cut, recolor
from omniwsi.train.data import Patch, Sample, all_as_stored, at_mpp, implied
from omniwsi.train.options import TrainOptions
from omniwsi.train.packed import PackedSample, Packer

_NOWHERE = 0.25
"""Share of a tissue's lessons in stains that have none of it. "Not here" is cheap to say, so there is much of it: drawn as often
as each of its stains, it takes from what is found on patches; drawn as one stain, a slide fills with vessels (benchmarks/weights.md)."""


@dataclass(frozen=True, slots=True)
class Lesson:
    crop: Crop
    sample: PackedSample
    beside: tuple[Tissue, ...] = ()
    """Other tissues that are labelled in the same picture, as `crop.beside`."""

    @property
    def name(self) -> str:
        """What it was made from, for people."""
        return f"{self.sample.image or self.sample.source} ({self.sample.tissue.name})"


@dataclass(frozen=True, slots=True)
class Batch:
    lessons: tuple[Lesson, ...]

    @property
    def pixels_BCHW(self) -> Tensor:
        return torch.stack([lesson.crop.pixels_CSS for lesson in self.lessons])

    @property
    def mask_PHW(self) -> Tensor:
        return torch.stack([mask_SS for lesson in self.lessons for mask_SS, _ in lesson.crop.labels])

    @property
    def known_PHW(self) -> Tensor:
        return torch.stack([known_SS for lesson in self.lessons for _, known_SS in lesson.crop.labels])

    @property
    def image_P(self) -> Tensor | None:
        """The place of each label's picture in the batch; None where each has one label."""
        places = [b for b, lesson in enumerate(self.lessons) for _ in lesson.crop.labels]
        return torch.tensor(places) if len(places) > len(self.lessons) else None

    @property
    def tissue_P(self) -> Tensor:
        return torch.tensor([tissue.index for tissue in self._tissues])

    @property
    def scale_P(self) -> Tensor:
        return torch.tensor([scale_code(tissue.mpp) for tissue in self._tissues])

    @property
    def _tissues(self) -> list[Tissue]:
        return [tissue for lesson in self.lessons for tissue in (lesson.sample.tissue, *lesson.beside)]

    @property
    def informed(self) -> int:
        """Labels that say anything."""
        return sum(bool(known_SS.any()) for lesson in self.lessons for _, known_SS in lesson.crop.labels)

    def parts(self, count: int) -> Iterator[Batch]:
        """As many as `count`, of nearly one size."""
        edges = [len(self.lessons) * i // count for i in range(count + 1)]
        for begin, end in pairwise(edges):
            if begin < end:
                yield Batch(self.lessons[begin:end])


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A batch on its way from another process, to which it was copied by a fork: an id names the same sample in both.

    In few tensors, as each is a file that both hold open.
    """

    pixels_BCSS: Tensor
    planes_P2SS: Tensor
    """(mask, known) of each label, bool: memory that processes share is scarce in a container."""
    sample_ids: tuple[int, ...]

    @classmethod
    def of(cls, batch: Batch) -> _Parcel:
        planes_P2SS = torch.stack([batch.mask_PHW, batch.known_PHW], 1).bool()
        return cls(batch.pixels_BCHW, planes_P2SS, tuple(id(lesson.sample) for lesson in batch.lessons))


@dataclass(frozen=True, slots=True)
class _Pool:
    """The samples of one tissue."""

    found: tuple[tuple[PackedSample, ...], ...]
    """[stain] -> samples, of stains that have some of it, drawn by the root of how many there are: drawn equally often, three
    patches of one are learnt by heart while of another's hundreds each is seen once (benchmarks/weights.md)."""
    nowhere: tuple[PackedSample, ...]
    """Of all other stains."""

    @property
    def tissue(self) -> Tissue:
        return (self.found[0] if self.found else self.nowhere)[0].tissue

    def pick(self, generator: Generator) -> PackedSample:
        if not self.found or (self.nowhere and torch.rand((), generator=generator) < _NOWHERE):
            return _pick(self.nowhere, generator)
        shares = torch.tensor([len(samples) for samples in self.found]).sqrt()
        return _pick(self.found[int(torch.multinomial(shares, 1, generator=generator))], generator)


class Lessons:
    """Samples to draw from, and how."""

    def __init__(self, patches: Sequence[Patch], tissues: Sequence[Tissue], options: TrainOptions) -> None:
        """Reads all patches into memory. Raises DataError where there is nothing to learn from."""
        if not patches and options.drawn_share < 1:
            raise DataError(
                "nothing to learn from: name a folder of patches, or pass --drawn 1 to learn from drawings alone"
            )
        emphasis = self._emphasis(patches, tissues, options)  # before minutes of reading: it may be wrong
        self._options = options
        packer = Packer()
        self._drawn = self._draw(tissues, options, packer)
        real: list[PackedSample] = []
        others: list[PackedSample] = []
        for patch, stored in zip(patches, all_as_stored(patches), strict=True):
            real.append(packer.pack(stored, patch.mpp))
            if self._implies(options):
                others += (packer.pack(other, patch.mpp) for other in implied(stored, patch.mpp, tissues))
        self._real, self._pools, self._implied = tuple(real), _by_tissue(real), _by_tissue(others)
        self._beside = _beside(real)
        self._samples = {id(sample): sample for sample in (*self._drawn, *real, *others)}
        self._shares = torch.tensor([emphasis[pool.tissue.name] for pool in self._pools])

    @staticmethod
    def _emphasis(patches: Sequence[Patch], tissues: Sequence[Tissue], options: TrainOptions) -> dict[str, float]:
        emphasis = emphasis_of(tissues, options.emphasis)
        labelled = {patch.tissue.name for patch in patches}
        if idle := [name for name, times in emphasis.items() if times != 1 and name not in labelled]:
            raise DataError(f"--emphasis names {idle[0]}, of which nothing is labelled here: leave it out")
        return emphasis

    @staticmethod
    def _draw(tissues: Sequence[Tissue], options: TrainOptions, packer: Packer) -> tuple[PackedSample, ...]:
        if not options.drawn_share:
            return ()
        drawn = drawn_samples(options.drawn_sections, options.seed, tissues)
        return tuple(packer.pack(sample, sample.tissue.mpp) for sample in drawn)

    @staticmethod
    def _implies(options: TrainOptions) -> bool:
        """Not where the tissues of the kidney are not to be touched."""
        return options.recipe.implied > 0 and options.add_tissue is None

    def lesson(self, step: int, i: int) -> Lesson:
        """A random crop of a random sample, varied as the recipe says."""
        options, recipe = self._options, self._options.recipe
        state = np.random.SeedSequence([options.seed, step, i]).generate_state(1, np.uint64)
        generator = Generator().manual_seed(int(state[0] >> 1))
        strength = options.strength(step)
        sample = self._pick_sample(recipe.implied * strength, generator)
        how = recipe.augmentation
        if how.gentler and torch.rand((), generator=generator) >= strength:
            how = how.gentler
        own = sample.unpacked()
        beside = [label.unpacked(own) for label in self._beside.get(sample, ())]
        crop = cut(own, options.side_px(step), how, generator, options.on_tissue(step), beside)
        pixels_CSS = recolor(crop.pixels_CSS[None], how, generator)[0]
        return Lesson(replace(crop, pixels_CSS=pixels_CSS), sample, self._tissues_beside(sample))

    def _tissues_beside(self, sample: PackedSample) -> tuple[Tissue, ...]:
        return tuple(label.tissue for label in self._beside.get(sample, ()))

    def _pick_sample(self, implied_share: float, generator: Generator) -> PackedSample:
        options = self._options
        if self._drawn and torch.rand((), generator=generator) < options.drawn_share:
            return _pick(self._drawn, generator)
        if self._implied and torch.rand((), generator=generator) < implied_share:
            return _pick(self._implied, generator).pick(generator)
        if options.recipe.balanced:
            return self._pools[int(torch.multinomial(self._shares, 1, generator=generator))].pick(generator)
        return _pick(self._real, generator)

    def batches(self, first_step: int, rank: int = 0, ranks: int = 1) -> Iterator[Batch]:
        """The batch of each step from `first_step` on; of several processes each takes every so-manieth lesson."""
        own = range(rank, self._options.recipe.batch_size, ranks)
        steps = range(first_step, self._options.steps)
        if torch.device(self._options.device).type == "cpu":  # which is better used for the network
            for step in steps:
                yield self._batch(step, own)
            return
        for parcel in made_ahead(lambda step: _Parcel.of(self._batch(step, own)), steps, spare_cores(ranks)):
            yield self._unpacked(parcel)

    def _batch(self, step: int, places: Sequence[int]) -> Batch:
        return Batch(tuple(self.lesson(step, i) for i in places))

    def _unpacked(self, parcel: _Parcel) -> Batch:
        labels = iter(parcel.planes_P2SS.float())
        lessons = []
        for pixels_CSS, sample_id in zip(parcel.pixels_BCSS, parcel.sample_ids, strict=True):
            sample = self._samples[sample_id]
            beside = self._tissues_beside(sample)
            own, *others = [(mask_SS, known_SS) for mask_SS, known_SS in islice(labels, 1 + len(beside))]
            lessons.append(Lesson(Crop(pixels_CSS, *own, tuple(others)), sample, beside))
        return Batch(tuple(lessons))


def _by_tissue(samples: Sequence[PackedSample]) -> tuple[_Pool, ...]:
    stains_of: dict[str, dict[str, list[PackedSample]]] = {}
    for sample in samples:
        stains_of.setdefault(sample.tissue.name, {}).setdefault(sample.stain, []).append(sample)
    pools = []
    for stains in stains_of.values():
        groups = [(any(sample.shows_any for sample in group), tuple(group)) for group in stains.values()]
        found = tuple(group for some, group in groups if some)
        pools.append(_Pool(found, tuple(sample for some, group in groups if not some for sample in group)))
    return tuple(pools)


def _beside(samples: Sequence[PackedSample]) -> dict[PackedSample, list[PackedSample]]:
    """Sample -> what else is labelled in its picture at its mpp: heads cost next to nothing. Nothing is beside what is implied or drawn."""
    labels_of: dict[tuple[int, float], list[PackedSample]] = {}
    for sample in samples:
        labels_of.setdefault((id(sample.pixels_HWC), sample.tissue.mpp), []).append(sample)
    return {
        label: [other for other in labels if other.tissue != label.tissue]
        for labels in labels_of.values()
        for label in labels
    }


def _pick(items: Sequence[Any], generator: Generator) -> Any:
    return items[int(torch.randint(len(items), (), generator=generator))]


def drawn_samples(
    sections_a_stain: int, seed: int, tissues: Sequence[Tissue] = KIDNEY, side_um: float = 512
) -> Iterator[Sample]:
    """Every tissue of drawn sections in every stain, as Samples at the tissue's own mpp; what is not drawn is left out."""
    for stain in STAINS:
        for i in range(sections_a_stain):
            section = draw_section(side_um, side_um, stain, seed * 1000 + i, mpp=0.25, to_the_edge=i % 3 > 0)
            known_HW = np.ones(section.pixels_HWC.shape[:2], bool)
            for tissue in tissues:
                if (mask_HW := section.truth_of(tissue)) is not None:
                    sample = Sample(section.pixels_HWC, mask_HW, known_HW, tissue, f"drawn/{stain}/{i}", stain)
                    yield at_mpp(sample, section.mpp)
