from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omniwsi.errors import DataError
from omniwsi.tissues import KIDNEY, Tissue, with_mpps
from omniwsi.train.data import (
    Patch,
    Sample,
    all_as_stored,
    as_stored,
    at_mpp,
    folds_by_source,
    implied,
    load,
    read_fold,
    read_patches,
    read_split,
    split_by_source,
)


def write_pair(
    folder: Path, name: str, size: tuple[int, int] = (32, 24), tissue: str = "distal", present: bool = True
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(folder / f"im_{name}.png")
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[4:10, 5:15] = 255 * present
    Image.fromarray(mask).save(folder / f"im_{name}_mask_{tissue}.png")


def test_the_published_layout(tmp_path: Path) -> None:
    write_pair(tmp_path / "0_1_dt" / "he", "76_3")
    write_pair(tmp_path / "5_3_ptc" / "pas", "86_1", tissue="PTC_lumen")
    (tmp_path / "README.md").write_text("not a patch")
    distal, ptc = read_patches(tmp_path, KIDNEY)
    assert (distal.tissue.name, distal.mpp, distal.source, distal.stain) == ("distal_tubule", 1.0, "he/76", "he")
    assert (ptc.tissue.name, ptc.mpp, ptc.source) == ("ptc", 0.25, "pas/86")
    sample = load(distal)
    assert sample.pixels_HWC.shape == (24, 32, 3)
    assert sample.mask_HW.sum() == 60
    assert sample.known_HW.all()


def test_the_real_patches(shared: Path) -> None:
    patches = read_patches(shared / "data" / "kidney_ki", KIDNEY)
    assert len(patches) == 66
    assert {patch.tissue.name for patch in patches} == {tissue.name for tissue in KIDNEY}
    assert {patch.stain for patch in patches} == {"he", "pas", "sil", "tri"}
    sample = load(patches[0])
    assert sample.pixels_HWC.shape == (256, 256, 3)
    assert 0 < sample.mask_HW.mean() < 1


def test_a_manifest(tmp_path: Path) -> None:
    write_pair(tmp_path / "data", "1")
    rows = ["image,mask,tissue,mpp,source,stain", "data/im_1.png,data/im_1_mask_distal.png,tuft,1.0,case 1,pas"]
    rows.append("data/im_1.png,,vessel,0.5,colon 3,he")
    (tmp_path / "a.csv").write_text("\n".join(rows))
    tuft, vessel = read_patches(tmp_path / "a.csv", KIDNEY)
    assert load(tuft).mask_HW.shape == (12, 16)  # 1 um brought to the 2 um of tufts
    nothing = load(vessel)
    assert not nothing.mask_HW.any()
    assert nothing.known_HW.all()


def test_the_same_manifest_as_yaml(tmp_path: Path) -> None:
    write_pair(tmp_path / "data", "1")
    Image.new("L", (32, 24), 255).save(tmp_path / "data" / "valid.png")
    (tmp_path / "a.csv").write_text(
        "image,mask,tissue,mpp,source,stain,valid,split\n"
        "data/im_1.png,data/im_1_mask_distal.png,tuft,1.0,7,pas,data/valid.png,held-out\n"
    )
    (tmp_path / "a.yaml").write_text(
        "- {image: data/im_1.png, mask: data/im_1_mask_distal.png, tuft: no, tissue: tuft, mpp: 1,\n"
        "   source: 7, stain: pas, valid: data/valid.png, split: held-out}\n"
    )
    assert read_patches(tmp_path / "a.yaml", KIDNEY) == read_patches(tmp_path / "a.csv", KIDNEY)
    for text, words in (("- [1", "is no YAML"), ("a: b", "must be a list"), ("- {image: a}", "entry 1 lacks")):
        (tmp_path / "b.yaml").write_text(text)
        with pytest.raises(DataError, match=words) as caught:
            read_patches(tmp_path / "b.yaml", KIDNEY)
        assert "\n" not in str(caught.value)


def test_a_valid_mask_says_where_the_label_speaks(tmp_path: Path) -> None:
    write_pair(tmp_path, "1")
    valid = np.zeros((24, 32), np.uint8)
    valid[:, :16] = 1
    Image.fromarray(valid).save(tmp_path / "valid.png")
    patch = Patch(tmp_path / "im_1.png", tmp_path / "im_1_mask_distal.png", KIDNEY[0], 1.0, "s", "he")
    sample = load(replace(patch, valid=tmp_path / "valid.png"))
    np.testing.assert_array_equal(sample.known_HW, valid > 0)
    np.testing.assert_array_equal(sample.mask_HW, load(patch).mask_HW)


def test_a_manifest_may_decide_the_split(tmp_path: Path) -> None:
    """Sources that it names stand where it says; the rest is split at random; one source on both sides is refused."""
    rows = ["image,mask,tissue,mpp,source,stain,split"]
    for i in range(12):
        write_pair(tmp_path, f"{i}")
        split = {0: "train", 1: "held-out"}.get(i, "")
        rows.append(f"im_{i}.png,im_{i}_mask_distal.png,tuft,2,case {i},he,{split}")
    (tmp_path / "a.csv").write_text("\n".join(rows))
    for seed in range(6):
        learn, judging = read_split([tmp_path / "a.csv"], KIDNEY, 0.3, seed)
        assert "case 0" in {patch.source for patch in learn}
        assert "case 1" in {patch.source for patch in judging}
        assert len(judging) == 1 + 3
    assert [patch.source for patch in read_split([tmp_path / "a.csv"], KIDNEY, 0, 0)[1]] == ["case 1"]
    (tmp_path / "a.csv").write_text("\n".join([*rows, "im_3.png,,vessel,1,case 1,he,train"]))
    with pytest.raises(DataError, match="case 1 is both train and held-out"):
        read_split([tmp_path / "a.csv"], KIDNEY, 0.3, 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,mask,tissue,mpp,source,stain\na,b,tuft,0,s,he\n", "mpp must be micrometres a pixel"),
        ("image,mask,tissue\n", "lacks the columns mpp, source, stain"),
        ("image,mask,tissue,mpp,source,stain\na,b,medulla,1,s,he\n", r"line 2: unknown tissue 'medulla'; known are"),
        ("image,mask,tissue,mpp,source,stain\na,b,tuft,small,s,he\n", "mpp must be a number, not 'small'"),
        ("image,mask,tissue,mpp,source,stain\na.png,b.png,tuft,1,s,he\n", "there is no file"),
        ("image,mask,tissue,mpp,source,stain\n", "holds no patches"),
    ],
)
def test_manifests_that_are_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_patches(tmp_path / "a.csv", KIDNEY)
    assert "\n" not in str(caught.value)


