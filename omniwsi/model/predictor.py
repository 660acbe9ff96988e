"""Predictor: a network made ready for tiles as they come from a slide, on whatever device there is.

The same tile gives the same bytes whatever batch it came in: PyTorch's kernels choose how to add up by the shape of the
batch, so the network is always run in chunks of one fixed shape, the last one filled up.

Axes: B tile, T tissue, C colour, H rows, W columns.
"""

from __future__ import annotations

import copy
import ctypes
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from omniwsi.errors import UsageError
from omniwsi.model.card import ModelCard
from omniwsi.model.network import Network
from omniwsi.tissues import Tissue

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_CHUNK = {"cpu": 1, "cuda": 8, "mps": 4}
"""Tiles a pass. One tile fits the cache of a processor."""
_MOST_WORKERS = 8
"""Tiles at once on a processor; each holds some 100 MB."""


class Predicts(Protocol):
    """What segmenting needs of a network; a test's model is six lines."""

    card: ModelCard

    def encode(self, pixels_BHWC: np.ndarray) -> Any: ...

    def decode(self, features: Any, tissues: Sequence[Tissue]) -> np.ndarray: ...


class Predictor:
    """`encode` once per tile, `decode` for any tissues."""

    def __init__(self, model: Network, device: str = "auto", precision: Precision = "auto") -> None:
        self.card = model.card
        self.device = best_device() if device == "auto" else _require_device(device)
        kind = torch.device(self.device).type
        self.precision = best_precision(kind) if precision == "auto" else precision
        self._chunk = _CHUNK[kind]
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        model = copy.deepcopy(model).eval().to(self.device)
        self._model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
        for name, part in self._model.named_children():
            if name != "controller":  # which is small, and writes the heads
                part.to(dtype)
        self._dtype = dtype
        self._workers = None
        if kind == "cpu":
            keep_freed_memory()
            self._workers = _start_workers(torch.get_num_threads())

    def encode(self, pixels_BHWC: np.ndarray) -> list[Any]:
        """Features of uint8 RGB tiles, in chunks; opaque, for `decode`."""
        return self._each(self._model.encode, self._chunks(pixels_BHWC))

    def decode(self, features: list[Any], tissues: Sequence[Tissue]) -> np.ndarray:
        """probs_BTHW, float32: sigmoid of how far logit 1 exceeds logit 0. May hold more tiles than were encoded."""
        probs = self._each(partial(self._probs, tissues), features)
        return (probs[0] if len(probs) == 1 else torch.cat(probs)).numpy()

    def _probs(self, tissues: Sequence[Tissue], features: Any) -> Tensor:
        logits_BT2HW = self._model.decode(features, tissues).float()
        return (logits_BT2HW[:, :, 1] - logits_BT2HW[:, :, 0]).sigmoid_().cpu()

    def _each(self, work: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """On a processor several at once, each by one thread: nothing waits for the slowest part of a layer."""

        def silently(part: Any) -> Any:
            with torch.inference_mode():  # which every thread says for itself
                return work(part)

        return list(map(silently, parts) if self._workers is None else self._workers.map(silently, parts))

    def _chunks(self, pixels_BHWC: np.ndarray) -> list[Tensor]:
        missing = -len(pixels_BHWC) % self._chunk
        if missing:
            pixels_BHWC = np.concatenate([pixels_BHWC, np.repeat(pixels_BHWC[-1:], missing, axis=0)])
        pixels = torch.from_numpy(pixels_BHWC).to(self.device).permute(0, 3, 1, 2)  # channels last by birth
        return [part.to(self._dtype) / 255 for part in pixels.split(self._chunk)]


def _start_workers(threads: int) -> ThreadPoolExecutor:
    """As many as there are threads, up to _MOST_WORKERS, which share what is more."""
    count = min(threads, _MOST_WORKERS)
    here = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # PyTorch gives a thread the number of the process when first asked; ours comes after
        torch.set_num_threads(max(1, threads // count))
        here.wait()

    workers = ThreadPoolExecutor(count, thread_name_prefix="network")
    for _ in range(count):
        workers.submit(begin)
    here.wait()
    torch.set_num_threads(threads)  # said last, or what is begun later in this process would have one, too
    return workers


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _require_device(device: str) -> str:
    if device.partition(":")[0] not in _CHUNK:
        raise UsageError(f"--device takes auto, cpu, cuda, cuda:1 or mps, not {device}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"there is no device {device} here ({reason}); pass --device cpu") from None
    return device


def best_precision(kind: str) -> Precision:
    """bfloat16 only where the hardware multiplies it: elsewhere it is emulated and slower."""
    if kind == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # PyTorch asks the processor but has no public name for the answer.
    asks = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return "bfloat16" if kind == "cpu" and any(ask() for ask in asks if ask) else "float32"


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: returning 16 MB maps and faulting them in anew costs a third of a float32 pass."""
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    mmap_threshold, trim_threshold = -3, -1
    libc.mallopt(mmap_threshold, 1 << 30)
    libc.mallopt(trim_threshold, 1 << 30)
