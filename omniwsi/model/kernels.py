"""What a GPU is told in Triton's words, because PyTorch passes through its memory too often: GroupNorm with ReLU, and the heads.

PyTorch's GroupNorm turns channels-last to channels-first, the next convolution turns them back, and seven of ten milliseconds
of the trunk went there (benchmarks/README.md, on a GPU). Here an image is read once for its sums and once more to be written;
backward likewise. Of the heads nothing is written but one number a pixel and tissue. Sums are added up in a fixed order: the
same tile gives the same bytes.

Triton comes with PyTorch for CUDA on Linux. Import this where it is known to be there (`norm.kernels`).

Axes: N image, P pixels, S parts of an image, C channels, G groups, D channels of the map, T tissue, K numbers of a head, H rows,
W columns. Tensors are channels last: pixels by channels in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 8192
"""Numbers that a program holds at a time."""
_MOST_PARTS = tl.constexpr(32)
"""An image is summed up in no more parts than that."""
_STEPS = 8
"""Blocks that a program walks over, where that many parts suffice."""


def norm_relu(x_NCHW: Tensor, weight_C: Tensor, bias_C: Tensor, groups: int, eps: float) -> Tensor:
    """relu(GroupNorm(x)), also for training."""
    if torch.is_grad_enabled():
        relu_of_norm: Tensor = _NormReLU.apply(x_NCHW, weight_C, bias_C, groups, eps)  # type: ignore[no-untyped-call]  # torch has no types for it
        return relu_of_norm
    return _forward(x_NCHW, weight_C, bias_C, groups, eps)[0]


def foreground(map_NDHW: Tensor, heads_NTK: Tensor, width: int, depth: int) -> Tensor:
    """probs_NTHW, float32: the sigmoid of how far logit 1 exceeds logit 0; heads as `head.run_heads` has them."""
    N, D, H, W = map_NDHW.shape
    T, K = heads_NTK.shape[1:]
    rows = 128
    with torch.cuda.device_of(map_NDHW):
        probs_NTHW = map_NDHW.new_empty((N, T, H, W), dtype=torch.float32)
        grid = triton.cdiv(H * W, rows), T, N
        _heads[grid](map_NDHW, heads_NTK.float().contiguous(), probs_NTHW, H * W, K, D, width, depth, rows)
    return probs_NTHW


@triton.jit
def _relu(x):
    """What is not a number stays none, so that numbers too large for float16 are noticed; a maximum would make it 0."""
    return tl.where(x < 0, 0.0, x)


@triton.jit
def _heads(
    map_PD, heads_K, probs_P, P, K, D: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr, ROWS: tl.constexpr
):
    """Some pixels of one image by the head of one tissue (DoDNet, section 3.4)."""
    n, p = tl.program_id(2).to(tl.int64), tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    head = n * tl.num_programs(1) + tl.program_id(1)
    d, w = tl.arange(0, D), tl.arange(0, WIDTH)
    weight = heads_K + head * K
    bias = weight + WIDTH * D + (DEPTH - 2) * WIDTH * WIDTH + 2 * WIDTH
    x = tl.load(map_PD + (n * P + p)[:, None] * D + d, mask=(p < P)[:, None], other=0.0).to(tl.float32)
    into = tl.load(weight + w[:, None] * D + d)
    y = _relu(tl.sum(x[:, None, :] * into[None, :, :], 2) + tl.load(bias + w))
    weight += WIDTH * D
    for _ in tl.static_range(DEPTH - 2):
        bias += WIDTH
        into = tl.load(weight + w[:, None] * WIDTH + w)
        y = _relu(tl.sum(y[:, None, :] * into[None, :, :], 2) + tl.load(bias + w))
        weight += WIDTH * WIDTH
    bias += WIDTH
    margin = tl.sum(y * (tl.load(weight + WIDTH + w) - tl.load(weight + w)), 1) + tl.load(bias + 1) - tl.load(bias)
    margin += tl.sum(x - x, 1)  # 0, but no number where the map is infinite or none
    small = tl.exp(-tl.abs(margin))
    tl.store(probs_P + head * P + p, tl.where(margin > 0, 1.0, small) / (1 + small), mask=p < P)


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_C: Tensor, bias_C: Tensor, groups: int, eps: float) -> Tensor:
        y, sums = _forward(x, weight_C, bias_C, groups, eps)
        ctx.save_for_backward(x, weight_C, bias_C, sums)
        ctx.groups, ctx.eps = groups, eps
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_C, bias_C, sums = ctx.saved_tensors
        dy = grads[0].contiguous(memory_format=torch.channels_last)
        share = _Share.of(x, ctx.groups)
        grad_sums, dx = share.sums(x), torch.empty_like(x)
        d_weight_bias_N2C = x.new_empty((len(x), 2, share.C), dtype=torch.float32)
        known = sums, weight_C, bias_C, grad_sums
        with torch.cuda.device_of(x):
            _sum_gradients[share.grid](x, dy, *known, share.P, ctx.eps, share.C, share.G, share.rows, share.steps)
            _differentiate[share.grid](
                x, dy, dx, *known, d_weight_bias_N2C, share.P, ctx.eps, share.C, share.G, share.rows, share.steps
            )
        d_weight_C, d_bias_C = d_weight_bias_N2C.sum(0).to(weight_C.dtype)
        return dx, d_weight_C, d_bias_C, None, None


def _forward(x: Tensor, weight_C: Tensor, bias_C: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """(y, sums of x)"""
    share = _Share.of(x, groups)
    with torch.cuda.device_of(x):
        sums, y = share.sums(x), torch.empty_like(x)
        _sum[share.grid](x, sums, share.P, share.C, share.rows, share.steps)
        _normalise[share.grid](x, y, sums, weight_C, bias_C, share.P, eps, share.C, share.G, share.rows, share.steps)
    return y, sums


@dataclass(frozen=True, slots=True)
class _Share:
    """What falls to a program: `steps` blocks of `rows` pixels of one image."""

    grid: tuple[int, int]
    P: int
    C: int
    G: int
    rows: int
    steps: int

    @classmethod
    def of(cls, x_NCHW: Tensor, groups: int) -> _Share:
        N, C, H, W = x_NCHW.shape
        P, rows = H * W, _BLOCK // C
        steps = max(_STEPS, triton.cdiv(P, rows * _MOST_PARTS.value))
        return cls((triton.cdiv(P, rows * steps), N), P, C, groups, rows, steps)

    def sums(self, x: Tensor) -> Tensor:
        """[N, S, 2, C] for two sums of each part."""
        parts, images = self.grid
        return x.new_empty((images, parts, 2, self.C), dtype=torch.float32)


@triton.jit
def _block(step, P, C: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr):
    """Where the numbers of one of the program's blocks lie, [ROWS, C], and which of its rows the image has."""
    p = (tl.program_id(0) * STEPS + step) * ROWS + tl.arange(0, ROWS)
    return (tl.program_id(1).to(tl.int64) * P + p)[:, None] * C + tl.arange(0, C), (p < P)[:, None]


