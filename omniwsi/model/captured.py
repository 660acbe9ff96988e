"""A trunk on a GPU as a CUDA graph: what PyTorch asks of the GPU for a tile is 300 small things, said once and then replayed.

Said anew they take 8 ms a pass, longer than the GPU needs for 32 tiles (benchmarks/README.md, on a GPU).

Axes: B tile, C colour, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from omniwsi.model.trunk import Features

Encode = Callable[[Tensor], Features]
"""pixels_BCHW, uint8 on the GPU -> Features"""


class Captured:
    """`encode` for one device, captured anew for each shape of tiles. Called by one thread at a time."""

    def __init__(self, encode: Encode, device: str) -> None:
        self._encode, self._device = encode, torch.device(device)
        self._passes: dict[torch.Size, _Pass] = {}

    def __call__(self, pixels_BCHW: Tensor) -> Features:
        with torch.cuda.device(self._device):
            if pixels_BCHW.shape not in self._passes:
                self._passes[pixels_BCHW.shape] = self._capture(pixels_BCHW)
            return self._passes[pixels_BCHW.shape].replay(pixels_BCHW)

    def forget(self) -> None:
        """Gives the memory of all passes back."""
        self._passes.clear()

    def _capture(self, pixels_BCHW: Tensor) -> _Pass:
        given_BCHW = pixels_BCHW.clone(memory_format=torch.preserve_format)
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            self._encode(given_BCHW)  # kernels are compiled and chosen, which cannot be captured
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may ask for memory meanwhile
            found = self._encode(given_BCHW)
        return _Pass(graph, given_BCHW, found)


@dataclass(frozen=True, slots=True)
class _Pass:
    graph: torch.cuda.CUDAGraph
    given_BCHW: Tensor
    found: Features

    def replay(self, pixels_BCHW: Tensor) -> Features:
        self.given_BCHW.copy_(pixels_BCHW, non_blocking=True)
        self.graph.replay()
        return Features(self.found.map_BDHW.clone(), self.found.code_BF.clone())
