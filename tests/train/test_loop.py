from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch
from PIL import Image

from omniwsi.errors import DataError, UsageError
from omniwsi.model.card import Form, HeadShape, ModelCard
from omniwsi.model.checkpoint import load_model, sha256_of
from omniwsi.model.omniseg import OmniSeg, scale_code
from omniwsi.synthetic import draw_section
from omniwsi.tissues import KIDNEY, Tissue
from omniwsi.train import loop
from omniwsi.train.beginning import new_model, start_heads_apart
from omniwsi.train.data import read_tissue
from omniwsi.train.log import Progress
from omniwsi.train.loop import train
from omniwsi.train.optimisers import Muon
from omniwsi.train.options import METHODS, TrainOptions
from omniwsi.train.recipes import BEST, MIDL2022, Recipe, find_recipe

SIDE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn patches as the published ones are laid out, four sources a tissue."""
    folder = tmp_path_factory.mktemp("patches")
    for source in range(4):
        section = draw_section(260, 260, "pas", seed=source, mpp=1.0, to_the_edge=True)
        for index, name in ((0, "0_1_dt"), (1, "1_1_pt")):
            place = folder / name / "pas"
            place.mkdir(parents=True, exist_ok=True)
            y = 60 + 70 * index
            crop = (slice(y, y + 64), slice(100, 164))
            Image.fromarray(section.pixels_HWC[crop]).save(place / f"im_{source}_{index}.png")
            mask = section.truth_THW[index][crop].astype(np.uint8) * 255
            Image.fromarray(mask).save(place / f"im_{source}_{index}_mask_x.png")
    return folder


def options(data: Path, out: Path, **changes: object) -> TrainOptions:
    small = replace(BEST, batch_size=2, warmup_steps=2)
    made = TrainOptions((data,), out, small, steps=6, crop_px=SIDE, judge_every=3, log_every=1, name="test")
    return replace(made, **changes)


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "weights.safetensors").state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_a_training_leaves_weights_that_say_what_they_are(data: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    result = train(options(data, tmp_path), told.append)
    assert [progress.step for progress in told] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(progress.loss) for progress in told)
    model = load_model(result.weights)
    assert model.card.name == "test"
    assert model.card.tile_px == SIDE
    assert model.card.training["steps"] == 6
    assert set(result.dice) == {"distal_tubule", "proximal_tubule"}
    assert model.card.figures["held_out_dice"] == result.dice
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[2]["distal_tubule"] != ""


def test_the_same_seed_gives_the_same_weights(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(options(data, tmp_path / name, steps=2))
    train(options(data, tmp_path / "c", steps=2, seed=1))
    assert same(state(tmp_path / "a"), state(tmp_path / "b"))
    assert not same(state(tmp_path / "a"), state(tmp_path / "c"))


class Stop(BaseException):
    pass


@pytest.mark.parametrize("after", [3, 4])
def test_a_stopped_training_goes_on_bit_for_bit(data: Path, tmp_path: Path, after: int) -> None:
    train(options(data, tmp_path / "whole"))

    def stop(progress: Progress) -> None:
        if progress.step == after:
            raise Stop

    with pytest.raises(Stop):
        train(options(data, tmp_path / "stopped"), stop)
    steps: list[int] = []
    train(options(data, tmp_path / "stopped"), lambda progress: steps.append(progress.step))
    assert steps[0] == after + 1  # a stop saves, whenever it comes
    assert same(state(tmp_path / "whole"), state(tmp_path / "stopped"))
    with pytest.raises(DataError, match="was begun with other options"):
        train(options(data, tmp_path / "stopped", seed=3))


def test_what_is_killed_outright_goes_on_from_a_few_minutes_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes made as short as a step. After a SIGKILL there is what was on disk by then."""
    train(options(data, tmp_path / "whole"))
    monkeypatch.setattr(loop, "_SAVED_EVERY_S", 0)

    def take_along(progress: Progress) -> None:
        if progress.step == 4:
            shutil.copytree(tmp_path / "running", tmp_path / "killed")

    train(options(data, tmp_path / "running", judge_every=100), take_along)
    steps: list[int] = []
    train(options(data, tmp_path / "killed"), lambda progress: steps.append(progress.step))
    assert steps[0] == 5
    assert same(state(tmp_path / "whole"), state(tmp_path / "killed"))


