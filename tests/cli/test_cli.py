"""The command line as a person meets it: as processes, by their words and exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from omniwsi import load_model
from omniwsi.cli.main import app
from omniwsi.slide.writing import write_slide

from ..conftest import blobs


def omniwsi(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "omniwsi", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "100", "TERM": "dumb"} | environment,
        timeout=300,
    )


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slides") / "case 7.tiff"
    write_slide(path, blobs(1200, 900), 0.5)
    return path


def test_help_fits_a_screen_and_names_every_command() -> None:
    result = omniwsi("--help")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    for command in ("segment", "info", "demo", "doctor", "train", "evaluate", "compare", "data", "weights"):
        assert any(line.strip("│ ").startswith(command) for line in lines)


@pytest.mark.parametrize(
    "command",
    [
        "segment",
        "info",
        "demo",
        "doctor",
        "train",
        "evaluate",
        "compare",
        "data",
        "data check",
        "weights",
        "weights import",
    ],
)
def test_every_command_has_help_on_one_screen(command: str) -> None:
    result = omniwsi(*command.split(), "--help")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) <= 60


def test_nothing_typed_shows_help() -> None:
    assert "Usage" in omniwsi().stdout + omniwsi().stderr


def test_version() -> None:
    result = omniwsi("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("omniwsi 0.")


def test_completion_is_offered() -> None:
    assert "--install-completion" in omniwsi("--help").stdout
    assert app.info.name == "omniwsi"


def test_segment_from_end_to_end(slide: Path, weights: Path, tmp_path: Path) -> None:
    arguments = ("segment", slide, "-o", tmp_path / "results", "--weights", weights, "--tissues", "tuft,vessel")
    result = omniwsi(*arguments)
    assert result.returncode == 0, result.stderr
    assert "Glomerular tufts" in result.stdout
    assert "Share of tissue" in result.stdout
    assert str(tmp_path / "results" / "case 7") in result.stdout.replace("\n", "")
    folder = tmp_path / "results" / "case 7"
    assert sorted(path.name for path in folder.iterdir()) == [
        "contours.geojson",
        "objects.csv",
        "overview.jpg",
        "run.json",
        "segmentation.ome.zarr",
    ]
    again = omniwsi(*arguments)
    assert again.returncode == 0
    assert "already done" in again.stdout
    other = omniwsi(*arguments, "--threshold", 0.3)
    assert other.returncode == 1
    assert "another option (threshold 0.5, now 0.3)" in other.stderr
    assert omniwsi(*arguments, "--threshold", 0.3, "--overwrite").returncode == 0


def test_json_is_all_there_is_on_standard_output(slide: Path, weights: Path, tmp_path: Path) -> None:
    result = omniwsi(
        "segment", slide, tmp_path / "no.svs", "-o", tmp_path, "--weights", weights, "--tissues", "tuft", "--json"
    )
    assert result.returncode == 1
    summary = json.loads(result.stdout)
    assert summary["failed"] == 1
    done, failed = summary["slides"]
    assert set(done["tissues"]) == {"tuft"}
    assert done["tissues"]["tuft"]["objects"] >= 0
    assert "there is no file" in failed["error"]
    assert "Glomerular tufts" in result.stderr


def test_dry_run_says_what_would_be_done_and_does_nothing(slide: Path, weights: Path, tmp_path: Path) -> None:
    result = omniwsi("segment", slide, "-o", tmp_path / "results", "--weights", weights, "--dry-run", "--json")
    assert result.returncode == 0
    (plan,) = json.loads(result.stdout)["slides"]
    assert [sweep["mpp"] for sweep in plan["sweeps"]] == [2.0, 1.0, 0.25]
    assert plan["tiles"] == sum(sweep["tiles"] for sweep in plan["sweeps"]) > 100
    assert plan["scratch_bytes"] > 0
    assert plan["seconds"] > 0
    assert not (tmp_path / "results").exists()
    assert "would be walked so" in omniwsi("segment", slide, "--weights", weights, "--dry-run").stdout
    no_slide = tmp_path / "no_slide.svs"
    no_slide.write_text("no")
    result = omniwsi("segment", slide, no_slide, "--weights", weights, "--dry-run")
    assert result.stderr.splitlines()[-1] == "1 of 2 slides could be walked"


def one_line_error(result: subprocess.CompletedProcess[str], status: int) -> str:
    """The only line that begins with error, and no traceback."""
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    return errors[0]


def test_bad_slides_are_named_and_the_others_done(slide: Path, weights: Path, edge: Path, tmp_path: Path) -> None:
    bad = ["empty.svs", "text_renamed.svs", "unopenable.tiff", "unreadable.svs", "boxes.tiff"]
    good = ["re_ome_pyramid_um.ome.tif", "re_tiled_pyr_cm.tif", "small.svs"]
    result = omniwsi(
        "segment",
        *(edge / name for name in sorted(bad + good)),
        slide,
        "-o",
        tmp_path,
        "--weights",
        weights,
        "--tissues",
        "tuft",
    )
    assert result.returncode == 1
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert [next(name for name in bad if name in line) for line in errors] == sorted(bad)
    assert "4 of 9 slides done" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"case 7", "re_ome_pyramid_um", "re_tiled_pyr_cm", "small"}


@pytest.mark.parametrize("name", ["empty.svs", "text_renamed.svs", "unopenable.tiff", "unreadable.svs", "boxes.tiff"])
def test_each_bad_slide_is_one_line(name: str, weights: Path, edge: Path, tmp_path: Path) -> None:
    result = omniwsi("segment", edge / name, "-o", tmp_path / "results", "--weights", weights)
    assert name in one_line_error(result, 1)
    assert not (tmp_path / "results" / name.split(".")[0]).exists()


def test_a_slide_that_breaks_on_the_way_leaves_nothing_that_looks_finished(
    wsi: Path, weights: Path, tmp_path: Path
) -> None:
    """Its first half reads, its thumbnail too: the damage shows only in the walk."""
    whole = (wsi / "CMU-1-Small-Region.svs").read_bytes()
    damaged = bytearray(whole)
    middle = len(whole) // 2
    damaged[middle : middle + 60_000] = bytes(60_000)
    (tmp_path / "damaged.svs").write_bytes(damaged)
    mask = tmp_path / "mask.png"
    Image.new("L", (222, 297), 255).save(mask)
    result = omniwsi(
        "segment",
        tmp_path / "damaged.svs",
        "-o",
        tmp_path,
        "--weights",
        weights,
        "--tissues",
        "tuft",
        "--foreground",
        mask,
    )
    assert "is damaged near" in one_line_error(result, 1)
    folder = tmp_path / "damaged"
    assert not folder.exists() or {path.name for path in folder.iterdir()} <= {"run.json", "unfinished"}
    if folder.exists():
        assert json.loads((folder / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tissues", "glomerulus"), "unknown tissue glomerulus; choose from all, distal_tubule"),
        (("--threshold", "1.5"), "--threshold lies between 0 and 1, not 1.5"),
        (("--min-area", "tuft=big"), "--min-area takes square micrometres"),
        (("--ome-zarr", "0.6"), "--ome-zarr takes 0.5 or 0.4, not 0.6"),
        (("--precision", "int4"), "--precision takes auto or float32 or bfloat16 or float16, not int4"),
        (("--mpp", "352.8"), "--mpp: mpp must lie between"),
        (("--output-mpp", "0"), "--output-mpp is in micrometres per pixel"),
        (("--overlap", "60"), "--overlap lies between 0 and 32, half a tile; not 60"),
        (("--batch-size", "0"), "--batch-size and --workers are at least 1"),
        (("--roi", "nothing.geojson"), "nothing.geojson cannot be read"),
        (("--foreground", "some"), "--foreground takes auto, none, or a PNG or GeoJSON file"),
        (("--device", "cuda:77"), "there is no device cuda:77 here"),
        (("--weights", "nothing"), "no weights called nothing"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: tuple[str, ...], words: str, slide: Path, weights: Path, tmp_path: Path
) -> None:
    result = omniwsi("segment", slide, "-o", tmp_path / "results", "--weights", weights, *arguments)
    assert words in one_line_error(result, 2)
    assert not (tmp_path / "results").exists()


def test_unknown_flags_and_missing_arguments_are_status_2() -> None:
    assert omniwsi("segment", "a.svs", "--tissue", "tuft").returncode == 2
    assert omniwsi("segment").returncode == 2
    assert omniwsi("nonsense").returncode == 2


def test_two_slides_that_would_share_a_folder(slide: Path, weights: Path, tmp_path: Path) -> None:
    result = omniwsi("segment", slide, tmp_path / "case 7.svs", "-o", tmp_path, "--weights", weights)
    assert "would both be written to" in one_line_error(result, 2)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_and_the_same_command_goes_on(
    weights: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    write_slide(tmp_path / "case 7.tiff", blobs(600, 500), 0.5)
    command = [sys.executable, "-m", "omniwsi", "segment", str(tmp_path / "case 7.tiff")]
    command += ["-o", str(tmp_path), "--weights", str(weights), "--batch-size", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    manifest = tmp_path / "case 7" / "run.json"
    for _ in range(600):
        if manifest.exists():
            break
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == status, stderr
    assert "the same command goes on from here" in stderr
    assert json.loads(manifest.read_text())["status"] == "stopped"
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert json.loads(manifest.read_text())["status"] == "done"


def test_info(slide: Path, weights: Path, edge: Path, tmp_path: Path) -> None:
    facts = json.loads(omniwsi("info", slide, "--weights", weights, "--json").stdout)
    assert facts["size_px"] == [1200, 900]
    assert facts["mpp"] == pytest.approx([0.5, 0.5])
    assert facts["mpp_source"] == "TIFF resolution"
    assert facts["tissues"]["tuft"] == "seen at 2 um"
    assert facts["tissues"]["ptc"] == "enlarged 2.00 times to 0.25 um"
    result = omniwsi("info", edge / "boxes.tiff")
    assert result.returncode == 0
    assert "pass --mpp" in result.stderr
    assert "is empty" in one_line_error(omniwsi("info", edge / "empty.svs"), 1)


def test_doctor() -> None:
    result = omniwsi("doctor")
    assert result.returncode == 0, result.stdout
    checks = "python torch device compiler readers codecs memory disk weights network fit"
    for word in checks.split():
        assert word in result.stdout


def test_without_a_compiler_a_machine_is_fit_all_the_same() -> None:
    result = omniwsi("doctor", CXX="no-such-compiler")
    assert result.returncode == 0, result.stdout
    assert "no no-such-compiler, with which training on a CPU would be quicker" in " ".join(result.stdout.split())


def test_the_card_of_what_ships_is_a_page() -> None:
    """What people look for is there: figures by tissue and stain, licences, limits; the trainings before it are counted, not told."""
    card = json.loads(omniwsi("weights", "info", "renal6", "--json").stdout)
    page = omniwsi("weights", "info", "renal6").stdout
    assert len(page.splitlines()) < 90
    for tissue, dice in card["figures"]["held_out_dice"].items():
        assert any(f"{dice:.3g}" in line.split() for line in page.splitlines() if line.startswith(tissue))
    assert "trichrome" in page.partition("limits")[2]
    for source, licence in card["training"]["licences"].items():
        assert f"{source}: {licence}" in page
    before, count = card["training"].get("init"), 0
    while before:
        before, count = before.get("init"), count + 1
    assert f" {count} trainings, one from the other" in page


def test_weights_list_info_verify(weights: Path, tmp_path: Path) -> None:
    assert "renal6" in omniwsi("weights", "list").stdout
    card = json.loads(omniwsi("weights", "info", weights, "--json").stdout)
    assert card["name"] == "untaught"
    assert len(card["sha256"]) == 64
    assert "untaught" in omniwsi("weights", "info", weights).stdout
    assert omniwsi("weights", "verify").returncode == 0
    (tmp_path / "broken.safetensors").write_bytes(b"x" * 100)
    assert "is not a safetensors file" in one_line_error(
        omniwsi("weights", "verify", tmp_path / "broken.safetensors"), 1
    )


def test_weights_import(shared: Path, tmp_path: Path) -> None:
    from ..model.published import published_state

    torch.save({"model": published_state(shared / "golden", "midl2022")}, tmp_path / "a.pth")
    result = omniwsi("weights", "import", tmp_path / "a.pth", "-o", tmp_path / "a.safetensors")
    assert result.returncode == 0, result.stderr
    assert "concat form, 6,033,238 parameters as published" in result.stdout
    assert "dropped 76,416 in 30 tensors that it never uses: add_0, add_1, x1_resb_add0, x1_resb_add1" in result.stdout
    assert omniwsi("weights", "verify", tmp_path / "a.safetensors").returncode == 0
    (tmp_path / "b.pth").write_bytes(b"nothing")
    wrong = omniwsi("weights", "import", tmp_path / "b.pth", "-o", tmp_path / "b.safetensors")
    assert "is not a PyTorch checkpoint of plain tensors" in one_line_error(wrong, 2)
    assert not (tmp_path / "b.safetensors").exists()


def test_no_color() -> None:
    assert "\x1b[" not in omniwsi("--help", NO_COLOR="1", FORCE_COLOR="").stdout


def test_output_may_be_cut_short(slide: Path) -> None:
    """`omniwsi info ... | head -1` is no crash."""
    script = f"{sys.executable} -m omniwsi info '{slide}' | head -1"
    result = subprocess.run(script, shell=True, capture_output=True, text=True)
    assert "Traceback" not in result.stderr


def test_train_from_the_command_line(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "kidney_ki"
    result = omniwsi("train", data, "-o", tmp_path / "t", "--steps", 1, "--name", "quick", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert "Dice on held-out patches" in result.stdout
    assert (
        json.loads(omniwsi("weights", "info", tmp_path / "t" / "weights.safetensors", "--json").stdout)["name"]
        == "quick"
    )
    assert "neither a folder" in one_line_error(omniwsi("train", tmp_path / "no", "-o", tmp_path / "u"), 2)
    assert "--recipe takes midl2022 or best, not mine" in one_line_error(omniwsi("train", data, "--recipe", "mine"), 2)
    wrong = omniwsi("train", data, "--augmentation", "some")
    assert "--augmentation takes none, published, strong, not some" in one_line_error(wrong, 2)
    wrong = omniwsi("train", data, "--sampling", "some")
    assert "--sampling takes balanced or natural, not some" in one_line_error(wrong, 2)


def patches(folder: Path) -> Path:
    """Four pictures of tufts from two cases."""
    rows = ["image,mask,tissue,mpp,source,stain"]
    for i in range(4):
        pixels = blobs(96, 96, seed=i)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        Image.fromarray(((pixels.mean(-1) < 180) * 255).astype(np.uint8)).save(folder / f"{i}_mask.png")
        rows.append(f"{i}.png,{i}_mask.png,tuft,2,case {i % 2},{'he' if i < 2 else 'pas'}")
    (folder / "patches.csv").write_text("\n".join(rows))
    return folder / "patches.csv"


def test_evaluate_from_the_command_line(weights: Path, tmp_path: Path) -> None:
    manifest, out = patches(tmp_path), tmp_path / "figures"
    result = omniwsi("evaluate", manifest, "--weights", weights, "-o", out, "--by-stain", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert "Where label and result are both empty" in result.stdout
    assert [line.split()[1] for line in result.stdout.splitlines() if line.startswith("tuft")] == ["all", "he", "pas"]
    content = json.loads((out / "evaluation.json").read_text())
    assert [Path(patch["image"]).name for patch in content["patches"]] == ["0.png", "1.png", "2.png", "3.png"]
    assert {path.name for path in out.iterdir()} == {
        "evaluation.json",
        "evaluation.csv",
        "evaluation.md",
        "best_and_worst.jpg",
    }
    half = omniwsi(
        "evaluate", manifest, "--weights", weights, "-o", out, "--held-out", 0.5, "--device", "cpu", COLUMNS=""
    )
    assert half.returncode == 0, half.stderr
    assert [line.count("±") for line in half.stdout.splitlines() if line.startswith("tuft")] == [
        1
    ]  # a pipe folds nothing
    sources = {patch["source"] for patch in json.loads((out / "evaluation.json").read_text())["patches"]}
    assert len(sources) == 1
    assert "--held-out is a share" in one_line_error(omniwsi("evaluate", manifest, "--held-out", 2), 2)


def test_compare_from_the_command_line(tmp_path: Path) -> None:
    manifest, out = patches(tmp_path), tmp_path / "contest"
    small = ("--steps", 1, "--batch-size", 1, "--crop", 32, "--held-out", 0.5, "--device", "cpu", "-o", out)
    result = omniwsi("compare", manifest, "--methods", "dynamic,cond-none", *small)
    assert result.returncode == 0, result.stderr
    rows = json.loads((out / "comparison.json").read_text())
    assert [(row["method"], row["seeds"], set(row["dice"])) for row in rows] == [
        ("dynamic", 1, {"tuft"}),
        ("cond-none", 1, {"tuft"}),
    ]
    assert rows[0]["macs_a_pixel"] == pytest.approx(168_300 + 6 * 144, rel=0.01)
    table = (out / "comparison.md").read_text()
    assert "| cond-none | " in table
    assert "±" not in table  # of one seed there is no deviation
    assert "there is no method best" in one_line_error(omniwsi("compare", manifest, "--methods", "best", *small), 2)
    assert "whole numbers by commas" in one_line_error(omniwsi("compare", manifest, "--seeds", "one"), 2)


def test_cross_validation_judges_every_patch_once(tmp_path: Path) -> None:
    manifest, out = patches(tmp_path), tmp_path / "t"
    small = ("--steps", 1, "--batch-size", 1, "--crop", 32, "--device", "cpu", "-o", out)
    result = omniwsi("train", manifest, "--folds", 2, *small)
    assert result.returncode == 0, result.stderr
    judged = json.loads((out / "evaluation.json").read_text())["patches"]
    assert sorted(Path(patch["image"]).name for patch in judged) == ["0.png", "1.png", "2.png", "3.png"]
    assert (out / "fold-0" / "weights.safetensors").exists()
    assert (out / "fold-1" / "judged.jpg").exists()
    assert "--folds is 2 or more" in one_line_error(omniwsi("train", manifest, "--folds", 1, *small), 2)


def test_a_tissue_of_ones_own_from_patches_to_a_slide(slide: Path, weights: Path, tmp_path: Path) -> None:
    manifest = patches(tmp_path)
    manifest.write_text(manifest.read_text().replace(",tuft,", ",cast,"))
    (tmp_path / "cast.yaml").write_text("{name: cast, label: Casts, mpp: 2, color: '#aa00ff', min_area_um2: 100}")
    taught = omniwsi(
        *("train", manifest, "--init", weights, "--add-tissue", tmp_path / "cast.yaml", "--name", "seven"),
        *("--steps", 2, "--batch-size", 1, "--crop", 64, "--device", "cpu", "-o", tmp_path / "t"),
    )
    assert taught.returncode == 0, taught.stderr
    found = omniwsi(
        *(
            "segment",
            slide,
            "--weights",
            tmp_path / "t" / "weights.safetensors",
            "--tissues",
            "cast",
            "-o",
            tmp_path / "r",
        ),
        *("--json", "--device", "cpu"),
    )
    assert found.returncode == 0, found.stderr
    run = json.loads((tmp_path / "r" / "case 7" / "run.json").read_text())
    assert list(run["tissues"]) == ["cast"]


def test_the_results_of_a_slide_against_drawn_objects(tmp_path: Path) -> None:
    """Class names as they are written or as they are read; what is no tissue is left out aloud."""

    def drawn(name: str, *objects: tuple[str, int]) -> Path:
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[[x, 0], [x + 9, 0], [x + 9, 9], [x, 9], [x, 0]]]},
                "properties": {"classification": {"name": label}},
            }
            for label, x in objects
        ]
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return path

    drawn("case/contours.geojson", ("tuft", 0), ("tuft", 50), ("vessel", 90))
    truth = drawn("truth.geojson", ("Glomerular tufts", 1), ("Necrosis", 200))
    result = omniwsi("evaluate", tmp_path / "case", "--truth", truth, "-o", tmp_path / "figures")
    assert result.returncode == 0, result.stderr
    assert "1 objects of class Necrosis are left out" in result.stderr
    figures = json.loads((tmp_path / "figures" / "objects.json").read_text())["tissues"]
    assert figures["tuft"] | {"mean_iou": 0.8} == {
        "truth": 1,
        "found": 2,
        "matched": 1,
        "precision": 0.5,
        "recall": 1.0,
        "f1": 0.6667,
        "mean_iou": 0.8,
        "area_dice": 0.5926,
    }
    assert set(figures) == {"tuft"}
    nothing = drawn("nothing.geojson", ("Necrosis", 0))
    said = omniwsi("evaluate", tmp_path / "case", "--truth", nothing)
    assert said.returncode == 2
    assert "names no tissue as class; known are" in said.stderr


def test_figures_on_what_was_taught_are_not_given_in_silence(shared: Path, tmp_path: Path) -> None:
    from omniwsi.cli.evaluate import has_learnt_from

    data = [shared / "data" / "kidney_ki"]
    card = load_model().card
    assert "has learnt from all of kidney_ki" in has_learnt_from(card, data, 0.25, 0)
    assert has_learnt_from(card, [tmp_path], None, 0) == ""
    part_kept = replace(card, training={**card.training, "held_out": 0.25, "seed": 3})
    assert "judges by what it has not seen" in has_learnt_from(part_kept, data, None, 0)
    assert has_learnt_from(part_kept, data, 0.25, 3) == ""
    assert has_learnt_from(part_kept, data, 0.25, 0, decided=True) == ""
    assert "has learnt from all" in has_learnt_from(card, data, 0.25, 0, decided=True)


def test_data_check_from_the_command_line(tmp_path: Path) -> None:
    manifest = patches(tmp_path)
    result = omniwsi("data", "check", manifest, "--sheet", tmp_path / "sheet.jpg")
    assert result.returncode == 0, result.stderr
    assert "96 x 96" in result.stdout
    with Image.open(tmp_path / "sheet.jpg") as picture:
        assert picture.width > 256
    assert "192 x 192" in omniwsi("data", "check", manifest, "--mpp", "tuft=1").stdout
    (tmp_path / "2.png").unlink()
    wrong = omniwsi("data", "check", manifest)
    assert wrong.returncode == 2
    assert "line 4: there is no file" in wrong.stderr
    assert wrong.stderr.rstrip().endswith("1 to mend before training")
    assert "Traceback" not in wrong.stderr


def test_the_written_slide_is_read_back(slide: Path) -> None:
    from omniwsi.slide import open_slide

    with open_slide(slide) as opened:
        region = opened.read(opened.info.l0_box)
    assert np.abs(region.astype(int) - blobs(1200, 900)).mean() < 4
