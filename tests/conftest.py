"""What tests share: where the real data lies, and models of six lines.

The real slides and patches are not part of the repository; tests that need them are skipped where they are absent.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import shapely
from scipy import ndimage

from omniwsi.contours import TraceOptions, trace
from omniwsi.geometry import Frame
from omniwsi.model.card import ModelCard
from omniwsi.objects import Contour
from omniwsi.tissues import KIDNEY, Tissue

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C; what is interrupted here would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the real slides and patches are not here (../shared)")
    return SHARED


@pytest.fixture(scope="session")
def wsi(shared: Path) -> Path:
    return shared / "data" / "wsi"


@pytest.fixture(scope="session")
def edge(shared: Path) -> Path:
    return shared / "data" / "edge"


class ColorModel:
    """Finds a tissue by how dark a colour channel is: enough of a network for everything but networks."""

    def __init__(self, tissues: Sequence[Tissue] = KIDNEY, tile_px: int = 64) -> None:
        self.card = ModelCard("color", "concat", tuple(tissues), tile_px)
        self.tiles_encoded = 0

    def encode(self, pixels_BHWC: np.ndarray) -> np.ndarray:
        self.tiles_encoded += len(pixels_BHWC)
        return pixels_BHWC

    def decode(self, features: np.ndarray, tissues: Sequence[Tissue]) -> np.ndarray:
        return np.stack([1 - features[..., tissue.index % 3] / np.float32(255) for tissue in tissues], 1)


@pytest.fixture
def color_model() -> ColorModel:
    return ColorModel()


def blobs(width: int, height: int, seed: int = 0, size: float = 9.0) -> np.ndarray:
    """A slide-like picture: dark blobs of tissue colours on glass, uint8 RGB [H, W, 3]."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    channels = [ndimage.gaussian_filter(rng.standard_normal((height, width)), size) for _ in range(3)]
    strength = np.stack([1 / (1 + np.exp(-5 * c / c.std())) for c in channels], -1)
    return (245 - 215 * strength).astype(np.uint8)


def bytes_of(folder: Path) -> dict[str, str]:
    """Of every result file; run.json has times in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


PLAIN = TraceOptions(threshold=0.5, min_area_um2=0.0, l0_mpp=(1.0, 1.0), frame=Frame(1.0, 1.0), seed="slide")


def contours_of(
    probs_HW: np.ndarray, window_px: int = 2048, options: TraceOptions = PLAIN, analysed_HW: np.ndarray | None = None
) -> list[Contour]:
    analysed = (
        (lambda g_box: np.ones(g_box.shape, bool)) if analysed_HW is None else (lambda g_box: analysed_HW[g_box.slices])
    )
    size = probs_HW.shape[1], probs_HW.shape[0]
    return list(trace(lambda g_box: probs_HW[g_box.slices], size, KIDNEY[0], options, analysed, window_px))


def polygons_of(contour: Contour) -> list[shapely.Polygon]:
    return [shapely.Polygon(rings[0], rings[1:]) for rings in contour.polygons]


def smooth(height: int, width: int, seed: int = 0, size: float = 6.0) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((height, width)), size)
    return (255 / (1 + np.exp(-3 * field / field.std()))).round().astype(np.uint8)


def disc(size: int, radius: float, hole: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    distance = np.hypot(x, y)
    return (255 * ((1 / (1 + np.exp(distance - radius))) * (1 / (1 + np.exp(hole - distance)) if hole else 1))).astype(
        np.uint8
    )
