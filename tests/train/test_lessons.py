from __future__ import annotations

from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import pytest
import torch

from omniwsi.errors import DataError, UsageError
from omniwsi.synthetic import STAINS
from omniwsi.tissues import KIDNEY, Tissue, with_mpps
from omniwsi.train.augment import NONE, Augmentation
from omniwsi.train.data import read_patches
from omniwsi.train.lessons import Batch, Lessons, drawn_samples
from omniwsi.train.options import TrainOptions
from omniwsi.train.recipes import BEST

from .test_data import write_pair


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine patches of proximal tubules in one stain, one in another; one of distal tubules."""
    folder = tmp_path_factory.mktemp("patches")
    for source in range(9):
        write_pair(folder / "1_1_pt" / "he", f"{source}_1", (48, 48))
    write_pair(folder / "1_1_pt" / "pas", "20_1", (48, 48))
    write_pair(folder / "0_1_dt" / "he", "30_1", (48, 48))
    return folder


def lessons(data: Path, **changes: object) -> Lessons:
    recipe = replace(BEST, batch_size=5, implied=0.3)
    options = TrainOptions((data,), data, recipe, steps=7, crop_px=32)
    return Lessons(read_patches(data, KIDNEY), KIDNEY, replace(options, **changes))


def same(a: Batch, b: Batch) -> bool:
    return (
        [lesson.name for lesson in a.lessons] == [lesson.name for lesson in b.lessons]
        and torch.equal(a.pixels_BCHW, b.pixels_BCHW)
        and torch.equal(a.mask_PHW, b.mask_PHW)
        and torch.equal(a.known_PHW, b.known_PHW)
    )


def test_squares_grow_in_the_last_fifth(data: Path) -> None:
    growing = [batch.pixels_BCHW.shape[-1] for batch in lessons(data, steps=10, finish_px=64).batches(0)]
    assert growing == [32] * 8 + [64] * 2


def test_a_lesson_depends_on_seed_step_and_place_alone(data: Path) -> None:
    """Begun anywhere, made ahead by others, shared by processes: the same lessons."""
    whole = list(lessons(data).batches(0))
    assert len(whole) == 7
    assert all(len(batch.lessons) == 5 for batch in whole)
    assert all(map(same, lessons(data).batches(4), whole[4:]))
    ahead = list(lessons(data, device="cuda").batches(2))
    assert len(ahead) == 5
    assert all(map(same, ahead, whole[2:]))
    for rank, device in product(range(2), ("cpu", "cuda")):
        for part, batch in zip(lessons(data, device=device).batches(3, rank, 2), whole[3:], strict=True):
            assert same(part, Batch(batch.lessons[rank::2]))
    assert not same(whole[0], next(lessons(data, seed=1).batches(0)))
    assert not same(whole[0], whole[1])


def test_what_starts_from_nothing_starts_gently(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a fifth of the steps; from three fifths on as the recipe says, as where weights know something from the start."""
    varied: list[str] = []

    def recolor(pixels: torch.Tensor, how: Augmentation, generator: torch.Generator) -> torch.Tensor:
        varied.append(how.name)
        return pixels

    def kinds(first: int, last: int, **changes: object) -> tuple[float, float]:
        """(how many are varied strongly, how many are what a label implies) of the steps from first to last, in shares."""
        made = lessons(data, recipe=replace(BEST, batch_size=20, implied=0.5), steps=20, **changes)
        varied.clear()
        taught = [made.lesson(step, i) for step in range(first, last) for i in range(20)]
        implied = sum(lesson.sample.tissue.name not in ("proximal_tubule", "distal_tubule") for lesson in taught)
        return varied.count("strong") / len(varied), implied / len(taught)

    monkeypatch.setattr("omniwsi.train.lessons.recolor", recolor)
    assert kinds(0, 4) == (0, 0)
    between, between_implied = kinds(6, 10)
    assert 0.1 < between < 0.8
    whole, whole_implied = kinds(12, 20)
    assert whole == 1
    assert 0 < between_implied < whole_implied
    assert kinds(0, 4, init="renal6")[0] == 1


