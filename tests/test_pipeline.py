"""The pipeline, with a network of six lines: what it promises has nothing to do with what a network finds."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
import zarr
from PIL import Image

from omniwsi import pipeline, tracing
from omniwsi.errors import RunExists, TooCoarse, UnknownTissue
from omniwsi.geometry import Frame
from omniwsi.grid import Tile
from omniwsi.metrics import dice
from omniwsi.mosaic import Mosaic
from omniwsi.pipeline import Progress, SegmentResult, segment_slide
from omniwsi.plan import SegmentOptions, make_plan
from omniwsi.pyramid import read_channel
from omniwsi.run import RESULTS
from omniwsi.slide import ArraySlide, Vicinity, find_foreground
from omniwsi.tissues import KIDNEY, Tissue

from .conftest import ColorModel, blobs, bytes_of

TWO = "tuft,vessel"


@pytest.fixture(scope="module")
def slide() -> ArraySlide:
    """1.2 x 0.8 mm of tissue with glass around it."""
    pixels = np.full((1800, 2600, 3), 245, np.uint8)
    pixels[100:1700, 100:2500] = blobs(2400, 1600)
    return ArraySlide(pixels, 0.5, name="case 7.svs")


def run(slide: ArraySlide, folder: Path, model: ColorModel | None = None, **how: object) -> SegmentResult:
    options = SegmentOptions(**({"tissues": TWO} | how))
    return segment_slide(slide, folder, model or ColorModel(), "sha", options)


@pytest.fixture(scope="module")
def done(slide: ArraySlide, tmp_path_factory: pytest.TempPathFactory) -> SegmentResult:
    return run(slide, tmp_path_factory.mktemp("done") / "case 7")


def test_everything_promised_is_there(done: SegmentResult) -> None:
    assert sorted(path.name for path in done.folder.iterdir()) == sorted([*RESULTS, "run.json"])
    manifest = json.loads((done.folder / "run.json").read_text())
    assert manifest["status"] == "done"
    assert manifest["slide"]["mpp"] == [0.5, 0.5]
    assert manifest["slide"]["mpp_source"] == "given"
    assert manifest["weights"]["sha256"] == "sha"
    assert [sweep["mpp"] for sweep in manifest["sweeps"]] == [2.0, 1.0]
    assert manifest["sweeps"][0]["tissues"] == ["tuft"]
    assert set(manifest["sweeps"][0]["seconds"]) == {"read", "network", "mosaic"}
    assert list(manifest["stages"]) == ["read", "network", "mosaic", "pyramid", "contours"]
    for beside in ("pyramid", "contours"):  # these two run at once
        in_turn = [seconds for stage, seconds in manifest["stages"].items() if stage != beside]
        assert sum(in_turn) <= manifest["seconds"] + 0.1
    assert set(manifest["tissues"]) == {"tuft", "vessel"}


def test_the_files_agree_with_each_other(done: SegmentResult) -> None:
    features = json.loads(done.contours.read_text())["features"]
    with done.table.open() as file:
        rows = list(csv.DictReader(file))
    manifest = json.loads((done.folder / "run.json").read_text())
    assert [feature["id"] for feature in features] == [row["id"] for row in rows]
    assert len({row["id"] for row in rows}) == len(rows) > 10
    for item in done.found:
        mine = [row for row in rows if row["tissue"] == item.tissue.name]
        assert item.objects == len(mine) == manifest["tissues"][item.tissue.name]["objects"]
        assert item.area_mm2 == pytest.approx(sum(float(row["area_um2"]) for row in mine) / 1e6, rel=1e-4)
        assert min(float(row["area_um2"]) for row in mine) >= 0.5 * item.tissue.min_area_um2


def test_probabilities_are_those_of_the_network(done: SegmentResult, slide: ArraySlide) -> None:
    """At the base resolution, near tissue, a pixel is round(255 p) of what the network says; far glass is 0."""
    model = ColorModel()
    frame = Frame.at(1.0, slide.info.mpp)
    tile = slide.read(done_box := frame.g_box_from_l0(slide.info.l0_box), frame)
    vessel = model.decode(tile[None], [KIDNEY[4]])[0, 0]
    found = read_channel(done.pyramid, 1)
    assert found.shape == done_box.shape
    weight = Vicinity(find_foreground(slide), slide.info.mpp).weight(done_box, frame)
    assert not found[weight == 0].any()
    covered = (found > 0) & (weight == 1)
    assert np.abs(found[covered] - 255 * vessel[covered]).max() <= 1.5


def test_contours_surround_what_the_pyramid_shows(slide: ArraySlide, tmp_path: Path) -> None:
    """All of it: holes are not filled."""
    done = run(slide, tmp_path, min_hole="vessel=0")
    features = json.loads(done.contours.read_text())["features"]
    shapes = [
        shapely.from_geojson(json.dumps(f["geometry"]))
        for f in features
        if f["properties"]["classification"]["name"] == "vessel"
    ]
    found = read_channel(done.pyramid, 1) >= 128
    y, x = (np.indices(found.shape) + 0.5) * 2.0  # level-0 pixels
    inside = np.zeros(found.size, bool)
    tree = shapely.STRtree(shapely.points(x.ravel(), y.ravel()))
    for shape in shapes:
        inside[tree.query(shape, "contains")] = True
    assert dice(inside.reshape(found.shape), found) > 0.97  # small objects are left out


@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize("workers", [1, 4])
def test_same_bytes_whatever_the_batch(
    slide: ArraySlide, done: SegmentResult, tmp_path: Path, batch_size: int, workers: int
) -> None:
    again = run(slide, tmp_path / "a", batch_size=batch_size, workers=workers)
    assert bytes_of(again.folder) == bytes_of(done.folder)


def test_same_bytes_where_tensors_stay_on_a_gpu(slide: ArraySlide, done: SegmentResult, tmp_path: Path) -> None:
    """A processor that counts as two GPUs."""
    kept: list[int] = []

    class OnGPU(ColorModel):
        kind, devices = "cuda", ("cuda:0", "cuda:1")

        def decode_on_device(self, features: np.ndarray, tissues: Sequence[Tissue]) -> torch.Tensor:
            kept.append(len(features))
            return torch.from_numpy(self.decode(features, tissues))

    again = run(slide, tmp_path, OnGPU())
    assert max(kept) > 16, "a batch is as large as for a processor"
    assert bytes_of(again.folder) == bytes_of(done.folder)


def test_the_network_does_not_wait_for_blending(
    slide: ArraySlide, done: SegmentResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first tiles are not blended before the second batch is begun."""
    begun = threading.Semaphore(0)

    class Telling(ColorModel):
        def encode(self, pixels_BHWC: np.ndarray) -> np.ndarray:
            begun.release()
            return super().encode(pixels_BHWC)

    add, overlapped = Mosaic.add, []

    def add_late(mosaic: Mosaic, tiles: Sequence[Tile], probs_BTHW: np.ndarray) -> None:
        if not overlapped:
            overlapped.append(begun.acquire(timeout=20) and begun.acquire(timeout=20))
        add(mosaic, tiles, probs_BTHW)

    monkeypatch.setattr(Mosaic, "add", add_late)
    result = run(slide, tmp_path, Telling(), batch_size=2)
    assert overlapped == [True]
    assert bytes_of(result.folder) == bytes_of(done.folder)


