"""Predictor: a network made ready for tiles as they come from a slide, on whatever device there is.

The same tile gives the same bytes whatever batch it came in: PyTorch's kernels choose how to add up by the shape of the
batch, so the network is always run in chunks of one fixed shape, the last one filled up.

Axes: B tile, T tissue, C colour, H rows, W columns.
"""

from __future__ import annotations

import copy
import ctypes
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from omniwsi.errors import OmniWSIError, UsageError
from omniwsi.model.captured import Captured
from omniwsi.model.card import ModelCard
from omniwsi.model.network import Network
from omniwsi.model.norm import kernels
from omniwsi.model.omniseg import OmniSeg
from omniwsi.model.rounded import can_fuse, fuse, round_weights
from omniwsi.tissues import Tissue

logger = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_CHUNK = {"cpu": 1, "cuda": 32, "mps": 4}
"""Tiles a pass. One tile fits the cache of a processor; fewer than 32 leave a large GPU idle (benchmarks/README.md, on a GPU)."""
_ROUNDED = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_MOST_WORKERS = 8
"""Tiles at once on a processor; each holds some 100 MB."""


class Predicts(Protocol):
    """What segmenting needs of a network; a test's model is six lines."""

    card: ModelCard

    def encode(self, pixels_BHWC: np.ndarray) -> Any: ...

    def decode(self, features: Any, tissues: Sequence[Tissue]) -> np.ndarray: ...


def on_gpu(predictor: Predicts) -> bool:
    """Whether what it finds can stay on a GPU until it is blended: `decode_on_device`."""
    return getattr(predictor, "kind", "cpu") == "cuda"


class Predictor:
    """`encode` once per tile, `decode` for any tissues."""

    def __init__(self, model: Network, device: str = "auto", precision: Precision = "auto") -> None:
        """`device` may name several GPUs, `cuda:0,cuda:1`: they share the tiles of every batch."""
        self.card = model.card
        self.devices = require_devices(device)
        self.kind = kind = torch.device(self.devices[0]).type
        self.precision = _require_precision(precision, kind)
        self._chunk = _CHUNK[kind]
        self._replicas = [_replica(model, name, self.precision) for name in self.devices]
        self._encoders = [_encoder(*pair) for pair in zip(self._replicas, self.devices, strict=True)]
        self._workers = None
        if kind == "cpu":
            keep_freed_memory()
            self._workers = _start_workers(torch.get_num_threads())
        elif len(self.devices) > 1:
            self._workers = ThreadPoolExecutor(len(self.devices), thread_name_prefix="network")

    def encode(self, pixels_BHWC: np.ndarray) -> list[Any]:
        """Features of uint8 RGB tiles, in chunks; opaque, for `decode`.

        Where a GPU's memory does not suffice, by smaller chunks from then on, which may change last bits. Raises OmniWSIError
        if one tile is too much.
        """
        while True:
            try:
                return self._each(self._features, list(enumerate(self._chunks(pixels_BHWC))))
            except torch.OutOfMemoryError:
                self._take_smaller_chunks()

    def decode(self, features: list[Any], tissues: Sequence[Tissue]) -> np.ndarray:
        """probs_BTHW, float32: sigmoid of how far logit 1 exceeds logit 0. May hold more tiles than were encoded."""
        return self.decode_on_device(features, tissues).cpu().numpy()

    def decode_on_device(self, features: list[Any], tissues: Sequence[Tissue]) -> Tensor:
        """The same probs_BTHW, left on the first device, once they are there: until then a GPU's work is only promised.

        Raises OmniWSIError where the network's numbers were too large for float16.
        """
        probs = self._each(partial(self._probs, tissues), features)
        probs_BTHW = probs[0] if len(probs) == 1 else torch.cat(probs)
        if self.precision == "float16" and probs_BTHW.isnan().any():
            raise OmniWSIError("the network's numbers are too large for float16; pass --precision bfloat16 or float32")
        if self.kind == "cuda":
            torch.cuda.synchronize(self.devices[0])
        return probs_BTHW

    def _features(self, numbered: tuple[int, Tensor]) -> tuple[int, Any]:
        """With the number of the device that they lie on."""
        which = numbered[0] % len(self.devices)
        return which, self._encoders[which](_sent(numbered[1], self.devices[which]))

    def _probs(self, tissues: Sequence[Tissue], placed: tuple[int, Any]) -> Tensor:
        which, features = placed
        return self._replicas[which].find(features, tissues).to(self.devices[0])

    def _take_smaller_chunks(self) -> None:
        if self._chunk == 1:
            raise OmniWSIError("out of memory with one tile at a time; free the GPU, or pass --device cpu") from None
        self._chunk //= 2
        logger.warning("out of memory; %d tiles at a time from now on", self._chunk)
        for encoder in self._encoders:
            if isinstance(encoder, Captured):
                encoder.forget()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _each(self, work: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """On a processor several at once, each by one thread: nothing waits for the slowest part of a layer.

        Of several devices each has a thread.
        """

        def silently(part: Any) -> Any:
            with torch.inference_mode():  # which every thread says for itself
                return work(part)

        return list(map(silently, parts) if self._workers is None else self._workers.map(silently, parts))

    def _chunks(self, pixels_BHWC: np.ndarray) -> list[Tensor]:
        missing = -len(pixels_BHWC) % self._chunk
        if missing:
            pixels_BHWC = np.concatenate([pixels_BHWC, np.repeat(pixels_BHWC[-1:], missing, axis=0)])
        pixels = torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2)  # channels last by birth
        return list(pixels.split(self._chunk))