@triton.jit
def _keep(sums, first, second, C: tl.constexpr):
    """Both sums of the program's part, for `_total`."""
    part = tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    to = sums + part * 2 * C + tl.arange(0, C)
    tl.store(to, tl.sum(first, 0))
    tl.store(to + C, tl.sum(second, 0))


@triton.jit
def _gradient(x, dy, there, mean, rstd, scale, shift):
    """(z, g): x normalised, and dy where y is above zero."""
    z = (tl.load(x, mask=there, other=0.0).to(tl.float32) - mean) * rstd
    g = tl.load(dy, mask=there, other=0.0).to(tl.float32)
    return z, tl.where(z * scale + shift > 0, g, 0.0)


@triton.jit
def _sum(x, sums, P, C: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr):
    """Of x and of x * x."""
    of_x, of_xx = tl.zeros((ROWS, C), tl.float32), tl.zeros((ROWS, C), tl.float32)
    for step in range(STEPS):
        at, there = _block(step, P, C, ROWS, STEPS)
        value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
        of_x += value
        of_xx += value * value
    _keep(sums, of_x, of_xx, C)


@triton.jit
def _total(sums, C: tl.constexpr):
    """[C] twice: both sums of an image, all its parts added up."""
    s, c = tl.arange(0, _MOST_PARTS), tl.arange(0, C)
    at = sums + (tl.program_id(1).to(tl.int64) * tl.num_programs(0) + s)[:, None] * 2 * C + c
    there = (s < tl.num_programs(0))[:, None]
    return tl.sum(tl.load(at, mask=there, other=0.0), 0), tl.sum(tl.load(at + C, mask=there, other=0.0), 0)