def test_folders_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no patches"):
        read_patches(tmp_path, KIDNEY)
    with pytest.raises(DataError, match=r"neither a folder of patches nor a \.csv or \.yaml manifest"):
        read_patches(tmp_path / "nothing", KIDNEY)
    write_pair(tmp_path / "0_1_dt" / "he", "76_3")
    (tmp_path / "0_1_dt" / "he" / "im_76_3_mask_distal.png").unlink()
    with pytest.raises(DataError, match="has 0 masks beside it; it needs one"):
        read_patches(tmp_path, KIDNEY)


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    write_pair(tmp_path / "0_1_dt" / "he", "76_3")
    Image.new("L", (5, 5)).save(tmp_path / "0_1_dt" / "he" / "im_76_3_mask_distal.png")
    (patch,) = read_patches(tmp_path, KIDNEY)
    with pytest.raises(DataError, match=r"is 32 x 24 px but its mask is 5 x 5; they must be equal"):
        load(patch)


def test_sources_are_never_split() -> None:
    rng = np.random.default_rng(0)
    patches = [
        Patch(Path(f"{i}"), None, KIDNEY[i % 6], 1.0, f"source {rng.integers(30)}", "he" if i % 2 else "pas")
        for i in range(200)
    ]
    for seed in range(5):
        learn, judging = split_by_source(patches, 0.25, seed)
        assert not {p.source for p in learn} & {p.source for p in judging}
        assert sorted(learn + judging, key=lambda p: int(p.image.name)) == patches
        for tissue in KIDNEY:
            assert any(p.tissue == tissue for p in judging)
            assert any(p.tissue == tissue for p in learn)
    assert split_by_source(patches, 0.25, 1) == split_by_source(patches, 0.25, 1)
    assert split_by_source(patches, 0.0)[1] == []


