"""Group normalisation followed by ReLU, with a backward pass that a CPU can afford.

PyTorch's own backward of GroupNorm is half of a training step in bfloat16 on the CPU (benchmarks/README.md). The same
gradient, image by image, in passes that stay in the cache, is three to four times quicker. On a GPU kernels of our own go three
times less through memory (kernels.py); elsewhere PyTorch's is used.

Axes: N image, P pixels, C channels, G groups.
"""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


def norm_relu(norm: nn.GroupNorm, x_NCHW: Tensor) -> Tensor:
    """relu(norm(x))"""
    if (gpu := kernels_for(x_NCHW)) is not None and _is_power_of_two(x_NCHW.shape[1]):
        relu_of_kernel: Tensor = gpu.norm_relu(x_NCHW, norm.weight, norm.bias, norm.num_groups, norm.eps)
        return relu_of_kernel
    on_slow_path = x_NCHW.device.type == "cpu" and x_NCHW.requires_grad and torch.is_grad_enabled()
    if on_slow_path and x_NCHW.is_contiguous(memory_format=torch.channels_last):
        relu_of_norm: Tensor = _NormReLU.apply(x_NCHW, norm.weight, norm.bias, norm.num_groups, norm.eps)  # type: ignore[no-untyped-call]  # torch has no types for it
        return relu_of_norm
    return relu_(norm(x_NCHW))


def kernels_for(x_NCHW: Tensor) -> ModuleType | None:
    """Those of kernels.py, for what lies on a GPU with channels last."""
    if x_NCHW.device.type != "cuda" or not x_NCHW.is_contiguous(memory_format=torch.channels_last):
        return None
    return kernels()


@cache
def kernels() -> ModuleType | None:
    """None where there is no Triton, or nothing that it can compile with or for: it is asked by trying."""
    if not torch.cuda.is_available():
        return None
    try:
        from omniwsi.model import kernels

        one = torch.ones(16, device="cuda")
        x_NCHW = torch.ones(1, 16, 16, 16, device="cuda").contiguous(memory_format=torch.channels_last)
        kernels.norm_relu(x_NCHW, one, one, 16, 1e-5)
    except Exception as error:  # Triton's own, those of the compiler it starts, and of files it may not write
        logger.warning("Triton cannot be used (%s); the GPU will take three times as long", error)
        return None
    return kernels


def _is_power_of_two(count: int) -> bool:
    return count & (count - 1) == 0


def relu_(x: Tensor) -> Tensor:
    """In place. bfloat16 without gradients on a CPU by its bits, several times as quick as PyTorch's.

    What is below zero has the sign bit, and so has it as an integer; that goes for a NaN with a sign, too.
    """
    if is_rounded_inference(x):
        x.view(torch.int16).clamp_min_(0)
        return x
    return x.relu_()


def is_rounded_inference(x: Tensor) -> bool:
    """Of bfloat16 without gradients on a CPU: what PyTorch itself does slowly there has a quicker way."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and not x.requires_grad


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, weight_C: Tensor, bias_C: Tensor, groups: int, eps: float) -> Tensor:
        N, C, H, W = x_NCHW.shape
        y, mean_NG, rstd_NG = torch.native_group_norm(x_NCHW, weight_C, bias_C, N, C, H * W, groups, eps)
        y.relu_()
        ctx.save_for_backward(x_NCHW, y, weight_C, mean_NG, rstd_NG)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight_C, mean_NG, rstd_NG = ctx.saved_tensors
        mean_NG, rstd_NG, weight = mean_NG.float(), rstd_NG.float(), weight_C.float()
        N, C, H, W = x.shape
        per_group = C // mean_NG.shape[1]
        dx = torch.empty_like(x)
        sum_g, sum_gx = torch.empty(N, C), torch.empty(N, C)
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        rows = [t.permute(0, 2, 3, 1).reshape(N, H * W, C) for t in (grad, x, y, dx)]
        for n, (grad_PC, x_PC, y_PC, dx_PC) in enumerate(zip(*rows, strict=True)):
            g_PC = torch.ops.aten.threshold_backward(grad_PC, y_PC, 0)
            sum_g[n] = g_PC.sum(0, dtype=torch.float32)
            sum_gx[n] = (g_PC * x_PC).sum(0, dtype=torch.float32)
            # dx = a g + b x + c, with a per channel, b and c per group: d/dx of (x - mean) * rstd, chain rule in full.
            g_G = (sum_g[n] * weight).view(-1, per_group).sum(1)
            gx_G = (sum_gx[n] * weight).view(-1, per_group).sum(1)
            b_G = (g_G * mean_NG[n] - gx_G) * rstd_NG[n] ** 3 / (per_group * H * W)
            c_G = -b_G * mean_NG[n] - g_G * rstd_NG[n] / (per_group * H * W)
            a_C = rstd_NG[n].repeat_interleave(per_group) * weight
            b_C, c_C = (t.repeat_interleave(per_group).to(x.dtype) for t in (b_G, c_G))
            torch.mul(g_PC, a_C.to(x.dtype), out=dx_PC).addcmul_(x_PC, b_C).add_(c_C)
        mean_NC, rstd_NC = (t.repeat_interleave(per_group, 1) for t in (mean_NG, rstd_NG))
        d_weight = ((sum_gx - sum_g * mean_NC) * rstd_NC).sum(0)
        return dx, d_weight.to(weight_C.dtype), sum_g.sum(0).to(weight_C.dtype), None, None