@pytest.mark.parametrize("which", ["encode", "decode"])
def test_an_error_of_the_network_ends_the_run(
    slide: ArraySlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """With its own words, and no thread left behind."""

    def broken(*args: object) -> np.ndarray:
        raise ZeroDivisionError("no such number")

    monkeypatch.setattr(ColorModel, which, broken)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError, match="no such number"):
        run(slide, tmp_path)
    assert threading.active_count() == before


def test_the_trunk_sees_each_tile_once_per_sweep(slide: ArraySlide, tmp_path: Path) -> None:
    """Six tissues at three scales: as many tiles as three walks have, none of them six times."""
    model = ColorModel()
    options = SegmentOptions()
    plan = make_plan(slide, model.card.tissues, model.card.tile_px, options)
    segment_slide(slide, tmp_path / "a", model, "sha", options)
    assert model.tiles_encoded == plan.tile_count == sum(len(sweep.tiles) for sweep in plan.sweeps)
    assert len(plan.sweeps) == 3


def test_flips_see_each_tile_eight_times_and_are_another_run(slide: ArraySlide, tmp_path: Path) -> None:
    """A network that looks at each pixel alone finds the same whichever way a tile lies."""
    model = ColorModel()
    once = run(slide, tmp_path / "a", model, tissues="tuft")
    tiles, model.tiles_encoded = model.tiles_encoded, 0
    eight_times = run(slide, tmp_path / "b", model, tissues="tuft", flips=True)
    assert model.tiles_encoded == 8 * tiles
    assert [found.objects for found in eight_times.found] == [found.objects for found in once.found]
    with pytest.raises(RunExists, match="flips"):
        run(slide, tmp_path / "a", model, tissues="tuft", flips=True)