@triton.jit
def _mean_of_group(total_C, P, C: tl.constexpr, G: tl.constexpr):
    """[C]: the mean over the pixels and channels of each channel's group."""
    mean_G = tl.sum(tl.reshape(total_C, (G, C // G)), 1) / (P * (C // G))
    return tl.reshape(tl.broadcast_to(mean_G[:, None], (G, C // G)), (C,))


@triton.jit
def _moments(sums, P, eps, C: tl.constexpr, G: tl.constexpr):
    """(mean, 1 / deviation) of each channel's group."""
    of_x, of_xx = _total(sums, C)
    mean, square = _mean_of_group(of_x, P, C, G), _mean_of_group(of_xx, P, C, G)
    return mean, 1 / tl.sqrt(tl.maximum(square - mean * mean, 0.0) + eps)


@triton.jit
def _normalise(
    x, y, sums, weight, bias, P, eps, C: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr
):
    c = tl.arange(0, C)
    mean, rstd = _moments(sums, P, eps, C, G)
    scale = tl.load(weight + c).to(tl.float32) * rstd
    shift = tl.load(bias + c).to(tl.float32) - mean * scale
    for step in range(STEPS):
        at, there = _block(step, P, C, ROWS, STEPS)
        value = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
        tl.store(y + at, _relu(value * scale + shift).to(y.dtype.element_ty), mask=there)


@triton.jit
def _sum_gradients(
    x,
    dy,
    sums,
    weight,
    bias,
    grad_sums,
    P,
    eps,
    C: tl.constexpr,
    G: tl.constexpr,
    ROWS: tl.constexpr,
    STEPS: tl.constexpr,
):
    """Of g, which is dy where y is above zero, and of g z, where z is x normalised."""
    c = tl.arange(0, C)
    mean, rstd = _moments(sums, P, eps, C, G)
    scale, shift = tl.load(weight + c).to(tl.float32), tl.load(bias + c).to(tl.float32)
    of_g, of_gz = tl.zeros((ROWS, C), tl.float32), tl.zeros((ROWS, C), tl.float32)
    for step in range(STEPS):
        at, there = _block(step, P, C, ROWS, STEPS)
        z, g = _gradient(x + at, dy + at, there, mean, rstd, scale, shift)
        of_g += g
        of_gz += g * z
    _keep(grad_sums, of_g, of_gz, C)


@triton.jit
def _differentiate(
    x, dy, dx, sums, weight, bias, grad_sums, d_weight_bias, P, eps,
    C: tl.constexpr, G: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """dx = (w g - mean of w g - z times the mean of w g z) / deviation, means over the group."""
    c = tl.arange(0, C)
    mean, rstd = _moments(sums, P, eps, C, G)
    scale, shift = tl.load(weight + c).to(tl.float32), tl.load(bias + c).to(tl.float32)
    of_g, of_gz = _total(grad_sums, C)
    if tl.program_id(0) == 0:
        of_image = d_weight_bias + tl.program_id(1).to(tl.int64) * 2 * C + c
        tl.store(of_image, of_gz)
        tl.store(of_image + C, of_g)
    mean_g, mean_gz = _mean_of_group(of_g * scale, P, C, G), _mean_of_group(of_gz * scale, P, C, G)
    for step in range(STEPS):
        at, there = _block(step, P, C, ROWS, STEPS)
        z, g = _gradient(x + at, dy + at, there, mean, rstd, scale, shift)
        value = (g * scale - mean_g - z * mean_gz) * rstd
        tl.store(dx + at, value.to(dx.dtype.element_ty), mask=there)
