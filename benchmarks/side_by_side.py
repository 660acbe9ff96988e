"""The same network on the same slide by omniwsi, by TIAToolbox, by MONAI, and as the published pipeline would.

    python benchmarks/side_by_side.py OUT SLIDE [--device cuda] [--stand-in]

Makes an environment of its own under OUT (some gigabytes: TIAToolbox asks for much), installs all three there, and walks the slide with
the weights that ship for distal and proximal tubules and vessels: 1 um, tiles of 256 px that overlap by a quarter, everywhere.
Each in a process of its own; prints wall time, peak memory, and how far the masks agree with ours. omniwsi writes all of
its results meanwhile; TIAToolbox writes probabilities, MONAI nothing.

What each holds of a whole slide is known without the hours that a network takes: with `--stand-in` it is loaded, and then replaced
by blurred light, which all of them take for the same probabilities.

The published pipeline is walked on one square millimetre at the end (`published.py`), since the whole crop would take it hours.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import zarr
from growth import StandIn
from timing import timed
from torch.nn import functional

import omniwsi
from omniwsi.grid import Grid
from omniwsi.model.checkpoint import DEFAULT_WEIGHTS, find_weights, sha256_of
from omniwsi.model.predictor import Predictor
from omniwsi.pipeline import segment_slide
from omniwsi.plan import SegmentOptions
from omniwsi.run import PYRAMID, folder_name
from omniwsi.tissues import select

TISSUES = "distal_tubule,proximal_tubule,vessel"
MPP, TILE_PX, OVERLAP_PX = 1.0, 256, 64
FOUND = "probs_THW.npy"


class Network(torch.nn.Module):
    """The trunk once a tile, the heads of all tissues. Stood in for, it has been there and run, but blurred light is what it says."""

    def __init__(self, stood_in: bool) -> None:
        super().__init__()
        self.network, self._stood_in, self._begun = omniwsi.load_model(), stood_in, False
        self._tissues = select(self.network.card.tissues, TISSUES)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """probs_BTHW"""
        if self._stood_in and self._begun:
            light_B1HW = functional.avg_pool2d(x_BCHW[:, 1:2], 9, stride=1, padding=4, count_include_pad=False)
            return ((light_B1HW - 0.63) * 40).sigmoid().repeat(1, len(self._tissues), 1, 1)
        self._begun = True
        logits_BT2HW = self.network.decode(self.network.encode(x_BCHW), self._tissues)
        return (logits_BT2HW[:, :, 1] - logits_BT2HW[:, :, 0]).sigmoid()


# --- Each of them -------------------------------------------------------------------------------------------------------


def by_omniwsi(slide: Path, out: Path, device: str, stood_in: bool) -> None:
    if stood_in:
        segment_by_light(slide, out / folder_name(slide.name), device)
        return
    options = ["--tissues", TISSUES, "--foreground", "none", "--overlap", f"{OVERLAP_PX}", "--device", device]
    command = ["segment", str(slide), "-o", str(out), *options, "--overwrite"]
    subprocess.run([sys.executable, "-m", "omniwsi", *command], check=True, stdout=subprocess.DEVNULL)
    pyramid = zarr.open_group(out / folder_name(slide.name) / PYRAMID, mode="r")
    np.save(out / FOUND, np.asarray(pyramid["0"]).astype(np.float32) / 255)


def segment_by_light(slide: Path, folder: Path, device: str) -> None:
    predictor = StandIn(Predictor(omniwsi.load_model(), device))
    options = SegmentOptions(tissues=TISSUES, foreground="none", overlap_px=OVERLAP_PX)
    with omniwsi.open_slide(slide) as opened:
        segment_slide(opened, folder, predictor, sha256_of(find_weights(DEFAULT_WEIGHTS)), options, overwrite=True)


def by_tiatoolbox(slide: Path, out: Path, device: str, stood_in: bool) -> None:
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
    from tiatoolbox.models.models_abc import ModelABC
    from tiatoolbox.wsicore.wsireader import WSIReader

    class Ours(ModelABC):
        """The best its interface allows."""

        def __init__(self) -> None:
            super().__init__()
            self.network = Network(stood_in)

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            probs_BTHW: torch.Tensor = self.network(x_BCHW)
            return probs_BTHW

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
    reader = WSIReader.open(as_aperio(slide, out) if slide.suffix in (".tif", ".tiff") else slide)
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
    if stood_in:
        return
    (path,) = written.values()
    probs_HWT = np.asarray(zarr.open_group(path, mode="r")["probabilities"])
    np.save(out / FOUND, probs_HWT.transpose(2, 0, 1).astype(np.float32))


def as_aperio(slide: Path, out: Path) -> Path:
    """The slide with a description that TIAToolbox knows: a generic TIFF it holds in memory, or refuses where OpenCV thinks it too large."""
    copy = Path(shutil.copyfile(slide, out / f"{slide.stem}.svs"))
    with omniwsi.open_slide(slide) as opened:
        tifffile.tiffcomment(copy, f"Aperio\n|AppMag = 20|MPP = {opened.info.mpp[0]}")
    return copy


def by_monai(slide: Path, out: Path, device: str, stood_in: bool) -> None:
    from monai.inferers import sliding_window_inference

    network = Network(stood_in).to(device)
    with omniwsi.open_slide(slide) as opened:
        grid = Grid.over(opened.info.size, opened.info.mpp, MPP, TILE_PX, OVERLAP_PX)
        pixels_HWC = opened.read(grid.g_box, grid.frame)
    x_1CHW = torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1)[None].float() / 255

    with torch.inference_mode():
        probs_1THW = sliding_window_inference(
            x_1CHW,
            (TILE_PX, TILE_PX),
            8,
            network,
            overlap=OVERLAP_PX / TILE_PX,
            mode="gaussian",
            sw_device=device,
            device="cpu",
        )
    if not stood_in:
        np.save(out / FOUND, probs_1THW[0].numpy())


CONTESTANTS: dict[str, Callable[[Path, Path, str, bool], None]] = {
    "omniwsi": by_omniwsi,
    "tiatoolbox": by_tiatoolbox,
    "monai": by_monai,
}

# --- All of them --------------------------------------------------------------------------------------------------------


def main(slide: Path, out: Path, device: str, stood_in: bool) -> None:
    python = environment(out / "env")
    with omniwsi.open_slide(slide) as opened:
        area_mm2 = opened.info.area_mm2

    def alone(name: str, folder: Path) -> tuple[float, int]:
        folder.mkdir(parents=True, exist_ok=True)
        which = ["--device", device, "--only", name, *["--stand-in"] * stood_in]
        return timed([python, __file__, str(folder), str(slide), *which])

    print(f"{slide.name}, {area_mm2:.1f} mm2, {TISSUES} at {MPP:g} um{', blurred light for a network' * stood_in}\n")
    print("| by | wall s | peak GB | masks equal to ours, Dice |")
    print("|---|---|---|---|")
    for name in ("omniwsi", "tiatoolbox", "monai"):
        seconds, peak_bytes = alone(name, out / name)
        agreement = [] if stood_in else agreements(out / "omniwsi" / FOUND, out / name / FOUND)
        shown = ", ".join(f"{dice:.3f}" for dice in agreement)
        print(f"| {name} | {seconds:.0f} | {peak_bytes / 1e9:.2f} | {shown} |", flush=True)
    if stood_in:
        return
    print(flush=True)
    here = Path(__file__).with_name("published.py")
    subprocess.run([python, here, out / "published", slide, "--device", device], check=True)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--only", choices=CONTESTANTS, help="one of them, here and now")
    asked = parser.parse_args()
    run = CONTESTANTS[asked.only] if asked.only else main
    run(asked.slide, asked.out, asked.device, asked.stand_in)
