"""What is known before any network has run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omniwsi.errors import TooCoarse, UsageError
from omniwsi.geometry import Box
from omniwsi.plan import Plan, SegmentOptions, make_plan, require_sensible, where_wanted
from omniwsi.slide import ArraySlide
from omniwsi.tissues import KIDNEY

from .conftest import ColorModel, blobs

REGION = """{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon",
    "coordinates": [[[600, 400], [1400, 400], [1400, 1200], [600, 1200], [600, 400]]]}}"""


@pytest.fixture(scope="module")
def slide() -> ArraySlide:
    """1.2 x 0.8 mm of tissue, and as much glass beside it."""
    pixels = np.full((1800, 5000, 3), 245, np.uint8)
    pixels[100:1700, 100:2500] = blobs(2400, 1600)
    return ArraySlide(pixels, 0.5, name="case 7.svs")


def planned(slide: ArraySlide, **how: object) -> Plan:
    return make_plan(slide, KIDNEY, 64, SegmentOptions(**({"tissues": "tuft,vessel"} | how)))


def test_a_sweep_for_each_pixel_size(slide: ArraySlide) -> None:
    plan = planned(slide, tissues="vessel,capsule,ptc,tuft")
    seen = [(sweep.sweep.mpp, [tissue.name for tissue in sweep.sweep.tissues]) for sweep in plan.sweeps]
    assert seen == [(2.0, ["capsule", "tuft"]), (1.0, ["vessel"]), (0.25, ["ptc"])]
    assert plan.tile_count == sum(len(sweep.tiles) for sweep in plan.sweeps)


def test_results_are_estimated_by_their_pixels(slide: ArraySlide) -> None:
    fine, coarse = planned(slide, output_mpp=1.0), planned(slide, output_mpp=2.0)
    assert coarse.result_bytes > 0
    assert fine.result_bytes == pytest.approx(4 * coarse.result_bytes, rel=0.01)
    assert fine.scratch_bytes == coarse.scratch_bytes > 0


def test_tiles_lie_where_tissue_is(slide: ArraySlide) -> None:
    everywhere, looked = planned(slide, foreground="none"), planned(slide)
    assert looked.tile_count < everywhere.tile_count == sum(sweep.grid.tile_count for sweep in everywhere.sweeps)
    for sweep in looked.sweeps:
        assert all(looked.foreground.touches(sweep.grid.frame.l0_box_from_g(tile.g_box)) for tile in sweep.tiles)


@pytest.mark.parametrize(("tissues", "base"), [("tuft", 2.0), ("vessel", 1.0), ("tuft,vessel", 1.0), ("ptc,tuft", 0.5)])
def test_the_base_is_the_finest_sweep_but_no_finer_than_the_slide(slide: ArraySlide, tissues: str, base: float) -> None:
    plan = make_plan(slide, KIDNEY, 64, SegmentOptions(tissues=tissues))
    assert plan.pyramid.mpp == base
    assert make_plan(slide, KIDNEY, 64, SegmentOptions(tissues=tissues, output_mpp=0.3)).pyramid.mpp == 0.3


def test_results_count_in_the_region_and_near_the_tissue(slide: ArraySlide, tmp_path: Path) -> None:
    (tmp_path / "roi.geojson").write_text(REGION)
    frame = planned(slide).sweeps[0].grid.frame
    corner, middle = Box(0, 0, 10, 10), Box(200, 150, 210, 160)
    near = where_wanted(planned(slide), frame, slide.info)
    assert near is not None
    assert near(middle) is None
    assert np.all(near(corner) == 0)
    inside = where_wanted(planned(slide, roi=tmp_path / "roi.geojson"), frame, slide.info)
    assert inside is not None
    assert np.all(inside(middle))
    assert not np.any(inside(Box(360, 150, 370, 160)))
    assert where_wanted(planned(slide, foreground="none"), frame, slide.info) is None


def test_a_slide_that_is_too_coarse_says_what_is_left() -> None:
    coarse = ArraySlide(blobs(600, 500), 0.6, name="coarse.svs")
    with pytest.raises(TooCoarse, match=r"too coarse for ptc; pass --tissues tuft$"):
        planned(coarse, tissues="tuft,ptc")
    with pytest.raises(TooCoarse, match="scan at a higher power"):
        planned(coarse, tissues="ptc")


def test_a_plan_warns_of_what_it_cannot_do_well() -> None:
    enlarged = planned(ArraySlide(blobs(600, 500), 0.504), tissues="ptc")
    assert enlarged.warnings == ("pixels of 0.504 um were enlarged 2.02 times for ptc, learnt at 0.25 um",)
    glass = ArraySlide(np.full((500, 600, 3), 245, np.uint8), 0.5)
    assert planned(glass).tile_count == 0
    assert "nothing on the slide looks like tissue" in planned(glass).warnings[0]


def test_a_mask_of_another_shape_is_refused(slide: ArraySlide, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((180, 100), np.uint8)).save(tmp_path / "other.png")
    with pytest.raises(UsageError, match="not shaped like the slide"):
        planned(slide, foreground=str(tmp_path / "other.png"))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="is no picture that can be read"):
        planned(slide, foreground=str(tmp_path / "broken.png"))


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 0}, {"threshold": 1}, {"threshold": 7}, {"batch_size": 0}, {"workers": 0}, {"output_mpp": 0}],
)
def test_options_are_checked_when_made(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="--"):
        SegmentOptions(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"overlap_px": 40}, {"overlap_px": -1}, {"foreground": "nowhere.png"}, {"roi": Path("no.geojson")}]
)
def test_what_is_wrong_is_said_before_a_slide_is_opened(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"--overlap|--foreground|no\.geojson"):
        require_sensible(ColorModel().card, SegmentOptions(**wrong))
