from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from omniwsi.model.norm import norm_relu, relu_


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("shape", [(1, 16, 8, 8), (3, 32, 24, 16), (2, 256, 4, 4)])
def test_equals_pytorch_and_its_gradients(
    dtype: torch.dtype, tolerance: float, shape: tuple[int, int, int, int]
) -> None:
    """The plain twin is relu(group_norm(x))."""
    generator = torch.Generator().manual_seed(0)
    norm = nn.GroupNorm(16, shape[1])
    nn.init.normal_(norm.weight, 1, 0.5, generator=generator)
    nn.init.normal_(norm.bias, 0, 0.5, generator=generator)
    x = (2 * torch.randn(shape, generator=generator) + 0.5).to(dtype).contiguous(memory_format=torch.channels_last)
    grad = torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
    results = []
    for function in (lambda x: norm_relu(norm, x), lambda x: functional.relu(norm(x))):
        leaf = x.clone(memory_format=torch.channels_last).requires_grad_()
        out = function(leaf)
        results.append((out, *torch.autograd.grad(out, (leaf, norm.weight, norm.bias), grad)))
    for ours, theirs in zip(*results, strict=True):
        scale = theirs.abs().max().item()
        assert (ours - theirs).abs().max().item() <= tolerance * scale


def test_without_gradients_nothing_is_kept() -> None:
    norm, x = nn.GroupNorm(16, 32), torch.randn(1, 32, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        torch.testing.assert_close(norm_relu(norm, x), functional.relu(norm(x)))


def test_relu_by_bits_is_relu() -> None:
    """Of every number that bfloat16 has."""
    numbers = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    numbers = numbers[~numbers.isnan()]
    assert torch.equal(relu_(numbers.clone()), numbers.float().relu().bfloat16())


def test_relu_keeps_gradients() -> None:
    x = torch.linspace(-1, 1, 9, dtype=torch.bfloat16, requires_grad=True)
    relu_(x * 2).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0] * 5 + [2] * 4
