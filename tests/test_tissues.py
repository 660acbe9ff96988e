from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from omniwsi.errors import UnknownTissue, UsageError
from omniwsi.tissues import (
    KIDNEY,
    Tissue,
    emphasis_of,
    select,
    sweeps,
    with_max_areas,
    with_min_areas,
    with_min_confidences,
    with_min_holes,
    with_mpps,
)


def test_the_six_have_the_published_indices_and_scales() -> None:
    assert [(t.index, t.name, t.mpp) for t in KIDNEY] == [
        (0, "distal_tubule", 1.0),
        (1, "proximal_tubule", 1.0),
        (2, "capsule", 2.0),
        (3, "tuft", 2.0),
        (4, "vessel", 1.0),
        (5, "ptc", 0.25),
    ]


def test_every_tissue_is_in_exactly_one_sweep() -> None:
    found = [tissue for sweep in sweeps(KIDNEY) for tissue in sweep.tissues]
    assert sorted(found, key=lambda t: t.index) == list(KIDNEY)
    assert all(tissue.mpp == sweep.mpp for sweep in sweeps(KIDNEY) for tissue in sweep.tissues)


@pytest.mark.parametrize("asked", ["glomerulus", "tuft,glomerulus", "", " , ", "all,tuft"])
def test_unknown_tissues_are_named_with_the_choice(asked: str) -> None:
    with pytest.raises(UnknownTissue, match="choose from all, distal_tubule, proximal_tubule"):
        select(KIDNEY, asked)


def test_select_keeps_the_order_asked() -> None:
    assert [t.name for t in select(KIDNEY, "PTC,capsule , ptc")] == ["ptc", "capsule"]
    assert select(KIDNEY, "all") == KIDNEY


def test_min_areas() -> None:
    assert {t.min_area_um2 for t in with_min_areas(KIDNEY, "50")} == {50.0}
    assert with_min_areas(KIDNEY, "") == KIDNEY
    tuft = with_min_areas(KIDNEY, "ptc=5,tuft=0")[3]
    assert tuft == replace(KIDNEY[3], min_area_um2=0.0)


@pytest.mark.parametrize("asked", ["many", "tuft=", "tuft=-1", "tuft=nan", "inf", "5um2"])
def test_min_areas_that_are_none(asked: str) -> None:
    with pytest.raises(UsageError, match="--min-area takes square micrometres"):
        with_min_areas(KIDNEY, asked)


def test_min_area_of_a_tissue_not_asked_for() -> None:
    with pytest.raises(UnknownTissue, match="names ptc"):
        with_min_areas(KIDNEY[:2], "ptc=5")


@pytest.mark.parametrize(
    ("changed", "field", "flag"),
    [(with_max_areas, "max_area_um2", "--max-area"), (with_min_holes, "min_hole_um2", "--min-hole")],
)
def test_largest_areas_and_smallest_holes(
    changed: Callable[[Sequence[Tissue], str], tuple[Tissue, ...]], field: str, flag: str
) -> None:
    assert {getattr(tissue, field) for tissue in changed(KIDNEY, "2e5")} == {200_000.0}
    assert changed(KIDNEY, "") == KIDNEY
    assert changed(KIDNEY, "vessel=7") == (*KIDNEY[:4], replace(KIDNEY[4], **{field: 7.0}), KIDNEY[5])
    with pytest.raises(UsageError, match=flag):
        changed(KIDNEY, "vessel=-1")


def test_min_confidences() -> None:
    assert {t.min_confidence for t in with_min_confidences(KIDNEY, "0.6")} == {0.6}
    assert with_min_confidences(KIDNEY, "") == KIDNEY
    assert with_min_confidences(KIDNEY, "capsule=0.7")[2] == replace(KIDNEY[2], min_confidence=0.7)


@pytest.mark.parametrize("asked", ["sure", "capsule=", "capsule=-0.1", "capsule=nan", "70", "50%"])
def test_min_confidences_that_are_none(asked: str) -> None:
    with pytest.raises(UsageError, match="--min-confidence takes probabilities"):
        with_min_confidences(KIDNEY, asked)


def test_pixel_sizes() -> None:
    assert [t.mpp for t in with_mpps(KIDNEY, "ptc=0.5,tuft=1")] == [1.0, 1.0, 2.0, 1.0, 1.0, 0.5]
    assert with_mpps(KIDNEY, "") == KIDNEY


@pytest.mark.parametrize("asked", ["fine", "ptc=", "ptc=0", "ptc=-0.5", "ptc=nan", "1000"])
def test_pixel_sizes_that_are_none(asked: str) -> None:
    with pytest.raises(UsageError, match="--mpp takes micrometres a pixel"):
        with_mpps(KIDNEY, asked)


def test_emphasis() -> None:
    assert list(emphasis_of(KIDNEY, "vessel=3, ptc=0.5").values()) == [1, 1, 1, 1, 3, 0.5]
    assert set(emphasis_of(KIDNEY, "").values()) == {1}


@pytest.mark.parametrize("asked", ["much", "vessel=", "vessel=0", "vessel=-1", "vessel=nan"])
def test_emphasis_that_is_none(asked: str) -> None:
    with pytest.raises(UsageError, match="--emphasis takes how many times"):
        emphasis_of(KIDNEY, asked)


@pytest.mark.parametrize(
    "wrong", [{"name": "Big One"}, {"color": "red"}, {"mpp": 0}, {"index": -1}, {"object_type": "x"}]
)
def test_a_tissue_is_checked_when_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"name|colour|sensible|object_type"):
        replace(KIDNEY[0], **wrong)
