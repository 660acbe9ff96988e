"""Group normalisation followed by ReLU, with a backward pass that a CPU can afford.

PyTorch's own backward of GroupNorm is half of a training step in bfloat16 on the CPU (benchmarks/README.md). The same gradient in
two passes over the pixels, each compiled into one loop where there is a C++ compiler, takes a seventeenth of its time. On a GPU kernels of
our own go three times less through memory (kernels.py); elsewhere PyTorch's is used.

Axes: N image, P pixels, C channels, G groups.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
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
        relu_(y)
        ctx.save_for_backward(x_NCHW, y, weight_C, mean_NG, rstd_NG)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight_C, *statistics = ctx.saved_tensors
        mean_NG, rstd_NG, weight = (t.float() for t in (*statistics, weight_C))
        N, C, H, W = x.shape
        G = mean_NG.shape[1]
        count = C // G * H * W
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        rows = [t.detach().permute(0, 2, 3, 1).reshape(N, H * W, C) for t in (grad, x, y)]
        sum_g_NC, sum_gx_NC = _pass(_sums, *rows)
        # dx = a g + b x + c, with a per channel, b and c per group: d/dx of (x - mean) * rstd, chain rule in full.
        g_NG, gx_NG = ((s_NC * weight).view(N, G, -1).sum(2) for s_NC in (sum_g_NC, sum_gx_NC))
        b_NG = (g_NG * mean_NG - gx_NG) * rstd_NG**3 / count
        c_NG = -b_NG * mean_NG - g_NG * rstd_NG / count
        b_NC, c_NC, mean_NC, rstd_NC = (t.repeat_interleave(C // G, 1) for t in (b_NG, c_NG, mean_NG, rstd_NG))
        (dx_NPC,) = _pass(_combined, *rows, *(t[:, None] for t in (rstd_NC * weight, b_NC, c_NC)))
        dx = dx_NPC.view(N, H, W, C).permute(0, 3, 1, 2)
        d_weight = ((sum_gx_NC - sum_g_NC * mean_NC) * rstd_NC).sum(0)
        return dx, d_weight.to(weight_C.dtype), sum_g_NC.sum(0).to(weight_C.dtype), None, None


def _sums(grad_NPC: Tensor, x_NPC: Tensor, y_NPC: Tensor) -> tuple[Tensor, ...]:
    """Of the gradient that ReLU lets through, and of its product with x: each [N, C] in float32."""
    g_NPC = _through_relu(grad_NPC, y_NPC)
    return g_NPC.sum(1), (g_NPC * x_NPC.float()).sum(1)


def _combined(
    grad_NPC: Tensor, x_NPC: Tensor, y_NPC: Tensor, a_N1C: Tensor, b_N1C: Tensor, c_N1C: Tensor
) -> tuple[Tensor, ...]:
    return ((_through_relu(grad_NPC, y_NPC) * a_N1C + x_NPC.float() * b_N1C + c_N1C).to(x_NPC.dtype),)


def _through_relu(grad: Tensor, y: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(grad, y, 0).float()


_Pass = Callable[..., tuple[Tensor, ...]]
_WORTH_COMPILING = 2**22
"""Numbers in a map: of smaller ones alone, as tests and trials are taught, a training is over sooner than a compiler."""


def _pass(one: _Pass, *of_images: Tensor) -> tuple[Tensor, ...]:
    """One loop over everything; without a compiler image by image, which stays in the cache."""
    if of_images[0].numel() >= _WORTH_COMPILING and (compiled := _compiled(one)) is not None:
        return compiled(*of_images)
    images = [one(*image) for image in zip(*(t.split(1) for t in of_images), strict=True)]
    return tuple(torch.cat(parts) for parts in zip(*images, strict=True))


@cache
def _compiled(one: _Pass) -> _Pass | None:
    """None where it cannot be: it is asked by trying. Takes some seconds, the first time on a machine more."""
    compiled: _Pass = torch.compile(one, dynamic=True, fullgraph=True)
    rows = [torch.ones(2, 64, 32, dtype=torch.bfloat16)] * 3
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of PyTorch's compiler, of PyTorch
            compiled(*rows, *([torch.ones(2, 1, 32)] * 3 if one is _combined else []))
    except Exception as error:  # PyTorch's own, those of the compiler it starts, and of files it may not write
        logger.info("no C++ compiler can be used (%s); a step of training will take longer", error)
        return None
    return compiled
