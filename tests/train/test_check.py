from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omniwsi.tissues import KIDNEY
from omniwsi.train.check import check
from omniwsi.train.sheet import CELL_PX, FOUND_RGB, Cell, sheet

from .test_data import sample_of, write_pair

HEAD = "image,mask,tissue,mpp,source,stain,valid,split"


def manifest(folder: Path, *rows: str) -> Path:
    path = folder / "a.csv"
    path.write_text("\n".join([HEAD, *rows]))
    return path


def test_real_patches_are_in_order(shared: Path) -> None:
    findings = check([shared / "data" / "kidney_ki"], KIDNEY)
    assert findings.problems == []
    assert sum(group.patches for group in findings.groups) == 66
    assert [group.tissue for group in findings.groups][::4][:4] == [
        "distal_tubule",
        "proximal_tubule",
        "capsule",
        "tuft",
    ]
    trichrome = next(g for g in findings.groups if (g.tissue, g.stain) == ("distal_tubule", "tri"))
    assert max(trichrome.shares) == pytest.approx(0.59, abs=0.01)  # the exchanged labels stand out


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    for name in ("1", "2", "3", "4", "5"):
        write_pair(tmp_path, name)
    pixels = np.random.default_rng(5).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "im_2.png")
    Image.new("L", (5, 5), 255).save(tmp_path / "im_2_mask_distal.png")
    (tmp_path / "im_3.png").write_text("no picture")
    path = manifest(
        tmp_path,
        "im_1.png,im_1_mask_distal.png,tuft,1,case 1,he,,train",
        "im_2.png,im_2_mask_distal.png,tuft,1,case 2,he,,",
        "im_3.png,,tuft,1,case 3,he,,",
        "im_4.png,im_4_mask_distal.png,tuft,1,case 4,he,,",
        "im_5.png,im_5_mask_distal.png,medulla,1,case 1,he,,held-out",
        "im_5.png,im_5_mask_distal.png,vessel,1,case 1,he,,held-out",
        "im_9.png,,tuft,1,case 1,he,,",
        "im_1.png,,tuft,zero,case 1,he,,",
        "im_1.png,,tuft,1,case 1,he,,both",
    )
    problems = "\n".join(check([path, tmp_path / "nothing"], KIDNEY).problems)
    for words in (
        "line 6: unknown tissue 'medulla'",
        "there is no file",
        "mpp must be a number, not 'zero'",
        "split is train or held-out or nothing, not 'both'",
        "is 32 x 24 px but its mask is 5 x 5",
        "im_3.png cannot be read as a picture",
        "case 1 is both train and held-out",
        "im_1.png and",  # the same picture under cases 1 and 4
        "neither a folder of patches nor a .csv or .yaml manifest",
    ):
        assert words in problems, words


def test_what_is_worth_a_look(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        write_pair(tmp_path, name)
    Image.new("L", (32, 24)).save(tmp_path / "nothing.png")
    Image.new("L", (32, 24), 255).save(tmp_path / "all.png")
    path = manifest(
        tmp_path,
        "im_1.png,nothing.png,tuft,2,case,he,,",
        "im_2.png,all.png,tuft,2,case,he,,",
        "im_3.png,im_3_mask_distal.png,tuft,2,case,he,nothing.png,",
    )
    findings = check([path], KIDNEY)
    assert findings.problems == []
    said = "\n".join(findings.warnings)
    assert "an empty mask, which says that there is no tuft" in said
    assert "all of it is tuft" in said
    assert "its valid mask is empty, so it teaches nothing" in said
    assert "tuft comes from one source only" in said


def test_a_sheet_shows_label_and_result_in_place() -> None:
    mask = np.zeros((64, 128), bool)
    mask[16:48, 32:96] = True
    one = sample_of(2, mask)
    picture = np.asarray(sheet([Cell(one, "a", mask)] * 7, columns=3)).astype(int)
    assert picture.shape[1] == pytest.approx(3 * CELL_PX, abs=40)
    yellow = np.argwhere((picture == FOUND_RGB).all(-1))
    first = yellow[(yellow < CELL_PX).all(1)] - 6
    np.testing.assert_allclose(first.min(0), [32, 64], atol=1)
    np.testing.assert_allclose(first.max(0), [95, 191], atol=1)
