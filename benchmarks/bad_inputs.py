"""What bad input ends in: one line, the right exit status, nothing that looks finished.

    python benchmarks/bad_inputs.py EDGE SLIDE.svs

EDGE is a folder of odd and broken files; SLIDE.svs a good slide, from which damaged ones are made. Prints a table in Markdown.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

Case = tuple[str, list[str]]


def cases(edge: Path, good: Path, place: Path) -> Iterator[Case]:
    for path in sorted(edge.iterdir()):
        if path.suffix.lower() not in (".md", ".txt"):
            yield path.name, [str(path)]
    yield "a missing file", [str(place / "missing.svs")]
    (place / "folder").mkdir()
    yield "a folder without a slide", [str(place / "folder")]
    whole = good.read_bytes()
    yield "cut off after a third", [str(written(place / "cut.svs", whole[: len(whole) // 3]))]
    half = len(whole) // 2
    damaged = whole[:half] + bytes(60_000) + whole[half + 60_000 :]
    yield "60 kB of zeros in its middle", [str(written(place / "damaged.svs", damaged)), "--foreground", "none"]
    secret = written(place / "secret.svs", whole)
    secret.chmod(0)
    if not os.access(secret, os.R_OK):
        yield "no permission", [str(secret)]
    Image.new("RGB", (600, 400), "white").save(place / "picture.png")
    yield "a picture without a pixel size", [str(place / "picture.png")]
    yield "nothing but glass", [str(place / "picture.png"), "--mpp", "0.5"]
    yield "pixels of 5 um", [str(place / "picture.png"), "--mpp", "5"]
    for words in (
        "--mpp 352.8",
        "--tissues glomerulus",
        "--threshold 2",
        "--roi no.geojson",
        "--weights no",
        "--device tpu",
    ):
        yield f"`{words}`", [str(good), *words.split()]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def main(edge: Path, good: Path) -> None:
    print("| input | status | what is said | left behind |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, arguments in cases(edge, good, place):
            out = place / "results"
            command = [sys.executable, "-m", "omniwsi", "segment", *arguments, "--tissues", "tuft", "-o", str(out)]
            if "--tissues" in arguments:
                del command[command.index("tuft") - 1 : command.index("tuft") + 1]
            result = subprocess.run(command, capture_output=True, text=True)
            assert "Traceback" not in result.stderr, result.stderr
            lines = [line for line in result.stderr.splitlines() if line.startswith(("error:", "warning:"))]
            said = (
                "; ".join(lines)
                .replace(str(place) + os.sep, "")
                .replace(str(edge) + os.sep, "")
                .replace(str(good), good.name)
            )
            print(f"| {name} | {result.returncode} | {said or 'done'} | {left_behind(out)} |", flush=True)
            shutil.rmtree(out, ignore_errors=True)


def left_behind(out: Path) -> str:
    files = sorted(path.name for folder in out.glob("*") for path in folder.iterdir())
    return "all results" if "overview.jpg" in files else ", ".join(files) or "nothing"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
