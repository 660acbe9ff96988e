"""The same network on the same slide by omniwsi, by TIAToolbox, by MONAI, and as the published pipeline would.

    python benchmarks/side_by_side.py OUT SLIDE [DEVICE]

Makes an environment of its own under OUT (some gigabytes: TIAToolbox asks for much), installs all three there, and walks the slide with
the weights that ship for distal and proximal tubules and vessels: 1 um, tiles of 256 px that overlap by a quarter, everywhere.
Each in a process of its own; prints wall time, peak memory, and how far the masks agree with ours. omniwsi writes all of
its results meanwhile; TIAToolbox writes probabilities, MONAI nothing. DEVICE is cpu, or cuda for all of them.

The published pipeline walks windows of 512 px, 7,668 of them for six tissues on each 1024 um square, and runs the trunk anew in
each; it is not run but reckoned: what one window takes here, times how many there are.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timing import timed

import omniwsi
from omniwsi.grid import Grid
from omniwsi.model.predictor import Predictor
from omniwsi.run import PYRAMID, folder_name
from omniwsi.tissues import Tissue, select

TISSUES = "distal_tubule,proximal_tubule,vessel"
MPP, TILE_PX, OVERLAP_PX = 1.0, 256, 64
PUBLISHED_WINDOWS, PUBLISHED_WINDOW_PX, PUBLISHED_SQUARE_MM2 = 7668, 512, 1.024**2
FOUND = "probs_THW.npy"


def tissues() -> tuple[Tissue, ...]:
    return select(omniwsi.load_model().card.tissues, TISSUES)


# --- Each of them -------------------------------------------------------------------------------------------------------


def by_omniwsi(slide: Path, out: Path, device: str) -> None:
    import zarr

    command = [
        "segment",
        str(slide),
        "-o",
        str(out),
        "--tissues",
        TISSUES,
        "--foreground",
        "none",
        "--overlap",
        f"{OVERLAP_PX}",
        "--device",
        device,
    ]
    subprocess.run([sys.executable, "-m", "omniwsi", *command, "--overwrite"], check=True, stdout=subprocess.DEVNULL)
    pyramid = zarr.open_group(out / folder_name(slide.name) / PYRAMID, mode="r")
    np.save(out / FOUND, np.asarray(pyramid["0"]).astype(np.float32) / 255)


def by_tiatoolbox(slide: Path, out: Path, device: str) -> None:
    import torch
    import zarr
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
    from tiatoolbox.models.models_abc import ModelABC
    from tiatoolbox.wsicore.wsireader import WSIReader

    class Ours(ModelABC):
        """The trunk once a tile, the heads of all tissues: the best its interface allows."""

        def __init__(self) -> None:
            super().__init__()
            self.network = omniwsi.load_model()

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            logits_BT2HW = self.network.decode(self.network.encode(x_BCHW), tissues())
            return (logits_BT2HW[:, :, 1] - logits_BT2HW[:, :, 0]).sigmoid()

        @staticmethod
        def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
            with torch.inference_mode():
                x_BCHW = batch_data.to(device, torch.float32).permute(0, 3, 1, 2) / 255
                return model(x_BCHW).permute(0, 2, 3, 1).cpu().numpy()

        @staticmethod
        def postproc(image: np.ndarray) -> np.ndarray:
            return image.argmax(-1)

    at_mpp = {"units": "mpp", "resolution": MPP}
    config = IOSegmentorConfig(
        input_resolutions=[at_mpp],
        output_resolutions=[at_mpp],
        patch_input_shape=(TILE_PX, TILE_PX),
        patch_output_shape=(TILE_PX, TILE_PX),
        stride_shape=(TILE_PX - OVERLAP_PX, TILE_PX - OVERLAP_PX),
        save_resolution=at_mpp,
    )
    with omniwsi.open_slide(slide) as opened:  # it finds no pixel size in a TIFF's resolution tags
        reader = WSIReader.open(slide, mpp=opened.info.mpp)
    engine = SemanticSegmentor(model=Ours(), batch_size=8, device=device, verbose=False)
    written = engine.run(
        [reader],
        ioconfig=config,
        patch_mode=False,
        auto_get_mask=False,
        save_dir=out / "tiatoolbox",
        overwrite=True,
        output_type="zarr",
        return_probabilities=True,
    )
    (path,) = written.values()
    probs_HWT = np.asarray(zarr.open_group(path, mode="r")["probabilities"])
    np.save(out / FOUND, probs_HWT.transpose(2, 0, 1).astype(np.float32))


def by_monai(slide: Path, out: Path, device: str) -> None:
    import torch
    from monai.inferers import sliding_window_inference

    network = omniwsi.load_model().to(device)
    with omniwsi.open_slide(slide) as opened:
        grid = Grid.over(opened.info.size, opened.info.mpp, MPP, TILE_PX, OVERLAP_PX)
        pixels_HWC = opened.read(grid.g_box, grid.frame)
    x_1CHW = torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1)[None].float() / 255

    def probs_of(tiles_BCHW: torch.Tensor) -> torch.Tensor:
        logits_BT2HW = network.decode(network.encode(tiles_BCHW), tissues())
        return (logits_BT2HW[:, :, 1] - logits_BT2HW[:, :, 0]).sigmoid()

    with torch.inference_mode():
        probs_1THW = sliding_window_inference(
            x_1CHW,
            (TILE_PX, TILE_PX),
            8,
            probs_of,
            overlap=OVERLAP_PX / TILE_PX,
            mode="gaussian",
            sw_device=device,
            device="cpu",
        )
    np.save(out / FOUND, probs_1THW[0].numpy())


def published_window(slide: Path, out: Path, device: str) -> None:
    """Seconds of one window: trunk and one head."""
    predictor = Predictor(omniwsi.load_model(), device)
    pixels = np.random.default_rng(0).integers(0, 255, (4, PUBLISHED_WINDOW_PX, PUBLISHED_WINDOW_PX, 3), np.uint8)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        predictor.decode(predictor.encode(pixels), predictor.card.tissues[:1])
        seconds.append((time.perf_counter() - began) / len(pixels))
    (out / "window.json").write_text(json.dumps({"seconds": float(np.median(seconds[1:]))}))


CONTESTANTS: dict[str, Callable[[Path, Path, str], None]] = {
    "omniwsi": by_omniwsi,
    "tiatoolbox": by_tiatoolbox,
    "monai": by_monai,
    "published": published_window,
}

# --- All of them --------------------------------------------------------------------------------------------------------


def main(out: Path, slide: Path, device: str = "cpu") -> None:
    python = environment(out / "env")
    with omniwsi.open_slide(slide) as opened:
        area_mm2 = opened.info.area_mm2
    print(f"{slide.name}, {area_mm2:.1f} mm2, {TISSUES} at {MPP:g} um\n")
    print("| by | wall s | peak GB | masks equal to ours, Dice |")
    print("|---|---|---|---|")
    for name in ("omniwsi", "tiatoolbox", "monai"):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        seconds, peak_bytes = timed([python, __file__, "--only", name, str(slide), str(folder), device])
        agreement = ", ".join(f"{dice:.3f}" for dice in agreements(out / "omniwsi" / FOUND, folder / FOUND))
        print(f"| {name} | {seconds:.0f} | {peak_bytes / 1e9:.2f} | {agreement} |", flush=True)
    timed([python, __file__, "--only", "published", str(slide), str(out), device])
    window_s = json.loads((out / "window.json").read_text())["seconds"]
    windows = PUBLISHED_WINDOWS * area_mm2 / PUBLISHED_SQUARE_MM2
    print(f"\nPublished, six tissues: {windows:,.0f} windows of {window_s:.2f} s are {windows * window_s / 3600:.1f} h")


def environment(folder: Path) -> str:
    """The Python of an environment that has all of them."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        here = Path(__file__).resolve().parents[1]
        subprocess.run([python, "-m", "pip", "install", "-q", "tiatoolbox", "monai", str(here)], check=True)
    return str(python)


def agreements(ours: Path, theirs: Path) -> list[float]:
    """Dice of the masks, a tissue each."""
    a_THW, b_THW = (np.load(path, mmap_mode="r") >= 0.5 for path in (ours, theirs))
    height, width = (min(a, b) for a, b in zip(a_THW.shape[1:], b_THW.shape[1:], strict=True))
    pairs: list[tuple[Any, Any]] = list(zip(a_THW[:, :height, :width], b_THW[:, :height, :width], strict=True))
    return [2 * (a & b).sum() / max(1, a.sum() + b.sum()) for a, b in pairs]


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[1] == "--only":
        CONTESTANTS[sys.argv[2]](Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
    elif len(sys.argv) in (3, 4):
        main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
    else:
        sys.exit(__doc__)
