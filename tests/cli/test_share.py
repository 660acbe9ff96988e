"""Several slides on several GPUs, here two processors in their place."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import typer

from omniwsi.cli.segment import segment
from omniwsi.cli.share import as_given, fairly, groups_of
from omniwsi.slide.writing import write_slide

from ..conftest import blobs, bytes_of

AS_ON_TWO = """
from omniwsi.cli.main import main
from omniwsi.model import predictor
one_by_one = predictor.require_devices
predictor.require_devices = lambda named: ["cpu", "cpu"] if named == "two" else one_by_one(named)
main()
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", AS_ON_TWO, "segment", *map(str, arguments)]


def test_slides_shared_by_two_are_the_same_bytes_as_by_one(weights: Path, tmp_path: Path) -> None:
    """Reports in the order asked; one bad slide does not stop the others; options reach every process."""
    slides = [tmp_path / name for name in ("a.tiff", "bad.tiff", "b 2.tiff")]
    write_slide(slides[0], blobs(500, 400), 0.5)
    slides[1].write_bytes(b"no slide")
    write_slide(slides[2], blobs(400, 300), 0.5)
    how = (*slides, "--weights", weights, "--tissues", "tuft,vessel", "--flips", "--json")
    one, two = (
        subprocess.run(command(*how, "-o", tmp_path / device, "--device", device), capture_output=True, text=True)
        for device in ("cpu", "two")
    )
    assert one.returncode == two.returncode == 1
    assert bytes_of(tmp_path / "cpu") == bytes_of(tmp_path / "two") != {}
    ours, theirs = (json.loads(run.stdout) for run in (two, one))
    assert [report["slide"] for report in ours["slides"]] == [str(slide) for slide in slides]
    assert ours["failed"] == 1
    assert ours["slides"][1] == theirs["slides"][1]
    assert "2 of 3 slides done; the same command goes on with the rest" in two.stderr
    assert "the process for" not in two.stderr
    again = subprocess.run(command(*how, "-o", tmp_path / "two", "--device", "two"), capture_output=True, text=True)
    assert [report.get("already_done") for report in json.loads(again.stdout)["slides"]] == [True, None, True]


def test_a_call_that_is_wrong_ends_as_by_one(weights: Path, tmp_path: Path) -> None:
    """Here in a way that is found out when the first slide is planned."""
    slides = [tmp_path / name for name in ("a.tiff", "b.tiff")]
    for slide in slides:
        write_slide(slide, blobs(300, 300), 0.5)
    foreground = tmp_path / "foreground.png"
    foreground.write_text("no picture")
    how = (*slides, "--weights", weights, "--foreground", foreground, "-o", tmp_path)
    one, two = (
        subprocess.run(command(*how, "--device", device), capture_output=True, text=True) for device in ("cpu", "two")
    )
    assert one.returncode == two.returncode == 2
    assert "is no picture that can be read" in one.stderr
    assert set(one.stderr.splitlines()) == set(two.stderr.splitlines())


def test_stopped_all_stop_and_the_same_command_goes_on(weights: Path, tmp_path: Path) -> None:
    slides = [tmp_path / name for name in ("a.tiff", "b.tiff")]
    for slide in slides:
        write_slide(slide, blobs(600, 500), 0.5)
    asked = command(*slides, "-o", tmp_path, "--weights", weights, "--batch-size", 2, "--device", "two")
    process = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    manifests = [tmp_path / name / "run.json" for name in ("a", "b")]
    for _ in range(1200):
        if all(manifest.exists() for manifest in manifests):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "the same command goes on from here" in stderr
    assert "stopped" in {json.loads(manifest.read_text())["status"] for manifest in manifests}
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {json.loads(manifest.read_text())["status"] for manifest in manifests} == {"done"}
    assert done.stdout.count("done in") == 2


def test_more_gpus_than_slides_and_fewer() -> None:
    assert groups_of(["cuda:0", "cuda:1", "cuda:2"], 2) == ["cuda:0,cuda:2", "cuda:1"]
    assert groups_of(["cuda:0", "cuda:1"], 9) == ["cuda:0", "cuda:1"]
    assert groups_of(["cuda"], 9) == ["cuda"]


def test_shares_are_fair_by_bytes(tmp_path: Path) -> None:
    """A folder of DICOM counts as what is in it; what is not there counts nothing, and is somebody's all the same."""
    sizes = {"a": 10, "b": 90, "c": 50, "d": 40}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "0.dcm").write_bytes(bytes(100))
    slides = [tmp_path / name for name in ("a", "b", "c", "d", "dicom", "gone")]
    shares = fairly(slides, 2)
    assert [[slide.name for slide in share] for share in shares] == [["a", "d", "dicom"], ["b", "c", "gone"]]


def test_what_was_asked_is_asked_of_each() -> None:
    app = typer.Typer()
    app.command()(segment)
    given = ["s.tiff", "-o", "x", "--tissues", "tuft", "--flips", "--overlap", "32", "--device", "cuda:0", "--json"]
    with typer.main.get_command(app).make_context("segment", given) as context:
        words = as_given(context)
    assert words == ["--out", "x", "--tissues", "tuft", "--json", "--overlap", "32", "--flips"]
