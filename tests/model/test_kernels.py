"""Kernels for a GPU against PyTorch's own layers: on a GPU where there is one, else as Triton's interpreter runs them."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn
from torch.nn import functional

from omniwsi.model.card import HeadShape
from omniwsi.model.head import foreground, head_size, of_logits, run_heads
from omniwsi.model.norm import kernels as usable_kernels
from omniwsi.model.norm import norm_relu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # which Triton reads when it is first imported
pytest.importorskip("triton", reason="Triton comes with PyTorch for CUDA on Linux")
from omniwsi.model import kernels  # noqa: E402  # it is not importable without Triton

needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device here")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def image(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Channels last, a mean and a deviation of its own in each channel."""
    scale, shift = normal(channels, 1, 1, seed=1).exp(), 3 * normal(channels, 1, 1, seed=2)
    return (normal(count, channels, height, width) * scale + shift).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("channels", "height", "width"),
    [(16, 16, 16), (32, 48, 64), (256, 5, 7), pytest.param(32, 600, 600, marks=needs_gpu)],
    ids=["one channel a group", "more than a part", "sides that divide nothing", "more parts than fit"],
)
def test_norm_relu_and_its_gradients_are_those_of_pytorch(channels: int, height: int, width: int) -> None:
    """In float64: of large images PyTorch's own sums in float32 are further from those than ours."""
    x = image(2, channels, height, width)
    parameters = normal(channels, seed=3), normal(channels, seed=4)
    upstream = normal(2, channels, height, width, seed=5)
    results = []
    for function, dtype in ((kernels.norm_relu, torch.float32), (_plainly, torch.float64)):
        inputs = [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in (x, *parameters)]
        y = function(*inputs, 16, 1e-5)
        y.backward(upstream.to(dtype))
        results.append([y.detach(), *(tensor.grad for tensor in inputs)])
    for found, expected in zip(*results, strict=True):
        assert (found - expected).norm() <= 1e-3 * expected.norm()  # single pixels lie on either side of zero


def _plainly(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, groups: int, eps: float) -> torch.Tensor:
    return functional.group_norm(x, groups, weight, bias, eps).relu()


def test_where_nothing_varies_norm_relu_says_its_bias() -> None:
    x = torch.full((1, 32, 8, 8), 7.0, device=DEVICE).contiguous(memory_format=torch.channels_last)
    bias = normal(32)
    with torch.inference_mode():
        y = kernels.norm_relu(x, torch.ones(32, device=DEVICE), bias, 16, 1e-5)
    torch.testing.assert_close(y, bias.relu()[None, :, None, None].expand_as(y), atol=1e-2, rtol=0)


@pytest.mark.parametrize("shape", [HeadShape(), HeadShape(depth=2), HeadShape(depth=4), HeadShape(width=16)])
def test_foreground_is_what_the_logits_say(shape: HeadShape) -> None:
    map_BDHW = image(3, 8, 9, 16)
    heads_BTK = normal(3, 5, head_size(shape), seed=6)
    expected = of_logits(run_heads(map_BDHW, heads_BTK, shape))
    torch.testing.assert_close(
        kernels.foreground(map_BDHW, heads_BTK, shape.width, shape.depth), expected, atol=1e-4, rtol=0
    )
    if DEVICE == "cuda":
        torch.testing.assert_close(foreground(map_BDHW, heads_BTK, shape), expected, atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of NumPy, by which the interpreter computes
def test_what_is_no_number_stays_none() -> None:
    """ReLU as a maximum would make it 0 on a GPU, where numbers too large for float16 have to be noticed."""
    x = image(1, 32, 8, 8)
    x[0, 5, 3, 3], x[0, 6, 4, 4] = torch.nan, torch.inf
    with torch.inference_mode():
        y = kernels.norm_relu(x, torch.ones(32, device=DEVICE), torch.zeros(32, device=DEVICE), 16, 1e-5)
        found = kernels.foreground(x[:, :8].contiguous(memory_format=torch.channels_last), normal(1, 2, 162), 8, 3)
    assert y[0, 5, 3, 3].isnan()
    assert y[0, 6, 4, 4].isnan()
    assert found.isnan().nonzero()[:, 1:].tolist() == [[t, i, i] for t in (0, 1) for i in (3, 4)]


@needs_gpu
def test_a_gpu_with_triton_uses_them() -> None:
    assert usable_kernels() is kernels
    norm, x = nn.GroupNorm(16, 32).cuda(), image(2, 32, 8, 8)
    torch.testing.assert_close(norm_relu(norm, x), functional.relu(norm(x)), rtol=1e-4, atol=1e-4)


@needs_gpu
def test_the_same_image_gives_the_same_bytes_beside_any_other() -> None:
    x = image(5, 32, 64, 64).half()
    with torch.inference_mode():
        together = kernels.norm_relu(x, normal(32), normal(32), 16, 1e-5)
        for i in range(5):
            assert torch.equal(kernels.norm_relu(x[i : i + 1], normal(32), normal(32), 16, 1e-5)[0], together[i])