def test_glass_is_not_looked_at(tmp_path: Path) -> None:
    pixels = np.full((3000, 3000, 3), 245, np.uint8)
    pixels[1200:1700, 1000:1900] = blobs(900, 500)
    model = ColorModel()
    run(ArraySlide(pixels, 0.5), tmp_path / "a", model, tissues="vessel")
    assert 0 < model.tiles_encoded < 0.35 * (1500 / 48) ** 2 / 2
    whole = ColorModel()
    run(ArraySlide(pixels, 0.5), tmp_path / "b", whole, tissues="vessel", foreground="none")
    assert whole.tiles_encoded == 31**2


def test_a_slide_with_nothing_on_it_is_a_finished_run(tmp_path: Path) -> None:
    result = run(ArraySlide(np.full((900, 1200, 3), 244, np.uint8), 0.5), tmp_path / "a")
    assert [item.objects for item in result.found] == [0, 0]
    assert any("nothing on the slide looks like tissue" in warning for warning in result.warnings)
    assert json.loads((result.folder / "run.json").read_text())["status"] == "done"
    assert json.loads(result.contours.read_text())["features"] == []
    assert sorted(path.name for path in result.folder.iterdir()) == sorted([*RESULTS, "run.json"])


def test_a_done_run_is_not_done_again(slide: ArraySlide, done: SegmentResult) -> None:
    model = ColorModel()
    before = bytes_of(done.folder)
    again = run(slide, done.folder, model)
    assert again.already_done
    assert model.tiles_encoded == 0
    assert again.found == tuple(
        replace(item, area_mm2=round(item.area_mm2, 6), share=round(item.share, 6)) for item in done.found
    )
    assert bytes_of(done.folder) == before
    with pytest.raises(RunExists, match=r"threshold 0\.5, now 0\.3"):
        run(slide, done.folder, threshold=0.3)


class Stop(BaseException):
    pass


def stopping(after: int) -> Callable[[Progress], None]:
    calls = 0

    def tell(progress: Progress) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Stop

    return tell


@pytest.fixture(scope="module")
def steps(slide: ArraySlide, tmp_path_factory: pytest.TempPathFactory) -> list[Progress]:
    """All that an unbroken run tells."""
    told: list[Progress] = []
    options = SegmentOptions(tissues=TWO, batch_size=8)
    segment_slide(slide, tmp_path_factory.mktemp("told"), ColorModel(), "sha", options, tell=told.append)
    return told


def test_progress_only_grows(steps: list[Progress]) -> None:
    assert list(dict.fromkeys(step.stage for step in steps)) == ["tiles", "contours", "pyramid"]
    for stage in ("tiles", "contours", "pyramid"):
        counts = [step.done for step in steps if step.stage == stage]
        assert counts == sorted(counts)
    tiles = [step for step in steps if step.stage == "tiles"]
    assert tiles[-1].done == tiles[-1].total
    assert sum(step.mm2 for step in tiles) == pytest.approx(
        1.8 * 2.6 / 4 * 2, rel=0.1
    )  # two sweeps over nearly everything


@pytest.mark.parametrize("share", [0, 0.05, 0.3, 0.6, 0.9, 0.97, 1])
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(
    slide: ArraySlide, done: SegmentResult, steps: list[Progress], tmp_path: Path, share: float
) -> None:
    """`tell` is called between any two steps: in each sweep, in the pyramid, in the contours."""
    after = round(share * (len(steps) - 1))
    options = SegmentOptions(tissues=TWO, batch_size=8)
    with pytest.raises(Stop):
        segment_slide(slide, tmp_path, ColorModel(), "sha", options, tell=stopping(after))
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped"
    assert not any((tmp_path / name).exists() for name in RESULTS)
    model = ColorModel()
    result = segment_slide(slide, tmp_path, model, "sha", options)
    assert not result.already_done
    assert bytes_of(tmp_path) == bytes_of(done.folder)
    if steps[after].stage != "tiles":
        assert model.tiles_encoded == 0


