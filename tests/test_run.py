from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omniwsi.errors import OmniWSIError, RunBusy, RunError, RunExists, UnreadableSlide
from omniwsi.run import RESULTS, Run, folder_name

IDENTITY: dict[str, Any] = {
    "omniwsi": "1",
    "slide": {"name": "a.svs", "fingerprint": "f"},
    "weights": {"sha256": "w"},
    "options": {"threshold": 0.5},
}


def make_results(run: Run, text: str = "x") -> None:
    for name in RESULTS:
        run.making(name).write_text(text)


def status(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["status"]


def test_a_run_is_done_when_everything_is_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "a"
    with Run(folder, IDENTITY) as run:
        assert status(folder) == "running"
        assert not any((folder / name).exists() for name in RESULTS)
        make_results(run)
        run.finish()
    assert status(folder) == "done"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*RESULTS, "run.json"])


def test_a_done_run_is_recognised(tmp_path: Path) -> None:
    with Run(tmp_path, IDENTITY) as run:
        make_results(run)
        run.finish()
    with Run(tmp_path, IDENTITY) as again:
        assert again.already_done
    assert status(tmp_path) == "done"


@pytest.mark.parametrize(
    ("error", "left", "said"),
    [
        (UnreadableSlide("a.svs is damaged"), "failed", "a.svs is damaged"),
        (ValueError("odd"), "failed", "ValueError('odd')"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt()"),
    ],
)
def test_an_end_before_the_end(tmp_path: Path, error: BaseException, left: str, said: str) -> None:
    with pytest.raises(type(error)), Run(tmp_path, IDENTITY):
        raise error
    content = json.loads((tmp_path / "run.json").read_text())
    assert (content["status"], content["error"]) == (left, said)
    assert not any((tmp_path / name).exists() for name in RESULTS)
    with Run(tmp_path, IDENTITY) as run:
        assert run.resumed
        make_results(run)
        run.finish()
    assert "error" not in json.loads((tmp_path / "run.json").read_text())


def test_other_options_are_refused_by_name(tmp_path: Path) -> None:
    with Run(tmp_path, IDENTITY) as run:
        make_results(run)
        run.finish()
    for section, change, words in (
        ("options", {"threshold": 0.4}, r"another option \(threshold 0.5, now 0.4\)"),
        ("slide", {"name": "a.svs", "fingerprint": "g"}, r"another slide \(fingerprint f, now g\)"),
        ("weights", {"sha256": "v"}, r"another weight \(sha256 w, now v\)"),
    ):
        with pytest.raises(RunExists, match=words + "; pass --overwrite or another -o"):
            Run(tmp_path, IDENTITY | {section: change})
    with pytest.raises(RunExists, match=r"another version of omniwsi \(1, now 2\)"):
        Run(tmp_path, IDENTITY | {"omniwsi": "2"})
    assert status(tmp_path) == "done"


def test_overwriting_removes_what_a_run_made_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with Run(tmp_path, IDENTITY) as run:
        make_results(run, "old")
        run.finish()
    with Run(tmp_path, IDENTITY, overwrite=True) as run:
        assert not run.already_done
        assert not any((tmp_path / name).exists() for name in RESULTS)
        make_results(run, "new")
        run.finish()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / RESULTS[1]).read_text() == "new"


def test_results_of_an_unknown_origin_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "contours.geojson").write_text("precious")
    with pytest.raises(RunExists, match=r"already holds contours\.geojson"):
        Run(tmp_path, IDENTITY)
    assert (tmp_path / "contours.geojson").read_text() == "precious"


def test_a_broken_manifest(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "run')
    with pytest.raises(RunExists, match="cannot be read; pass --overwrite"):
        Run(tmp_path, IDENTITY)
    with Run(tmp_path, IDENTITY, overwrite=True) as run:
        make_results(run)
        run.finish()


HOLD = """
import sys
from pathlib import Path
from tests.test_run import IDENTITY, Run
with Run(Path(sys.argv[1]), IDENTITY):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(RunBusy, match="another process is writing to"):
            Run(tmp_path, IDENTITY)
        other.kill()
    with Run(tmp_path, IDENTITY) as run:  # the system lets go of what a dead process held
        assert run.resumed
        make_results(run)
        run.finish()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written") as caught:
        Run(tmp_path / "file" / "a", IDENTITY)
    assert isinstance(caught.value, OmniWSIError)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("a.svs", "a"),
        ("a.b.tiff", "a.b"),
        ("a.ome.tif", "a"),
        ("A.OME.TIFF", "A"),
        ("series", "series"),
        (".svs", ".svs"),
    ],
)
def test_folder_names(name: str, folder: str) -> None:
    assert folder_name(name) == folder
