"""omniwsi doctor"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import typer
from rich.markup import escape

from omniwsi.cli.console import out, size


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    says: str
    cure: str = ""
    """empty where all is well"""


def doctor() -> None:
    """Tell whether this machine is fit, and what to do if it is not."""
    unfit = False
    for check in (_python, _torch, _device, _compiler, _readers, _codecs, _memory, _disk, _weights, _network):
        for finding in _careful(check):
            mark = "[red]x[/]" if finding.cure else "[green]ok[/]"
            out.print(f"{mark:<12} {finding.what:<10} {escape(finding.says)}")
            if finding.cure:
                out.print(f"{'':<15}[bold]{escape(finding.cure)}[/]")
                unfit = True
    if unfit:
        raise typer.Exit(1)
    out.print("fit; try: omniwsi demo")


def _careful(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that breaks is a finding, not a crash: that is what a doctor is for."""
    name = check.__name__.removeprefix("_")
    try:
        yield from check()
    except Exception as error:
        yield Finding(name, f"{type(error).__name__}: {error}", "install omniwsi again in a fresh environment")


def _python() -> Iterator[Finding]:
    says = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("python", says, "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer")


def _torch() -> Iterator[Finding]:
    import torch

    yield Finding("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")


def _device() -> Iterator[Finding]:
    import torch

    from omniwsi.model.norm import kernels
    from omniwsi.model.predictor import best_device, best_precision

    device = best_device()
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        yield Finding(
            "device", f"{card.name}, {size(card.total_memory)}, float16, learning in {best_precision('cuda')}"
        )
        if kernels() is None:
            yield Finding("device", "without Triton and a C compiler for it the network takes three times as long")
        return
    yield Finding("device", f"{device}, {best_precision(device)}")
    if shutil.which("nvidia-smi"):
        yield Finding("device", "there is an NVIDIA GPU that torch cannot use", "install a CUDA build of torch")


def _compiler() -> Iterator[Finding]:
    """Not needed by anything, so there is nothing to cure."""
    command = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    name = command.split()[0]
    missing = f"no {name}, with which training on a CPU would be quicker; nothing else asks for it"
    yield Finding("compiler", name if shutil.which(name) else missing)


def _readers() -> Iterator[Finding]:
    import openslide

    others = ", ".join(f"{name} {version(name)}" for name in ("tifffile", "simplejpeg"))
    yield Finding("readers", f"OpenSlide {openslide.__library_version__}, {others}")


def _codecs() -> Iterator[Finding]:
    import imagecodecs

    missing = [name for name in ("JPEG8", "JPEG2K", "LZW", "ZSTD") if not getattr(imagecodecs, name).available]
    cure = "pip install --force-reinstall imagecodecs" if missing else ""
    yield Finding(
        "codecs", f"imagecodecs {imagecodecs.__version__}" + (f", without {missing}" if missing else ""), cure
    )


def _memory() -> Iterator[Finding]:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        yield Finding("memory", "this system does not say how much there is")
        return
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield Finding("memory", size(total), "" if total > 3.5e9 else "segmenting takes up to 2.5 GB; close other programs")


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    cure = "" if free > 5e9 else "a gigapixel slide takes some GB while it runs; pass -o on a larger disk"
    yield Finding("disk", f"{size(free)} free here", cure)


def _weights() -> Iterator[Finding]:
    from omniwsi.model.checkpoint import DEFAULT_WEIGHTS, shipped_weights, verify

    problems = {name: problem for name, path in shipped_weights().items() if (problem := verify(path))}
    for name, problem in problems.items():
        yield Finding("weights", f"{name}: {problem}", "install omniwsi again")
    if DEFAULT_WEIGHTS not in shipped_weights():
        yield Finding("weights", f"{DEFAULT_WEIGHTS} is missing", "install omniwsi again")
    elif not problems:
        yield Finding("weights", f"{', '.join(shipped_weights())}: as shipped")


def _network() -> Iterator[Finding]:
    """One tile through the network that ships, which is what everything else is for."""
    import time

    import numpy as np

    from omniwsi.model.checkpoint import load_model
    from omniwsi.model.predictor import Predictor

    predictor = Predictor(load_model())
    side = predictor.card.tile_px
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        probs = predictor.decode(predictor.encode(np.full((1, side, side, 3), 240, np.uint8)), predictor.card.tissues)
        spent.append(time.perf_counter() - began)
    cure = "" if np.isfinite(probs).all() else "pass --precision float32"
    yield Finding("network", f"{side * side / min(spent) / 1e6:.2f} megapixels a second", cure)