def test_a_stop_while_weights_move_waits_for_the_last_of_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(options(data, tmp_path / "whole"))
    move, moved = Muon.step, Counter[str]()

    def stop_in_the_fourth(self: Muon) -> None:
        moved["times"] += 1
        if moved["times"] == 4:
            signal.raise_signal(signal.SIGTERM)
        move(self)

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop

    monkeypatch.setattr(Muon, "step", stop_in_the_fourth)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Stop):
            train(options(data, tmp_path / "stopped"))
    finally:
        assert signal.signal(signal.SIGTERM, before) is stop
    steps: list[int] = []
    train(options(data, tmp_path / "stopped"), lambda progress: steps.append(progress.step))
    assert steps[0] == 5
    assert same(state(tmp_path / "whole"), state(tmp_path / "stopped"))


@pytest.fixture(scope="module")
def several_labels(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of the same patches, in half of which a second tissue is labelled, at the same mpp."""
    rows = ["image,mask,tissue,mpp,source,stain"]
    for image in sorted(data.glob("*/pas/im_?_?.png")):
        mask = image.with_name(f"{image.stem}_mask_x.png")
        source, index = image.stem.split("_")[1:]
        own, other = ("distal_tubule", "proximal_tubule")[:: 1 - 2 * int(index)]
        rows.append(f"{image},{mask},{own},1.0,{source},pas")
        if int(source) % 2:
            rows.append(f"{image},,{other},1.0,{source},pas")
    manifest = tmp_path_factory.mktemp("several") / "patches.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


@pytest.mark.parametrize("patches", ["data", "several_labels"])
def test_a_batch_in_parts_is_the_same_lesson(
    patches: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Also where some patches say nothing, and a part may have none that does. By SGD, as in `shared_work`, in float32."""
    monkeypatch.setattr("omniwsi.train.loop.best_precision", lambda kind: "float32")
    data = request.getfixturevalue(patches)
    blind = replace(MIDL2022, batch_size=5, balanced=True, implied=0.5)
    losses: dict[int, list[float]] = {}
    for accumulate in (1, 2, 5):
        told: list[Progress] = []
        made = options(data, tmp_path / str(accumulate), recipe=blind, accumulate=accumulate, steps=3)
        train(made, told.append)
        losses[accumulate] = [progress.loss for progress in told]
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    assert losses[5] == pytest.approx(losses[1], rel=1e-4)


SHARED_WORK = """
import sys
from pathlib import Path
from tests.train.test_loop import shared_work
shared_work(*map(Path, sys.argv[1:]))
"""


def shared_work(data: Path, out: Path) -> None:
    """By SGD: first steps of AdamW and Muon have the size of the learning rate whatever the gradient, and magnify how sums are rounded."""
    recipe = replace(MIDL2022, batch_size=4, balanced=True)
    train(options(data, out, steps=4, recipe=recipe, form="multi-head"))  # whose processes may teach different heads


def test_two_processes_learn_what_one_does(data: Path, tmp_path: Path) -> None:
    """torchrun, each with its half of every batch: the losses of one process with the whole."""
    script = tmp_path / "train.py"
    script.write_text(SHARED_WORK)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    result = subprocess.run(
        [sys.executable, *command, str(data), str(tmp_path / "two")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    shared_work(data, tmp_path / "one")
    one, two = (
        [float(row["loss"]) for row in csv.DictReader((tmp_path / name / "log.csv").read_text().splitlines())]
        for name in ("one", "two")
    )
    assert len(two) == 4
    assert two == pytest.approx(one, rel=1e-4)


def test_a_loss_that_is_no_number_names_what_was_taught(data: Path, tmp_path: Path) -> None:
    wild = replace(BEST, batch_size=2, warmup_steps=0, learning_rate=1e30)
    with pytest.raises(DataError, match=r"the loss became .* taught by .*im_\d_\d\.png \((dis|prox)") as caught:
        train(options(data, tmp_path, recipe=wild, steps=20))
    assert "\n" not in str(caught.value)


def test_too_little_memory_names_the_flag(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("omniwsi.train.loop._forward", full)
    with pytest.raises(UsageError, match=r"out of memory with 2 patches of 32 px at a time; pass --accumulate 2$"):
        train(options(data, tmp_path / "a"))
    with pytest.raises(UsageError, match="pass a smaller --crop"):
        train(options(data, tmp_path / "b", accumulate=2))


def test_what_was_taught_and_found_is_kept(data: Path, tmp_path: Path) -> None:
    """How often each tissue and stain was taught; a picture of the held-out patches; the best weights so far."""
    result = train(options(data, tmp_path))
    taught = json.loads((tmp_path / "lessons.json").read_text())
    assert sum(taught.values()) == 6 * 2
    assert all(name.endswith("/pas") for name in taught)
    with Image.open(tmp_path / "judged.jpg") as picture:
        assert picture.width > 256
    best = load_model(tmp_path / "best.safetensors").card.figures["held_out_dice"]
    assert np.mean(list(best.values())) >= np.mean(list(result.dice.values()))


FIRST_LOSSES = Path(__file__).parent / "first_losses.json"


def first_losses(recipe: Recipe, data: Path, out: Path) -> list[float]:
    told: list[Progress] = []
    small = replace(recipe, batch_size=2, warmup_steps=min(2, recipe.warmup_steps))
    train(options(data, out, recipe=small, steps=10), told.append)
    return [progress.loss for progress in told]


@pytest.mark.parametrize("recipe", [BEST, MIDL2022], ids=lambda recipe: recipe.name)
def test_the_first_ten_losses(recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A golden file, in float32: a change of data, augmentation, loss or optimiser is never made by chance."""
    monkeypatch.setattr("omniwsi.train.loop.best_precision", lambda kind: "float32")
    golden = json.loads(FIRST_LOSSES.read_text())[recipe.name]
    # Another processor rounds otherwise, which AdamW and Muon magnify (see shared_work); another lesson differs by far more.
    tolerance = 0.05 if recipe.optimiser == "muon" else 0.005
    assert first_losses(recipe, data, tmp_path) == pytest.approx(golden, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_by_the_published_recipe(method: str, data: Path, tmp_path: Path) -> None:
    """A step changes the network, and the file knows what it is."""
    form = METHODS[method]
    made = options(data, tmp_path, steps=1, form=form, recipe=replace(MIDL2022, batch_size=2))
    start = new_model(made).state_dict()
    result = train(made)
    assert load_model(result.weights).card.form == form
    assert not same(state(tmp_path), start)


def test_the_published_numbers() -> None:
    """Deng et al., MIDL 2022: SGD, Nesterov momentum 0.99, 1e-3 falling by a polynomial of 0.9, batches of 4."""
    assert (MIDL2022.optimiser, MIDL2022.learning_rate, MIDL2022.schedule, MIDL2022.batch_size) == (
        "sgd",
        1e-3,
        "polynomial",
        4,
    )


def test_drawings_alone_can_teach(tmp_path: Path) -> None:
    made = TrainOptions(
        (), tmp_path, replace(BEST, batch_size=2), steps=2, crop_px=SIDE, drawn_share=1.0, drawn_sections=1
    )
    assert train(made).dice == {}


def test_going_on_from_weights(data: Path, tmp_path: Path) -> None:
    first = train(options(data, tmp_path / "a", steps=2))
    second = train(options(data, tmp_path / "b", steps=1, init=str(first.weights)))
    start, end = state(tmp_path / "a"), state(tmp_path / "b")
    change = max((start[name] - end[name]).abs().max().item() for name in start)
    assert 0 < change < 0.05
    training = load_model(second.weights).card.training
    assert training["init"] == {"sha256": sha256_of(first.weights), **load_model(first.weights).card.training}


@pytest.fixture
def casts(data: Path, tmp_path: Path) -> tuple[Path, Tissue]:
    """The same patches as of a new tissue, and a patch of an old one that must teach nothing."""
    rows = ["image,mask,tissue,mpp,source,stain"]
    for image in sorted((data / "0_1_dt" / "pas").glob("im_?_?.png")):
        rows.append(f"{image},{image.with_name(image.stem + '_mask_x.png')},cast,1.0,{image.stem},pas")
    rows.append(f"{image},,distal_tubule,1.0,{image.stem},pas")
    (tmp_path / "casts.csv").write_text("\n".join(rows))
    (tmp_path / "cast.yaml").write_text("{name: cast, mpp: 1.0, color: '#aa00ff', min_area_um2: 300}")
    return tmp_path / "casts.csv", read_tissue(tmp_path / "cast.yaml")


@pytest.mark.parametrize("form", ["concat", "trilinear"])
def test_a_new_tissue_leaves_the_old_ones_bit_for_bit(
    form: Form, data: Path, casts: tuple[Path, Tissue], tmp_path: Path
) -> None:
    """Weights and logits of the six are equal afterwards; the seventh has learnt; the card says where each came from."""
    manifest, tissue = casts
    first = train(options(data, tmp_path / "six", steps=1, form=form))
    made = options(manifest, tmp_path / "seven", init=str(first.weights), add_tissue=tissue, form=form, steps=3)
    untaught = new_model(made)
    result = train(made)
    assert set(result.dice) == {"cast"}
    before, after = load_model(first.weights), load_model(result.weights)
    assert [tissue.name for tissue in after.card.tissues[6:]] == ["cast"]
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        six, seven = (model.decode(model.encode(x), KIDNEY) for model in (before, after))
        torch.testing.assert_close(seven, six, rtol=0, atol=0)
        new = after.card.tissues[6:]
        assert not torch.equal(after.decode(after.encode(x), new), untaught.eval().decode(untaught.encode(x), new))
    for name, value in before.state_dict().items():
        assert name == "controller.weight" or torch.equal(after.state_dict()[name], value)
    origins = after.card.training["tissues_from"]
    assert origins["cast"] == "casts.csv"
    assert all(origins[old.name] == data.name for old in KIDNEY)


@pytest.mark.parametrize(("form", "least", "most"), [("concat", 0.03, 0.1), ("trilinear", 0, 0.004)])
def test_a_tissue_that_learns_alone_takes_larger_steps(
    form: Form, least: float, most: float, data: Path, casts: tuple[Path, Tissue], tmp_path: Path
) -> None:
    """Of concat alone: there its 162 numbers are the head, and have far to go."""
    manifest, tissue = casts
    first = train(options(data, tmp_path / "six", steps=1, form=form))
    made = options(manifest, tmp_path / "seven", init=str(first.weights), add_tissue=tissue, form=form, steps=3)
    untaught = new_model(made).state_dict()["controller.weight"]
    train(made)
    last = torch.load(tmp_path / "seven" / "last.pt", weights_only=True)["model"]["controller.weight"]
    assert least < (last - untaught).abs().max().item() < most


def test_sampling_that_is_asked_for_is_taken() -> None:
    assert [find_recipe("best", sampling=how).balanced for how in (None, "balanced", "natural")] == [True, True, False]
    assert find_recipe("midl2022", sampling="balanced").balanced


def test_a_rate_that_is_asked_for_is_taken() -> None:
    assert (
        find_recipe("best", learning_rate=5e-4).alone_rate
        == 5e-4
        == find_recipe("best", learning_rate=5e-4).learning_rate
    )


def test_a_new_tissue_may_tune_all(data: Path, casts: tuple[Path, Tissue], tmp_path: Path) -> None:
    manifest, tissue = casts
    first = train(options(data, tmp_path / "six", steps=1))
    made = options(
        manifest, tmp_path / "seven", init=str(first.weights), add_tissue=tissue, tune_all=True, steps=2, held_out=0.3
    )
    after = load_model(train(made).weights)
    before = load_model(first.weights).state_dict()
    assert not torch.equal(after.state_dict()["trunk.stem.weight"], before["trunk.stem.weight"])
    assert after.card.training["tissues_from"]["tuft"].endswith(", then casts.csv")


def test_tissues_that_cannot_be_added(data: Path, casts: tuple[Path, Tissue], tmp_path: Path) -> None:
    manifest, tissue = casts
    first = str(train(options(data, tmp_path / "six", steps=1)).weights)
    for changes, words in (
        ({"init": first, "add_tissue": replace(tissue, name="tuft")}, "knows tuft already"),
        ({"init": first, "form": "tal"}, "go on from it with the same --method"),
    ):
        with pytest.raises(UsageError, match=words):
            train(options(manifest if "add_tissue" in changes else data, tmp_path / "x", **changes))
    for text, words in (("{name: cast}", "is no tissue"), ("- a", "is no tissue"), ("[", "is no YAML")):
        (tmp_path / "wrong.yaml").write_text(text)
        with pytest.raises(DataError, match=words) as caught:
            read_tissue(tmp_path / "wrong.yaml")
        assert "\n" not in str(caught.value)


def test_a_tissue_is_learnt_at_the_pixel_size_asked_for(data: Path, tmp_path: Path) -> None:
    """It stands on the card, and a network that begins there keeps it; whoever says another one later is refused."""
    first = train(options(data, tmp_path / "first", steps=1, mpps="ptc=0.5")).weights
    assert [tissue.mpp for tissue in load_model(first).card.tissues] == [1.0, 1.0, 2.0, 2.0, 1.0, 0.5]
    second = train(options(data, tmp_path / "second", steps=1, init=str(first), mpps="distal_tubule=2")).weights
    assert [tissue.mpp for tissue in load_model(second).card.tissues] == [2.0, 1.0, 2.0, 2.0, 1.0, 0.5]
    with pytest.raises(DataError, match="begun with other options"):
        train(options(data, tmp_path / "first", steps=2))


def test_tiles_may_be_larger_than_the_squares_that_taught(data: Path, tmp_path: Path) -> None:
    """And what is taught stays the same."""
    small, large = (
        load_model(train(options(data, tmp_path / name, steps=2, tile_px=side)).weights)
        for name, side in (("small", None), ("large", 2 * SIDE))
    )
    assert (small.card.tile_px, large.card.tile_px) == (SIDE, 2 * SIDE)
    assert same(small.state_dict(), large.state_dict())


def test_heads_of_another_shape(data: Path, tmp_path: Path) -> None:
    """DoDNet's ablations: they stand on the card, and who goes on from there gets them without asking."""
    shape = HeadShape(depth=2, width=4, condition="task")
    first = train(options(data, tmp_path / "first", steps=1, head=shape)).weights
    assert load_model(first).card.head == shape
    second = train(options(data, tmp_path / "second", steps=1, init=str(first))).weights
    assert load_model(second).card.head == shape
    with pytest.raises(UsageError, match="heads of 2 layers of 4 channels that depend on task"):
        train(options(data, tmp_path / "x", init=str(first), head=HeadShape()))
    by_image = train(options(data, tmp_path / "image", steps=1, head=HeadShape(condition="image"))).weights
    tissue = replace(KIDNEY[0], name="cast")
    with pytest.raises(UsageError, match="a tissue can be added to the dynamic head that is told of tissues alone"):
        new_model(options(data, tmp_path / "x", init=str(by_image), add_tissue=tissue))
    with pytest.raises(UsageError, match="--condition is for --method dynamic"):
        options(data, tmp_path, head=HeadShape(condition="image"), form="trilinear")


def test_tensorboard_reads_what_was_logged(data: Path, tmp_path: Path) -> None:
    """Stopped and gone on: every step once, as in the table."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    asked = options(data, tmp_path, tensorboard=True)

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(asked, stop)
    train(asked)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == pytest.approx([e.value for e in events.Scalars("loss")], abs=1e-5)
    assert [event.step for event in events.Scalars("Dice/proximal_tubule")] == [3, 6]
    assert rows[-1]["proximal_tubule"]
    assert [event.step for event in events.Images("judged")] == [3, 6]


def test_a_missing_tensorboard_is_said_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match="omniwsi\\[tensorboard\\]"):
        train(options(tmp_path / "no such data", tmp_path / "out", tensorboard=True))
    assert not (tmp_path / "out").exists()


def test_a_log_of_steps_that_are_done_again_is_taken_back(data: Path, tmp_path: Path) -> None:
    """Killed between two savings: the table has every step once."""
    train(options(data, tmp_path, steps=3))
    with (tmp_path / "log.csv").open("a") as file:
        file.write("4,1.0,1.0\n5,1.0,1.0\n")
    train(options(data, tmp_path))
    with (tmp_path / "log.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 2, 3, 4, 5, 6]


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to learn from"):
        train(TrainOptions((), tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "--steps and --batch-size are at least 1"),
        ({"recipe": replace(BEST, batch_size=0)}, "--steps and --batch-size are at least 1"),
        ({"add_tissue": KIDNEY[0]}, "--add-tissue needs the weights it is added to"),
        ({"add_tissue": KIDNEY[0], "init": "a", "drawn_share": 0.1}, "--drawn knows the six of the kidney only"),
        ({"accumulate": 3}, "--accumulate is from 1 to the batch size, 2, not 3"),
        ({"recipe": replace(BEST, learning_rate=0)}, "--learning-rate is more than 0, not 0"),
        ({"crop_px": 100}, "--crop is a multiple of 16 pixels, as 256 is, not 100"),
        ({"tile_px": 8}, "--tile is a multiple of 16 pixels, as 256 is, not 8"),
        ({"held_out": 1.0}, "--held-out is a share from 0 up to 1, as in 0.25, not 1"),
        ({"drawn_share": -0.1}, "--drawn is a share from 0 to 1, not -0.1"),
    ],
)
def test_options_that_cannot_be_meant(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        options(tmp_path, tmp_path, **changes)


@pytest.mark.parametrize("form", ["concat", "trilinear"])
def test_every_head_starts_alive_and_of_its_own(form: str) -> None:
    """On tissue, hidden units of all heads fire somewhere, and no two tissues say the same."""
    torch.manual_seed(0)
    model = OmniSeg(ModelCard("a", form, KIDNEY, 64))
    start_heads_apart(model)
    section = draw_section(200, 200, "he", mpp=1.0, to_the_edge=True).pixels_HWC[:192, :192]
    x = torch.from_numpy(section).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        logits = model.decode(model.encode(x), KIDNEY)[0]
    spread = (logits[:, 1] - logits[:, 0]).flatten(1).std(1)
    assert (spread > 0.02).all()
    for i in range(6):
        for j in range(i):
            assert (logits[i] - logits[j]).abs().mean() > 0.02


def test_scales_of_the_trilinear_form() -> None:
    assert [scale_code(tissue.mpp) for tissue in KIDNEY] == [1, 1, 0, 0, 1, 3]
