from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from omniwsi.model import norm as norm_module
from omniwsi.model.norm import norm_relu, relu_


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("shape", [(1, 16, 8, 8), (3, 32, 24, 16), (2, 256, 4, 4)])
def test_equals_pytorch_and_its_gradients(
    dtype: torch.dtype, tolerance: float, shape: tuple[int, int, int, int]
) -> None:
    """The plain twin is relu(group_norm(x))."""
    norm, x, grad = _layer(shape, dtype)
    theirs = _with_gradients(lambda x: functional.relu(norm(x)), norm, x, grad)
    _assert_near(_with_gradients(partial(norm_relu, norm), norm, x, grad), theirs, tolerance)


def test_compiled_loops_say_what_the_plain_ones_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which large maps take; compiled once for all shapes, as a network has several."""
    for shape in ((2, 32, 24, 16), (5, 64, 8, 8)):
        norm, x, grad = _layer(shape, torch.bfloat16)
        plain = _with_gradients(partial(norm_relu, norm), norm, x, grad)
        with monkeypatch.context() as small_ones_too:
            small_ones_too.setattr(norm_module, "_WORTH_COMPILING", 1)
            if norm_module._compiled(norm_module._sums) is None:
                pytest.skip("no C++ compiler")
            _assert_near(_with_gradients(partial(norm_relu, norm), norm, x, grad), plain, 2**-8)


def test_without_a_compiler_training_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def no_compiler(*_: object, **__: object) -> object:
        def fail(*_: object) -> None:
            raise RuntimeError("no working C++ compiler found")

        return fail

    norm, x, grad = _layer((1, 16, 8, 8), torch.bfloat16)
    plain = _with_gradients(partial(norm_relu, norm), norm, x, grad)
    monkeypatch.setattr(torch, "compile", no_compiler)
    monkeypatch.setattr(norm_module, "_WORTH_COMPILING", 1)
    norm_module._compiled.cache_clear()
    try:
        with caplog.at_level("INFO"):
            assert all(map(torch.equal, _with_gradients(partial(norm_relu, norm), norm, x, grad), plain))
    finally:
        norm_module._compiled.cache_clear()
    assert "no C++ compiler can be used (no working C++ compiler found)" in caplog.text


def _layer(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[nn.GroupNorm, torch.Tensor, torch.Tensor]:
    """(norm, x, the gradient from above)"""
    generator = torch.Generator().manual_seed(0)
    norm = nn.GroupNorm(16, shape[1])
    nn.init.normal_(norm.weight, 1, 0.5, generator=generator)
    nn.init.normal_(norm.bias, 0, 0.5, generator=generator)
    x, grad = (torch.randn(shape, generator=generator) for _ in range(2))
    return norm, _last(2 * x + 0.5, dtype), _last(grad, dtype)


def _last(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def _with_gradients(
    function: Callable[[torch.Tensor], torch.Tensor], norm: nn.GroupNorm, x: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """(what it says, its gradients by x, weight and bias)"""
    leaf = x.clone(memory_format=torch.channels_last).requires_grad_()
    out = function(leaf)
    return out, *torch.autograd.grad(out, (leaf, norm.weight, norm.bias), grad)


def _assert_near(ours: tuple[torch.Tensor, ...], theirs: tuple[torch.Tensor, ...], tolerance: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max().item() <= tolerance * other.abs().max().item()


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
