"""Looks at training data before an hour is spent on it: what is there, and what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from omniwsi.errors import DataError
from omniwsi.tissues import Tissue
from omniwsi.train.data import Patch, Sample, load, read_patches, sources_on_both_sides
from omniwsi.train.sheet import Cell

SHOWN_A_GROUP = 3
"""Patches of each tissue and stain on the contact sheet."""


@dataclass(slots=True)
class Group:
    """The patches of one tissue in one stain."""

    tissue: str
    stain: str
    sources: set[str] = field(default_factory=set)
    shares: list[float] = field(default_factory=list)
    """of the foreground in what is known, a patch each"""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """width, height at the mpp of the tissue"""
    shown: list[Cell] = field(default_factory=list)

    @property
    def patches(self) -> int:
        return len(self.shares)


@dataclass(slots=True)
class Findings:
    groups: list[Group] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What must be mended: training would stop there, or judge by what it has learnt."""
    warnings: list[str] = field(default_factory=list)
    """What is worth a look."""

    @property
    def cells(self) -> list[Cell]:
        return [cell for group in self.groups for cell in group.shown]


def check(paths: Sequence[Path], tissues: Sequence[Tissue]) -> Findings:
    """Reads every picture once; a patch that cannot be used is a problem, and the next one is looked at."""
    findings = Findings()
    patches = [patch for path in paths for patch in _readable(path, tissues, findings)]
    groups: dict[tuple[int, str], Group] = {}
    for patch in patches:
        try:
            sample = load(patch)
        except DataError as error:
            findings.problems.append(str(error))
            continue
        key = patch.tissue.index, patch.stain
        _look_at(patch, sample, groups.setdefault(key, Group(patch.tissue.name, patch.stain)), findings)
    findings.groups = [groups[key] for key in sorted(groups)]
    findings.problems += _leaks(patches)
    findings.warnings += _too_few(findings.groups)
    return findings


def _readable(path: Path, tissues: Sequence[Tissue], findings: Findings) -> tuple[Patch, ...]:
    try:
        return read_patches(path, tissues, findings.problems.append)
    except DataError as error:  # the collection as a whole
        findings.problems.append(str(error))
        return ()


def _look_at(patch: Patch, sample: Sample, group: Group, findings: Findings) -> None:
    known = np.count_nonzero(sample.known_HW)
    share = np.count_nonzero(sample.mask_HW & sample.known_HW) / known if known else 0.0
    height, width = sample.mask_HW.shape
    group.sources.add(patch.source)
    group.shares.append(share)
    group.sizes.append((width, height))
    if not known:
        findings.warnings.append(f"{patch.image}: its valid mask is empty, so it teaches nothing")
    elif patch.mask and share == 0:
        findings.warnings.append(f"{patch.mask}: an empty mask, which says that there is no {patch.tissue.name}")
    elif share == 1:
        findings.warnings.append(f"{patch.mask}: all of it is {patch.tissue.name}")
    if len(group.shown) < SHOWN_A_GROUP:
        name = f"{patch.tissue.name} {patch.stain} {patch.image.stem}  {100 * share:.0f} %"
        group.shown.append(Cell(sample, name))


def _leaks(patches: Sequence[Patch]) -> list[str]:
    """One picture under two sources may stand on both sides of a split, and so may a source."""
    problems = [
        f"source {source} is both train and held-out; patches of one source belong on one side"
        for source in sources_on_both_sides(patches)
    ]
    first: dict[str, Patch] = {}
    for patch in {patch.image: patch for patch in patches}.values():
        same = first.setdefault(hashlib.sha256(patch.image.read_bytes()).hexdigest(), patch)
        if same.source != patch.source:
            problems.append(
                f"{same.image} and {patch.image} are the same picture under two sources, "
                f"{same.source} and {patch.source}; give them one"
            )
    return problems


def _too_few(groups: Sequence[Group]) -> list[str]:
    sources: dict[str, set[str]] = {}
    for group in groups:
        sources.setdefault(group.tissue, set()).update(group.sources)
    return [
        f"{tissue} comes from one source only: nothing of it can be held out to judge by"
        for tissue, own in sources.items()
        if len(own) == 1
    ]
