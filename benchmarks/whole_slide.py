"""What whole slides cost and whether their results are valid.

    python benchmarks/whole_slide.py OUT SLIDE... [-- OPTIONS of omniwsi segment]

Runs `omniwsi segment` on each slide as a user would, in a process of its own, and prints a row of Markdown: wall time, peak
memory of the process, tiles, seconds by stage; then what the validators say of what was written.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path

import ome_zarr_models
import shapely
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from timing import timed

from omniwsi.run import CONTOURS, PYRAMID, folder_name


def main(out: Path, slides: list[Path], options: list[str]) -> None:
    print(
        "| slide | wall s | peak GB | tiles | analysed mm2 | read / network / mosaic / pyramid / contours s | results MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for slide in slides:
        seconds, peak_bytes = timed([sys.executable, "-m", "omniwsi", "segment", str(slide), "-o", str(out), *options])
        print(cost(slide, out / folder_name(slide.name), seconds, peak_bytes), flush=True)
    for slide in slides:
        print(f"\n{slide.name}")
        for verdict in verdicts(out / folder_name(slide.name)):
            print(f"- {verdict}", flush=True)


def cost(slide: Path, folder: Path, seconds: float, peak_bytes: int) -> str:
    run = json.loads((folder / "run.json").read_text())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    cells = (
        slide.name,
        f"{seconds:.0f}",
        f"{peak_bytes / 1e9:.2f}",
        " + ".join(f"{sweep['tiles']:,}" for sweep in run["sweeps"]),
        " + ".join(f"{sweep['area_mm2']:.1f}" for sweep in run["sweeps"]),
        " / ".join(f"{spent:.0f}" for spent in run["stages"].values()),
        f"{size / 1e6:.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def verdicts(folder: Path) -> list[str]:
    return [
        ome_zarr_models_says(folder / PYRAMID),
        ome_zarr_py_says(folder / PYRAMID),
        qupath_would_say(folder / CONTOURS),
    ]


def ome_zarr_models_says(pyramid: Path) -> str:
    image = ome_zarr_models.open_ome_zarr(zarr.open_group(pyramid, mode="r"))
    return f"ome-zarr-models: a valid {type(image).__module__.split('.')[1]} {type(image).__name__}"


def ome_zarr_py_says(pyramid: Path) -> str:
    location = parse_url(str(pyramid))
    assert location is not None
    (node,) = Reader(location)()
    shapes = ", ".join(str(tuple(level.shape)) for level in node.data)
    return f"ome-zarr-py's reader: channels {', '.join(node.metadata['channel_names'])}; levels {shapes}"


def qupath_would_say(contours: Path) -> str:
    """The rules that QuPath breaks off at: valid when rounded to 0.01 px, ids that are UUIDs, classes with name and colour."""
    features = json.loads(contours.read_text())["features"]
    broken = 0
    for feature in features:
        geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
        uuid.UUID(feature["id"])
        classification = feature["properties"]["classification"]
        is_named = isinstance(classification["name"], str) and len(classification["color"]) == 3
        broken += not (
            shapely.set_precision(geometry, 0.01, mode="pointwise").is_valid and geometry.is_valid and is_named
        )
    return f"GeoJSON: {len(features):,} features, {broken} that QuPath would refuse"


if __name__ == "__main__":
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    arguments, extra = words[:end], words[end + 1 :]
    if len(arguments) < 2:
        sys.exit(__doc__)
    main(Path(arguments[0]), [Path(slide) for slide in arguments[1:]], extra)