def test_folds_hold_every_source_once_and_spread_each_tissue(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    patches = [
        Patch(Path(f"{i}"), None, KIDNEY[i % 6], 1.0, f"source {rng.integers(60)}", "he" if i % 2 else "pas")
        for i in range(240)
    ]
    placed = folds_by_source(patches, 4, seed=0)
    assert set(placed) == {patch.source for patch in patches}
    assert set(placed.values()) == {0, 1, 2, 3}
    for tissue in KIDNEY:
        counts = [sum(p.tissue == tissue and placed[p.source] == fold for p in patches) for fold in range(4)]
        assert max(counts) - min(counts) <= 6, counts  # of ten each
    assert folds_by_source(patches, 4, seed=0) == placed
    assert folds_by_source(patches, 4, seed=1) != placed
    with pytest.raises(DataError, match="70 folds need as many sources"):
        folds_by_source(patches, 70)
    for source in range(5):
        write_pair(tmp_path / "0_1_dt" / "he", f"{source}_1")
    judged = [patch for fold in range(3) for patch in read_fold([tmp_path], KIDNEY, fold, 3, 0)[1]]
    assert sorted(patch.source for patch in judged) == [f"he/{source}" for source in range(5)]


def test_what_a_manifest_calls_train_is_taught_in_every_fold(tmp_path: Path) -> None:
    """Helping data beside the patches that are judged."""
    for source in range(6):
        write_pair(tmp_path / "judged" / "0_1_dt" / "he", f"{source}_1")
        write_pair(tmp_path, f"{source}_1")
    rows = [
        f"im_{source}_1.png,im_{source}_1_mask_distal.png,distal_tubule,1,other {source},he,train"
        for source in range(6)
    ]
    (tmp_path / "beside.csv").write_text("\n".join(["image,mask,tissue,mpp,source,stain,split", *rows]))
    for fold in range(3):
        learn, judging = read_fold([tmp_path / "judged", tmp_path / "beside.csv"], KIDNEY, fold, 3, 0)
        assert {f"other {source}" for source in range(6)} <= {patch.source for patch in learn}
        assert len(judging) == 2
        assert len(learn) == 10


def test_another_collection_moves_no_line(tmp_path: Path) -> None:
    """What was held out of one collection stays so when others are taught beside it, even under the same source's name."""
    for source in range(8):
        write_pair(tmp_path / "a" / "0_1_dt" / "he", f"{source}_1")
        write_pair(tmp_path / "b" / "1_1_pt" / "he", f"{source + 4}_1")
    _, alone = read_split([tmp_path / "a"], KIDNEY, 0.25, 0)
    learn, judging = read_split([tmp_path / "a", tmp_path / "b"], KIDNEY, 0.25, 0)
    assert len(learn) + len(judging) == 16
    assert {patch.source for patch in alone} <= {patch.source for patch in judging}
    assert not {patch.source for patch in learn} & {patch.source for patch in judging}


def sample_of(index: int, mask_HW: np.ndarray) -> Sample:
    pixels = np.full((*mask_HW.shape, 3), 200, np.uint8)
    return Sample(pixels, mask_HW, np.ones_like(mask_HW), KIDNEY[index], "s", "he")


def write_square(folder: Path, tissue_folder: str, px: int = 40) -> Path:
    """A patch whose mask is a square from (12, 8) to (28, 24) of 40 px, larger where the patch is."""
    mask = np.zeros((40, 40), bool)
    mask[8:24, 12:28] = True
    mask = mask.repeat(px // 40, 0).repeat(px // 40, 1)
    place = folder / tissue_folder / "he"
    place.mkdir(parents=True)
    Image.fromarray(np.full((px, px, 3), 200, np.uint8)).save(place / "im_1_1.png")
    Image.fromarray(mask).save(place / "im_1_1_mask.png")
    return folder


def implied_of(folder: Path, tissues: Sequence[Tissue] = KIDNEY) -> dict[str, Sample]:
    (patch,) = read_patches(folder, KIDNEY)
    said = implied(as_stored(patch), patch.mpp, tissues)
    return {sample.tissue.name: at_mpp(sample, patch.mpp) for sample in said}


def test_a_tubule_is_nothing_else(tmp_path: Path) -> None:
    said = implied_of(write_square(tmp_path, "1_1_pt"))
    # Enlarged from 1 um to 0.25 um it would show nothing of capillaries.
    assert set(said) == {"distal_tubule", "vessel", "capsule", "tuft"}
    for other in said.values():
        assert not other.mask_HW.any()
    assert said["vessel"].known_HW.sum() == 16 * 16
    assert said["vessel"].known_HW[8:24, 12:28].all()
    assert said["capsule"].known_HW.shape == (20, 20)
    assert said["capsule"].known_HW.sum() == 8 * 8


def test_labels_imply_tissues_up_to_twice_as_fine(tmp_path: Path) -> None:
    said = implied_of(write_square(tmp_path, "1_1_pt"), with_mpps(KIDNEY, "ptc=0.5"))
    assert said["ptc"].known_HW.shape == (80, 80)
    assert not said["ptc"].mask_HW.any()
    known = said["ptc"].known_HW
    assert known[20:44, 28:52].all()
    assert not known[:14].any()
    assert not known[:, 58:].any()


def test_what_is_implied_comes_from_the_pixels_as_stored(tmp_path: Path) -> None:
    """A glomerulus labelled at 0.5 um tells of tubules at their 1 um: not of what was made smaller for 2 um before."""
    folder = write_square(tmp_path, "2_2_capsule", px=80)
    rng = np.random.default_rng(0)
    image = folder / "2_2_capsule" / "he" / "im_1_1.png"
    Image.fromarray(rng.integers(0, 255, (80, 80, 3), np.uint8)).save(image)
    tubule = implied_of(folder)["proximal_tubule"]
    expected = Image.open(image).resize((40, 40), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(tubule.pixels_HWC, np.asarray(expected))


def test_what_glomeruli_imply(tmp_path: Path) -> None:
    said = implied_of(write_square(tmp_path / "capsule", "2_0_capsule"))
    assert set(said) == {"tuft", "distal_tubule", "proximal_tubule", "vessel"}
    assert said["tuft"].known_HW.sum() == 40 * 40 - 16 * 16
    assert not said["tuft"].known_HW[8:24, 12:28].any()
    assert said["distal_tubule"].known_HW.shape == (80, 80)
    assert not any(other.mask_HW.any() for other in said.values())
    inside = implied_of(write_square(tmp_path / "tuft", "3_0_tuft"))
    np.testing.assert_array_equal(inside["capsule"].known_HW, inside["capsule"].mask_HW)
    assert inside["capsule"].mask_HW.sum() == 16 * 16
    assert not inside["vessel"].mask_HW.any()


def test_known_is_only_what_is_wholly_known() -> None:
    known = np.ones((40, 40), bool)
    known[:, 20:] = False
    mask = np.zeros((40, 40), bool)
    sample = Sample(np.zeros((40, 40, 3), np.uint8), mask, known, KIDNEY[2], "s", "he")
    half = at_mpp(sample, 1.0)
    assert half.known_HW.shape == (20, 20)
    assert half.known_HW[:, :9].all()
    assert not half.known_HW[:, 10:].any()


def test_what_is_read_ahead_is_what_is_read_one_by_one(tmp_path: Path) -> None:
    """In order, more than are read at once; rows that name one picture share its pixels."""
    for source in range(30):
        write_pair(tmp_path / "0_1_dt" / "he", f"{source}_1", (32, 24 + source))
    patches = [patch for patch in read_patches(tmp_path, KIDNEY) for _ in range(2)]
    ahead = list(all_as_stored(patches))
    for patch, sample in zip(patches, ahead, strict=True):
        twin = as_stored(patch)
        assert (sample.image, sample.source, sample.tissue) == (twin.image, twin.source, twin.tissue)
        for plane in ("pixels_HWC", "mask_HW", "known_HW"):
            np.testing.assert_array_equal(getattr(sample, plane), getattr(twin, plane))
    assert len({id(sample.pixels_HWC) for sample in ahead}) == 30
    patches[40].image.write_bytes(b"no picture")
    with pytest.raises(DataError, match=f"{patches[40].image.name} cannot be read"):
        list(all_as_stored(patches))
