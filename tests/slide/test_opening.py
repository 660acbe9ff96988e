from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from omniwsi.errors import NoPixelSize, SlideError, UnreadableSlide
from omniwsi.geometry import Box
from omniwsi.slide import ArraySlide, open_slide


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    return text


def test_the_real_slides_open(wsi: Path) -> None:
    for name, reader, size, mpp in (
        ("kidney_HE2_crop_6144x4608.tiff", "tifffile", (6144, 4608), 0.504),
        ("kidney_HE2_38927x35509.tiff", "tifffile", (38927, 35509), 0.504),
        ("CMU-1-Small-Region.svs", "tifffile", (2220, 2967), 0.499),
        ("dicom_cmu_small_region", "OpenSlide", (2220, 2967), 0.499),
        ("dicom_cmu_small_region/level-3-frames-0-1.dcm", "OpenSlide", (2220, 2967), 0.499),
    ):
        with open_slide(wsi / name) as slide:
            assert (slide.info.reader, slide.info.size) == (reader, size)
            assert slide.info.mpp == pytest.approx((mpp, mpp))


def test_dicom_frames_that_are_ycbcr_have_the_colours_of_the_svs(wsi: Path) -> None:
    box = Box(900, 1000, 1400, 1500)
    with open_slide(wsi / "CMU-1-Small-Region.svs") as svs, open_slide(wsi / "dicom_cmu_small_region") as dicom:
        difference = svs.read(box).astype(int) - dicom.read(box)
        assert np.abs(difference.mean((0, 1))).max() < 2
        assert any("YCbCr" in warning for warning in dicom.info.warnings)
        assert not svs.info.warnings


def test_edge_files(edge: Path) -> None:
    """What each odd file gives, to the word that matters."""
    for name, words in (
        ("empty.svs", "is empty"),
        ("text_renamed.svs", "cannot be opened by OpenSlide, as TIFF or as a picture"),
        ("boxes.tiff", "reads as 352.8 um a pixel); pass --mpp"),
        ("unopenable.tiff", "cannot be right"),
    ):
        with pytest.raises(SlideError) as caught, open_slide(edge / name) as slide:
            _ = slide.info.mpp
        assert words in one_line(caught.value)
    for name in ("re_ome_pyramid_um.ome.tif", "re_tiled_pyr_cm.tif"):
        with open_slide(edge / name) as slide:
            assert slide.info.mpp == pytest.approx((0.499, 0.499))
            assert [level.frame.step_x for level in slide.info.levels] == [1, 2, 4]


def test_one_bad_tile_is_an_error_every_time(edge: Path) -> None:
    """OpenSlide's handle is dead after it: the second read must say the same, not crash."""
    with open_slide(edge / "unreadable.svs") as slide:
        for _ in range(2):
            with pytest.raises(UnreadableSlide, match="is damaged near x 0, y 0 of level 0") as caught:
                slide.read(slide.info.l0_box)
            one_line(caught.value)


def test_a_bad_tile_spoils_only_what_shows_it(wsi: Path, tmp_path: Path) -> None:
    """Its place is named, and what lies elsewhere reads as before, although the handle they share died."""
    whole = (wsi / "CMU-1-Small-Region.svs").read_bytes()
    with tifffile.TiffFile(wsi / "CMU-1-Small-Region.svs") as file:
        page = file.pages.first
        tile = 1500 // page.tilelength * -(-page.imagewidth // page.tilewidth) + 3
        start = page.dataoffsets[tile]
    (tmp_path / "a.svs").write_bytes(whole[:start] + bytes(500) + whole[start + 500 :])
    top, middle = Box(0, 0, 500, 500), Box(0, 1200, 2220, 1900)
    with open_slide(wsi / "CMU-1-Small-Region.svs") as sound, open_slide(tmp_path / "a.svs") as slide:
        for _ in range(2):
            with pytest.raises(UnreadableSlide, match=r"is damaged near x 0, y 1200 of level 0"):
                slide.read(middle)
            np.testing.assert_array_equal(slide.read(top), sound.read(top))


def test_a_truncated_slide(wsi: Path, tmp_path: Path) -> None:
    whole = (wsi / "CMU-1-Small-Region.svs").read_bytes()
    for share in (0.01, 0.3, 0.6):
        path = tmp_path / f"cut_{share}.svs"
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UnreadableSlide) as caught, open_slide(path) as slide:
            slide.read(slide.info.l0_box)
        one_line(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSlide, match="there is no file"):
        open_slide(tmp_path / "nothing.svs")


def test_a_folder_without_a_series(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSlide, match=r"is a folder without a DICOM series; name the slides in it"):
        open_slide(tmp_path)


