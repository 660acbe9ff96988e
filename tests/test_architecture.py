"""The house: imports only go down, every dependency has one home, and the library is silent."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import omniwsi

PACKAGE = Path(omniwsi.__file__).parent

FLOORS = (
    ("errors", "geometry", "machine"),
    ("tissues", "grid", "metrics", "resampling", "shards"),
    ("objects",),
    ("slide", "model", "mosaic", "pyramid", "contours", "geojson", "matching", "tables", "picture", "synthetic"),
    ("run", "tracing", "plan"),
    ("pipeline", "train"),
    ("demo",),
    ("cli",),
)
"""Ground floor first, as in the README. What shares a floor does not import each other."""

HOMES = {
    "openslide": {"slide"},
    "tifffile": {"slide"},
    "simplejpeg": {"slide"},
    "torch": {"model", "train"},
    "safetensors": {"model"},
    "zarr": {"pyramid", "shards"},
    "numcodecs": {"pyramid", "shards"},
    "google_crc32c": {"shards"},
    "shapely": {"contours", "geojson", "matching"},
    "typer": {"cli"},
    "rich": {"cli"},
    "filelock": {"run"},
    "skimage": {"slide"},
    "yaml": {"train"},
    "tensorboard": {"train"},
}
DOCTOR = PACKAGE / "cli" / "doctor.py"
"""The one that examines every dependency."""


def sources() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name not in ("__init__.py", "__main__.py")]


def room(module: str) -> str:
    """`omniwsi.slide.tiles` lies in the room `slide`."""
    return module.split(".")[1]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def own_room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_down(path: Path) -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    here = own_room(path)
    assert here in floor, f"{here} has no floor: add it to FLOORS and to the picture in the README"
    for module in imported(path):
        if module.startswith("omniwsi."):
            there = room(module)
            allowed = there == here or floor[there] < floor[here]
            assert allowed, f"{here} must not import {there}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_dependency_has_one_home(path: Path) -> None:
    if path == DOCTOR:
        return
    for module in imported(path):
        home = HOMES.get(module.split(".")[0])
        assert home is None or own_room(path) in home, f"{module} belongs into {home}"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['omniwsi', '--help']\n"
        "from omniwsi.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'zarr', 'scipy', 'skimage', 'openslide', 'tifffile', 'shapely', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_importing_omniwsi_loads_nothing() -> None:
    code = "import sys, omniwsi; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names() -> None:
    assert omniwsi.__all__ == [
        "KIDNEY",
        "ArraySlide",
        "OmniWSIError",
        "SegmentOptions",
        "SegmentResult",
        "Slide",
        "Tissue",
        "__version__",
        "load_model",
        "open_slide",
        "segment",
    ]
    rooms = {path.stem for path in PACKAGE.iterdir()}
    for name in omniwsi.__all__:
        assert getattr(omniwsi, name) is not None
        assert name not in rooms, "a module of the same name would take its place once imported"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        omniwsi.nonsense  # noqa: B018  # asking is the point