def _sent(pixels_BCHW: Tensor, device: str) -> Tensor:
    """Over the bus as uint8; to a GPU from pinned memory, so that the next chunk is sent while this one is computed."""
    if torch.device(device).type == "cuda":
        return pixels_BCHW.pin_memory().to(device, non_blocking=True)
    return pixels_BCHW.to(device)


def _replica(model: Network, device: str, precision: Precision) -> Network:
    replica = copy.deepcopy(model).eval().to(device)
    replica = replica.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
    on_cpu = torch.device(device).type == "cpu"
    if precision in _ROUNDED:
        keeps_norms = on_cpu or (isinstance(model, OmniSeg) and kernels() is not None)
        round_weights(replica, _ROUNDED[precision], keeps_norms)
    if precision == "bfloat16" and on_cpu and can_fuse():
        fuse(replica)
    return replica


def _encoder(network: Network, device: str) -> Callable[[Tensor], Any]:
    """pixels_BCHW, uint8 -> features"""

    def encode(pixels_BCHW: Tensor) -> Any:
        return network.encode(pixels_BCHW.float() / 255)

    captures = torch.device(device).type == "cuda" and isinstance(network, OmniSeg)
    return Captured(encode, device) if captures else encode


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


def require_devices(named: str) -> list[str]:
    """The device named, or the best there is; several GPUs one by one. Raises UsageError."""
    if named == "auto":
        return [best_device()]
    devices = named.split(",")
    if len(devices) > 1 and (
        len(set(devices)) < len(devices) or any(not device.startswith("cuda:") for device in devices)
    ):
        raise UsageError(f"--device takes several GPUs as in cuda:0,cuda:1, each once; not {named}")
    for device in devices:
        _require_device(device)
    return devices


def _require_device(device: str) -> None:
    if device.partition(":")[0] not in _CHUNK:
        raise UsageError(f"--device takes auto, cpu, cuda, cuda:1 or mps, not {device}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"there is no device {device} here ({reason}); pass --device cpu") from None


def _require_precision(asked: Precision, kind: str) -> Precision:
    """The one to find with. A GPU multiplies float16 as quickly as bfloat16, which rounds eight times as coarsely. Raises UsageError."""
    if asked == "auto":
        return "float16" if kind == "cuda" else best_precision(kind)
    if asked == "float16" and kind != "cuda":
        raise UsageError("--precision float16 is for GPUs by CUDA; pass auto")
    return asked


def best_precision(kind: str) -> Precision:
    """The one to learn with: bfloat16 only where the hardware multiplies it faster than float32; elsewhere it is emulated, or no quicker."""
    if kind == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if kind == "cpu" and _multiplies_bfloat16() else "float32"


def _multiplies_bfloat16() -> bool:
    """By AMX, or by AVX-512 as AMD has it: on Zen 4 1.9 times as quick as float32.

    Intel's AVX-512 without AMX took 1.25 times as long as float32. On ARM it was not tried.
    """
    # PyTorch asks the processor for AMX but has no public name for the answer; older ones tell nothing else.
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    if has_amx is not None and has_amx():
        return True
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16")) and str(known.get("cpu_name", "")).startswith("AMD")


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: returning 16 MB maps and faulting them in anew costs a third of a float32 pass."""
    libc = _glibc()
    if libc is not None:
        mmap_threshold, trim_threshold = -3, -1
        if not libc.mallopt(mmap_threshold, 1 << 30):
            libc.mallopt(mmap_threshold, 32 << 20)  # more is refused by older ones
        libc.mallopt(trim_threshold, 1 << 30)


def give_back_freed_memory() -> None:
    """What every thread has kept so, and the next stage has no use for: 0.3 GB at the end of a sweep."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
