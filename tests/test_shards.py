"""Shards as zarr-python reads and writes them, which is the slow twin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from omniwsi.errors import OmniWSIError
from omniwsi.geometry import Box
from omniwsi.shards import Shards

SHAPE = (2, 1100, 2300)
SHARD = (1024, 1536)


def planes(seed: int = 0) -> np.ndarray:
    """Coarse and grainy, with a tissue that is missing from a part and zeros in whole chunks."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (SHAPE[0], 11, 23)).astype(np.uint8)
    found = coarse.repeat(100, 1).repeat(100, 2) & rng.integers(128, 256, SHAPE).astype(np.uint8)
    found[0, :512, 512:1024] = 0
    found[:, 1024:, :1536] = 0
    return found


def boxes() -> list[Box]:
    rows, columns = SHARD
    return [Box.at(x, y, columns, rows).clip(Box(0, 0, 2300, 1100)) for y in (0, rows) for x in (0, columns)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    shards = Shards(tmp_path_factory.mktemp("shards") / "a.zarr", SHAPE, SHARD)
    shards.create()
    for box in boxes():
        shards.write(box, planes()[:, *box.slices])
    return shards


def test_zarr_reads_what_was_written(written: Shards) -> None:
    np.testing.assert_array_equal(zarr.open_array(written.path, mode="r")[:], planes())


def test_what_zarr_has_written_is_read(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "b.zarr", SHAPE, SHARD)
    shards.create()
    zarr.open_array(shards.path, mode="r+")[:] = planes(1)
    np.testing.assert_array_equal(shards.read(Box(0, 0, 2300, 1100)), planes(1))


def test_as_many_bytes_as_zarr_writes_and_no_file_for_zeros(written: Shards, tmp_path: Path) -> None:
    """The chunks may lie in another order."""
    twin = Shards(tmp_path / "b.zarr", SHAPE, SHARD)
    twin.create()
    zarr.open_array(twin.path, mode="r+")[:] = planes()

    def sizes(shards: Shards) -> dict[str, int]:
        files = [path for path in shards.path.rglob("*") if path.is_file()]
        return {str(path.relative_to(shards.path)): path.stat().st_size for path in files}

    assert sizes(written) == sizes(twin)
    assert not (written.path / "c" / "0" / "1" / "0").exists()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2299), st.integers(0, 1099), st.integers(1, 1200), st.integers(1, 1100), st.booleans())
def test_any_box_is_read(written: Shards, x0: int, y0: int, width: int, height: int, one: bool) -> None:
    box = Box.at(x0, y0, width, height).clip(Box(0, 0, 2300, 1100))
    channels = slice(1, 2) if one else slice(None)
    np.testing.assert_array_equal(written.read(box, channels), planes()[channels, *box.slices])


@pytest.mark.parametrize("harm", ["cut", "index", "chunk", "frame"])
def test_a_damaged_shard_is_told(tmp_path: Path, harm: str) -> None:
    """Whatever of it is spoilt, a single bit included."""
    shards = Shards(tmp_path / "a.zarr", SHAPE, SHARD)
    shards.create()
    shards.write(boxes()[0], planes()[:, *boxes()[0].slices])
    file = shards.path / "c" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    if harm == "cut":
        content = content[:50]
    else:
        content[{"index": -20, "chunk": 9_000, "frame": 0}[harm]] ^= 1
    file.write_bytes(content)
    with pytest.raises(OmniWSIError, match="is damaged; run the same command with --overwrite"):
        shards.read(Box(0, 0, 10, 10))