def test_a_pyramid_that_fails_ends_the_run(slide: ArraySlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own cause, and without tracing to the end what nobody gets."""
    traced: list[Progress] = []

    def fail(path: Path, spec: object, layers: object, tell: object, workers: int) -> None:
        raise OSError(28, "No space left on device")

    def tell(progress: Progress) -> None:
        if progress.stage == "contours":
            traced.append(progress)
            time.sleep(0.2)  # the pyramid fails meanwhile

    monkeypatch.setattr(pipeline, "write_pyramid", fail)
    with pytest.raises(OSError, match="No space left"):
        segment_slide(slide, tmp_path, ColorModel(), "sha", SegmentOptions(tissues=TWO), tell=tell)
    assert len(traced) <= 1
    assert json.loads((tmp_path / "run.json").read_text())["status"] != "done"


def test_a_pyramid_that_fails_while_the_last_sweep_is_walked_ends_the_run(
    slide: ArraySlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are cores for it, it follows that sweep."""
    failed, told = threading.Event(), []

    def fail(path: Path, spec: object, layers: object, tell: object, workers: int) -> None:
        failed.set()
        raise OSError(28, "No space left on device")

    def tell(progress: Progress) -> None:
        told.append(progress)
        if failed.wait(0.01):
            time.sleep(0.2)

    monkeypatch.setattr(pipeline, "write_pyramid", fail)
    options = SegmentOptions(tissues=TWO, workers=4, batch_size=1)
    with pytest.raises(OSError, match="No space left"):
        segment_slide(slide, tmp_path, ColorModel(), "sha", options, tell=tell)
    assert {step.stage for step in told} == {"tiles"}
    assert 0 < told[-1].done < told[-1].total


def test_what_follows_a_sweep_ends_with_it(slide: ArraySlide, tmp_path: Path) -> None:
    """The pyramid waits for rows that never come, and the tracers, too."""

    class Failing(ColorModel):
        def decode(self, features: np.ndarray, tissues: Sequence[Tissue]) -> np.ndarray:
            if tissues[0].name == slowest:
                raise ValueError("no network")
            return super().decode(features, tissues)

    slowest = TWO.split(",")[-1]
    with pytest.raises(ValueError, match="no network"):
        segment_slide(slide, tmp_path, Failing(), "sha", SegmentOptions(tissues=TWO, workers=4))
    assert json.loads((tmp_path / "run.json").read_text())["status"] != "done"


def test_contours_that_fail_end_the_pyramid(slide: ArraySlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its next shard, and not hours later."""
    ended_by: list[BaseException] = []

    def endless(path: Path, spec: object, layers: object, tell: Callable[[int, int], None], workers: int) -> None:
        try:
            while True:
                tell(0, 1)
                time.sleep(0.01)
        except BaseException as error:
            ended_by.append(error)
            raise

    def fail(*_: object) -> None:
        raise ValueError("no outline")

    monkeypatch.setattr(pipeline, "write_pyramid", endless)
    monkeypatch.setattr(tracing, "trace", fail)
    with pytest.raises(ValueError, match="no outline"):
        segment_slide(slide, tmp_path, ColorModel(), "sha", SegmentOptions(tissues=TWO))
    assert len(ended_by) == 1


KILLED = """
import sys, time
from pathlib import Path
from tests.test_pipeline import ColorModel, SegmentOptions, ArraySlide, blobs, segment_slide, TWO
import numpy as np

class Slow(ColorModel):
    def encode(self, pixels):
        time.sleep(0.004)
        return super().encode(pixels)

pixels = np.full((1800, 2600, 3), 245, np.uint8)
pixels[100:1700, 100:2500] = blobs(2400, 1600)
print("ready", flush=True)
segment_slide(ArraySlide(pixels, 0.5, name="case 7.svs"), Path(sys.argv[1]), Slow(), "sha", SegmentOptions(tissues=TWO))
print("done", flush=True)
"""


def test_killed_again_and_again_it_ends_with_the_same_bytes(done: SegmentResult, tmp_path: Path) -> None:
    """SIGKILL asks nobody. Each time a little later, until it gets through."""
    for attempt in range(40):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[1],
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.4 + 0.8 * attempt)
        process.kill()
        finished = "done" in process.stdout.read()
        process.stdout.close()
        process.wait()
        if finished:
            break
        content = json.loads((tmp_path / "run.json").read_text()) if (tmp_path / "run.json").exists() else {}
        assert content.get("status") != "done" or all((tmp_path / name).exists() for name in RESULTS)
    assert attempt >= 2
    assert bytes_of(tmp_path) == bytes_of(done.folder)


def test_the_order_asked_is_the_order_of_channels(slide: ArraySlide, tmp_path: Path) -> None:
    result = run(slide, tmp_path / "a", tissues="vessel,tuft")
    channels = zarr.open_group(result.pyramid, mode="r").attrs.asdict()["ome"]["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["vessel", "tuft"]
    assert [item.tissue.name for item in result.found] == ["vessel", "tuft"]


def test_threshold_and_smallest_area(slide: ArraySlide, done: SegmentResult, tmp_path: Path) -> None:
    strict = run(slide, tmp_path / "a", threshold=0.8)
    assert all(a.area_mm2 < b.area_mm2 for a, b in zip(strict.found, done.found, strict=True))
    large = run(slide, tmp_path / "b", min_area="vessel=20000")
    assert large.found[1].objects < done.found[1].objects
    assert large.found[0].objects == done.found[0].objects


def test_an_artery_holds_its_lumen(tmp_path: Path) -> None:
    """A lumen of up to 0.1 mm2, unless its hole is asked for; other tissues keep their holes."""
    pixels = np.full((600, 600, 3), 245, np.uint8)
    y, x = np.indices((600, 600)) - 300
    pixels[(np.hypot(x, y) < 200) & (np.hypot(x, y) > 100)] = 20
    slide = ArraySlide(pixels, 1.0)

    def areas(folder: str, **how: object) -> list[float]:
        found = run(slide, tmp_path / folder, tissues="vessel,proximal_tubule", foreground="none", **how).found
        return [item.area_mm2 * 1e6 for item in found]

    disc, ring = (math.pi * (200**2 - inner**2) for inner in (0, 100))
    assert areas("a") == pytest.approx([disc, ring], rel=0.02)
    assert areas("b", min_hole="vessel=0") == pytest.approx([ring, ring], rel=0.02)


def test_nothing_is_a_glomerulus_half_a_millimetre_across(tmp_path: Path) -> None:
    """Of two discs of 400 and 500 um units are the smaller one alone, unless larger ones are asked for; vessels are both."""
    pixels = np.full((700, 1400, 3), 245, np.uint8)
    y, x = np.indices((700, 1400))
    pixels[(np.hypot(x - 350, y - 350) < 200) | (np.hypot(x - 1000, y - 350) < 250)] = 20
    slide = ArraySlide(pixels, 1.0)

    def objects(folder: str, **how: object) -> list[int]:
        found = run(slide, tmp_path / folder, tissues="capsule,vessel", foreground="none", **how).found
        return [item.objects for item in found]

    assert objects("a") == [1, 2]
    assert objects("b", max_area="capsule=0,vessel=150000") == [2, 1]


def test_objects_that_are_not_sure(slide: ArraySlide, done: SegmentResult, tmp_path: Path) -> None:
    """They are in no list and no picture; the probabilities keep them. What was not asked for leaves no trace in run.json."""
    confident = run(slide, tmp_path, min_confidence="vessel=1")
    assert confident.found[1].objects == 0 < done.found[1].objects
    assert confident.found[0].objects == done.found[0].objects
    before, after = (json.loads((result.folder / "run.json").read_text())["options"] for result in (done, confident))
    assert after == before | {"min_confidence": "vessel=1"}
    assert (confident.found[1].unsure, done.found[1].unsure) == (done.found[1].objects, 0)
    assert any("min-confidence vessel=0" in warning for warning in confident.warnings)
    assert not any("unsure" in warning for warning in done.warnings)
    ours, theirs = (zarr.open_group(result.pyramid, mode="r")["0"][:] for result in (confident, done))
    np.testing.assert_array_equal(ours, theirs)


def test_unsure_objects_are_counted(slide: ArraySlide, done: SegmentResult, tmp_path: Path) -> None:
    """As when all are found first and looked at afterwards; those that stay are the same, ids and all. Asked again, the run says the same."""
    with done.table.open() as file:
        every = [row for row in csv.DictReader(file) if row["tissue"] == "vessel"]
    least = float(np.median([float(row["confidence"]) for row in every])) + 1e-6
    asked = run(slide, tmp_path, min_confidence=f"vessel={least}")
    with asked.table.open() as file:
        sure = [row for row in csv.DictReader(file) if row["tissue"] == "vessel"]
    assert sure == [row for row in every if float(row["confidence"]) >= least]
    vessel, unsure = asked.found[1], [row for row in every if row not in sure]
    assert 0 < vessel.unsure == len(unsure)
    assert vessel.unsure_mm2 == pytest.approx(sum(float(row["area_um2"]) for row in unsure) / 1e6, rel=1e-4)
    again = run(slide, tmp_path, min_confidence=f"vessel={least}")
    assert again.already_done
    assert again.warnings == asked.warnings
    assert (again.found[1].unsure, again.found[1].unsure_mm2) == (
        vessel.unsure,
        pytest.approx(vessel.unsure_mm2, abs=1e-6),
    )


def roi(path: Path, x0: int, y0: int, x1: int, y1: int) -> Path:
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    return path


def test_results_end_at_the_border_of_a_region(slide: ArraySlide, tmp_path: Path) -> None:
    model = ColorModel()
    result = run(
        slide, tmp_path / "a", model, roi=roi(tmp_path / "roi.geojson", 600, 400, 1400, 1200), tissues="vessel"
    )
    found = read_channel(result.pyramid, 0)
    assert found[200:600, 300:700].any()
    found = found.copy()
    found[200:600, 300:700] = 0
    assert not found.any()
    with result.table.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        x0, y0, x1, y1 = (float(row[f"bbox_{key}_px"]) for key in ("x0", "y0", "x1", "y1"))
        assert min(x0 - 600, y0 - 400, 1400 - x1, 1200 - y1) > -1.1
        at_border = min(x0 - 600, y0 - 400, 1400 - x1, 1200 - y1) < 1.1
        assert (row["touches_edge"] == "1") == at_border
    assert any(row["touches_edge"] == "1" for row in rows)
    assert model.tiles_encoded < 130


def test_where_to_look_from_a_file(slide: ArraySlide, tmp_path: Path) -> None:
    mask = np.zeros((180, 260), np.uint8)
    mask[50:100, 100:160] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    models = [ColorModel(), ColorModel()]
    run(slide, tmp_path / "a", models[0], foreground=str(tmp_path / "mask.png"), tissues="vessel")
    drawn = roi(tmp_path / "mask.geojson", 1000, 500, 1600, 1000)
    run(slide, tmp_path / "b", models[1], foreground=str(drawn), tissues="vessel")
    assert 20 < models[0].tiles_encoded < 80
    assert models[1].tiles_encoded == pytest.approx(models[0].tiles_encoded, abs=15)


def test_a_slide_too_coarse_for_a_tissue(tmp_path: Path) -> None:
    coarse = ArraySlide(blobs(600, 500), 0.6, name="coarse.svs")
    with pytest.raises(TooCoarse, match=r"too coarse for ptc; pass --tissues tuft$"):
        run(coarse, tmp_path / "a", tissues="tuft,ptc")
    assert not (tmp_path / "a").exists()
    enlarged = run(ArraySlide(blobs(600, 500), 0.504), tmp_path / "b", tissues="ptc")
    assert enlarged.warnings == ("pixels of 0.504 um were enlarged 2.02 times for ptc, learnt at 0.25 um",)
    assert json.loads((tmp_path / "b" / "run.json").read_text())["warnings"] == list(enlarged.warnings)


def test_a_slide_smaller_than_a_tile(tmp_path: Path) -> None:
    result = run(
        ArraySlide(blobs(50, 40, size=3), 0.5), tmp_path / "a", tissues="vessel", min_area="0", foreground="none"
    )
    assert read_channel(result.pyramid, 0).shape == (20, 25)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    pixels = blobs(800, 800)
    slide = ArraySlide(pixels, (0.5, 0.25))
    result = run(slide, tmp_path / "a", tissues="vessel")
    assert read_channel(result.pyramid, 0).shape == (200, 400)
    assert "pixels are not square" not in result.warnings  # an array's size was given by whoever made it
    with result.table.open() as file:
        for row in csv.DictReader(file):
            assert float(row["centroid_x_um"]) == pytest.approx(float(row["centroid_x_px"]) * 0.5, abs=0.01)
            assert float(row["centroid_y_um"]) == pytest.approx(float(row["centroid_y_px"]) * 0.25, abs=0.01)


def test_unknown_tissue(slide: ArraySlide, tmp_path: Path) -> None:
    with pytest.raises(UnknownTissue):
        run(slide, tmp_path / "a", tissues="medulla")
    assert not (tmp_path / "a").exists()