def test_a_file_one_may_not_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "secret.svs"
        path.write_bytes(b"II*\0")
        path.chmod(0)
        is_root = hasattr(os, "seteuid") and os.geteuid() == 0
        if is_root:  # whom nothing is forbidden
            os.seteuid(65534)
        try:
            with pytest.raises(UnreadableSlide, match="may not be read by you"):
                open_slide(path)
        finally:
            if is_root:
                os.seteuid(0)


def test_pictures_that_are_no_bright_field(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint16))
    with pytest.raises(UnreadableSlide, match=r"1 channels of uint16\); convert it to 8-bit RGB"):
        open_slide(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.ome.tif", np.zeros((5, 64, 64), np.uint8), metadata={"axes": "CYX"})
    with pytest.raises(UnreadableSlide, match=r"not a bright-field picture"):
        open_slide(tmp_path / "b.ome.tif")


def test_grey_of_sixteen_bits_is_not_taken_for_glass(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30), 20_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UnreadableSlide, match=r"a channel of uint16\); convert it to 8-bit RGB"):
        open_slide(tmp_path / "deep.png", mpp=1.0)


def test_grey_pictures_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    Image.fromarray(grey).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", grey)
    for name in ("a.png", "a.tif"):
        with open_slide(tmp_path / name, mpp=1.0) as slide:
            np.testing.assert_array_equal(slide.read(slide.info.l0_box), np.repeat(grey[..., None], 3, -1))


def test_a_damaged_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UnreadableSlide, match="is damaged"):
        open_slide(path, mpp=1.0)


def test_mpp_overrules_the_file(edge: Path) -> None:
    with open_slide(edge / "boxes.tiff", mpp=0.25) as slide:
        assert slide.info.mpp == (0.25, 0.25)
        assert slide.info.pixel_size is not None
        assert slide.info.pixel_size.source == "given"


def test_a_slide_without_a_size_opens_and_says_so_when_asked(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        assert slide.info.pixel_size is None
        with pytest.raises(NoPixelSize, match=r"a.png has no pixel size in its metadata; pass --mpp"):
            _ = slide.info.mpp


def svs(path: Path, description: str) -> Path:
    """A minimal Aperio slide."""
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            np.full((256, 256, 3), 230, np.uint8),
            photometric="rgb",
            tile=(64, 64),
            compression="jpeg",
            description=description,
            metadata=None,
        )
    return path


@pytest.mark.parametrize("said", ["0,2520", "0.0", "nan", "499.0"])
def test_sizes_in_an_svs_that_are_none(tmp_path: Path, said: str) -> None:
    path = svs(tmp_path / "a.svs", f"Aperio Image Library v11\n256x256 |AppMag = 20|MPP = {said}")
    with open_slide(path) as slide, pytest.raises(NoPixelSize, match="pass --mpp"):
        _ = slide.info.mpp


def test_objective_power_is_a_warning(tmp_path: Path) -> None:
    path = svs(tmp_path / "a.svs", "Aperio Image Library v11\n256x256 |AppMag = 20")
    with open_slide(path) as slide:
        assert slide.info.mpp == (0.5, 0.5)
        assert slide.info.warnings == ("the pixel size 0.5 um is an estimate from the objective power 20",)


def test_fingerprints(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    Image.fromarray(255 - pixels).save(tmp_path / "c.png")
    prints = [open_slide(tmp_path / name, mpp=1.0).info.fingerprint for name in ("a.png", "b.png", "c.png")]
    assert prints[0] == prints[1] != prints[2]
    assert ArraySlide(pixels, 1.0).info.fingerprint == ArraySlide(pixels.copy(), 1.0).info.fingerprint


def test_results_beside_a_slide_are_no_part_of_it(tmp_path: Path) -> None:
    """`-o .` makes a folder of the slide's name beside it; only MIRAX keeps its own data in such a folder."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    before = open_slide(tmp_path / "a.png", mpp=1.0).info.fingerprint
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text("{}")
    assert open_slide(tmp_path / "a.png", mpp=1.0).info.fingerprint == before


def test_scanned_bounds_are_the_frame(tmp_path: Path) -> None:
    """MRXS and some SVS state what was scanned of a larger canvas; QuPath shows that part, and so do we."""
    from omniwsi.slide.opening import _bounds

    properties = {
        f"openslide.bounds-{k}": v for k, v in zip(("x", "y", "width", "height"), ("7", "9", "50", "40"), strict=True)
    }
    assert _bounds(properties, (100, 100)) == (7, 9, 50, 40)
    assert _bounds({}, (100, 100)) == (0, 0, 100, 100)
    assert _bounds({"openslide.bounds-x": "70"} | properties, (55, 100)) == (7, 9, 48, 40)