def test_parts_are_the_batch(data: Path) -> None:
    batch = next(lessons(data).batches(0))
    for count in (1, 2, 3, 5, 9):
        parts = list(batch.parts(count))
        assert tuple(lesson for part in parts for lesson in part.lessons) == batch.lessons
        assert sum(part.informed for part in parts) == batch.informed
        assert max(len(part.lessons) for part in parts) <= -(-5 // count)


def test_balanced_is_over_tissues_then_stains(data: Path) -> None:
    """One patch in eleven is of distal tubules: half of the lessons. Of ten proximal ones one is of the other stain: 1 to 3."""
    recipe = replace(BEST, batch_size=100, implied=0)
    drawn = [lesson.sample for batch in lessons(data, recipe=recipe, steps=4).batches(0) for lesson in batch.lessons]
    assert sum(s.tissue.name == "distal_tubule" for s in drawn) / 400 == pytest.approx(1 / 2, abs=0.1)
    assert sum(s.stain == "pas" for s in drawn) / 400 == pytest.approx(1 / 2 / 4, abs=0.03)
    natural = replace(recipe, balanced=False)
    drawn = [lesson.sample for batch in lessons(data, recipe=natural, steps=4).batches(0) for lesson in batch.lessons]
    assert sum(s.tissue.name == "distal_tubule" for s in drawn) / 400 == pytest.approx(1 / 11, abs=0.06)


def test_a_tissue_may_be_taught_more_often(data: Path) -> None:
    recipe = replace(BEST, batch_size=100, implied=0)
    made = lessons(data, recipe=recipe, steps=4, emphasis="distal_tubule=3")
    drawn = [lesson.sample for batch in made.batches(0) for lesson in batch.lessons]
    assert sum(s.tissue.name == "distal_tubule" for s in drawn) / 400 == pytest.approx(3 / 4, abs=0.1)


def test_patches_drawn_as_they_are_have_no_emphasis(data: Path) -> None:
    with pytest.raises(UsageError, match="--emphasis is for --sampling balanced"):
        lessons(data, recipe=replace(BEST, balanced=False), emphasis="distal_tubule=3")


def test_a_tissue_without_a_patch_cannot_be_taught_more_often(data: Path) -> None:
    with pytest.raises(DataError, match="--emphasis names vessel, of which nothing is labelled here: leave it out"):
        lessons(data, emphasis="distal_tubule=3,vessel=4")


def test_stains_without_a_tissue_are_a_quarter_of_its_lessons(tmp_path: Path) -> None:
    """Three pictures without tubules, a stain each, beside one with."""
    write_pair(tmp_path / "1_1_pt" / "he", "1_1", (48, 48))
    for i, stain in enumerate(("pas", "sil", "tri")):
        write_pair(tmp_path / "1_1_pt" / stain, f"{i + 2}_1", (48, 48), present=False)
    recipe = replace(BEST, batch_size=100, implied=0)
    drawn = [
        lesson.sample for batch in lessons(tmp_path, recipe=recipe, steps=4).batches(0) for lesson in batch.lessons
    ]
    assert sum(sample.stain == "he" for sample in drawn) / 400 == pytest.approx(3 / 4, abs=0.08)
    assert {sample.stain for sample in drawn} == {"he", "pas", "sil", "tri"}


def test_drawn_sections_at_the_pixel_size_of_each_tissue() -> None:
    """Asked for at another one, a tissue is drawn at that; what a drawing does not know is left out."""
    own = Tissue("cast", 6, "Casts", 1.0, "#000000", 10.0)
    samples = list(drawn_samples(1, 0, (*with_mpps(KIDNEY, "ptc=0.5"), own), side_um=128))
    assert len(samples) == len(STAINS) * len(KIDNEY)
    sides = {sample.tissue.name: sample.mask_HW.shape for sample in samples}
    assert sides == {t.name: (round(128 / t.mpp),) * 2 for t in KIDNEY[:5]} | {"ptc": (256, 256)}
    fine = [sample for sample in drawn_samples(1, 0, KIDNEY, side_um=128) if sample.tissue.name == "ptc"]
    coarse = [sample for sample in samples if sample.tissue.name == "ptc"]
    for a, b in zip(fine, coarse, strict=True):
        assert (a.mask_HW.reshape(256, 2, 256, 2).mean((1, 3)) > 0.5).mean() == pytest.approx(
            b.mask_HW.mean(), abs=0.01
        )


def test_what_labels_imply_is_taught_at_the_pixel_size_asked_for(data: Path) -> None:
    """A label says something of every tissue up to twice as fine: of capillaries too, once they are no finer."""
    patches = read_patches(data, KIDNEY)
    options = TrainOptions((data,), data, replace(BEST, implied=1.0, batch_size=40), steps=1, crop_px=32, init="renal6")

    def taught(mpps: str) -> set[str]:
        (batch,) = Lessons(patches, with_mpps(KIDNEY, mpps), options).batches(0)
        return {lesson.sample.tissue.name for lesson in batch.lessons}

    assert "ptc" not in taught("")
    assert "ptc" in taught("ptc=1")


def test_fewer_and_fewer_squares_lie_on_tissue(tmp_path: Path) -> None:
    """At first all, as this recipe says; at the end only those that would by chance: a slide is mostly something else."""
    write_pair(tmp_path / "0_1_dt" / "he", "1_1", (256, 256))
    recipe = replace(BEST, augmentation=NONE, implied=0, on_tissue=1)
    taught = Lessons(
        read_patches(tmp_path, KIDNEY), KIDNEY, TrainOptions((tmp_path,), tmp_path, recipe, steps=1000, crop_px=32)
    )
    first, last = (sum(bool(taught.lesson(step, i).crop.mask_SS.any()) for i in range(40)) for step in (0, 999))
    assert first == 40
    assert last < 20


def test_all_labels_of_a_picture_are_taught_at_once(tmp_path: Path) -> None:
    """A lesson of one tissue brings along what is labelled of others in the same picture at the same mpp, cut alike."""
    write_pair(tmp_path / "data", "1_1", (48, 48))
    image, mask = "data/im_1_1.png", "data/im_1_1_mask_distal.png"
    rows = [
        f"{image},{mask},distal_tubule,1.0,s,he",
        f"{image},{mask},vessel,1.0,s,he",
        f"{image},,proximal_tubule,1.0,s,he",
        f"{image},{mask},tuft,1.0,s,he",  # at another mpp: a lesson of its own
        f"{image},{mask},ptc,1.0,s,he",  # and so, though the same pixels wait to be enlarged
    ]
    manifest = tmp_path / "patches.csv"
    manifest.write_text("image,mask,tissue,mpp,source,stain\n" + "\n".join(rows) + "\n")
    recipe = replace(BEST, batch_size=20, implied=0)
    options = TrainOptions((manifest,), tmp_path, recipe, steps=1, crop_px=32)
    (batch,) = Lessons(read_patches(manifest, KIDNEY), KIDNEY, options).batches(0)
    assert len(batch.pixels_BCHW) == 20
    at_1_um = {"distal_tubule", "proximal_tubule", "vessel"}
    labels = iter(zip(batch.tissue_P.tolist(), batch.mask_PHW, batch.known_PHW, strict=True))
    for lesson in batch.lessons:
        own = lesson.sample.tissue.name
        beside = at_1_um - {own} if own in at_1_um else set()
        assert {tissue.name for tissue in lesson.beside} == beside
        told = {KIDNEY[tissue].name: (mask, known) for tissue, mask, known in islice(labels, 1 + len(beside))}
        assert next(iter(told)) == own
        if own in at_1_um:
            assert torch.equal(told["vessel"][0], told["distal_tubule"][0])
            assert not told["proximal_tubule"][0].any()
            assert torch.equal(told["vessel"][1], told["proximal_tubule"][1])
    assert batch.image_P is not None
    assert batch.image_P.bincount().tolist() == [1 + len(lesson.beside) for lesson in batch.lessons]
    parts = list(batch.parts(3))
    assert torch.cat([part.tissue_P for part in parts]).equal(batch.tissue_P)
    assert torch.cat([part.known_PHW for part in parts]).equal(batch.known_PHW)
    taught = Lessons(read_patches(manifest, KIDNEY), KIDNEY, replace(options, device="cuda"))
    (ahead,) = taught.batches(0)
    assert same(ahead, batch)
    assert [lesson.beside for lesson in ahead.lessons] == [lesson.beside for lesson in batch.lessons]
    own = {id(taught.lesson(0, i).sample) for i in range(20)}
    assert {id(lesson.sample) for lesson in ahead.lessons} == own  # themselves, not copies
