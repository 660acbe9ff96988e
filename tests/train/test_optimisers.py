from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from omniwsi.model.card import ModelCard
from omniwsi.model.forms import build
from omniwsi.tissues import KIDNEY
from omniwsi.train.optimisers import MOMENTUM, RMS, Muon, moved_together, optimisers, orthogonal
from omniwsi.train.options import METHODS
from omniwsi.train.recipes import BEST, MIDL2022


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def polar(matrix_MN: Tensor) -> Tensor:
    """The nearest orthogonal matrix, exactly."""
    u, _, vh = torch.linalg.svd(matrix_MN, full_matrices=False)
    return u @ vh


@pytest.mark.parametrize("shape", [(16, 144), (64, 64), (144, 16)])
def test_an_orthogonal_matrix_keeps_directions_and_levels_their_strength(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=generator())
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    within = u.T @ orthogonal(matrix) @ vh.T
    strengths = within.diagonal()
    assert strengths[:-1].min() > 0.6  # the last of a square matrix may be near nothing
    assert strengths.max() < 1.25
    assert (within - torch.diag(strengths)).abs().max() < 1e-3


def test_how_long_a_gradient_is_does_not_matter_and_nothing_stays_nothing() -> None:
    matrix = torch.randn(16, 144, generator=generator())
    assert torch.allclose(orthogonal(1e-3 * matrix), orthogonal(matrix), atol=1e-3)
    assert not orthogonal(torch.zeros(16, 144)).any()


def moved(weight_OIHW: Tensor, gradients: list[Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
    parameter = nn.Parameter(weight_OIHW.clone(memory_format=torch.preserve_format))
    optimiser = Muon([parameter], lr=0.01, weight_decay=0.1, dtype=dtype)
    for gradient in gradients:
        parameter.grad = gradient
        optimiser.step()
    return parameter.detach()


def test_a_step_is_that_of_the_papers() -> None:
    """Against the exact orthogonal matrix, which five iterations are within a third of."""
    weight, first, second = torch.randn(3, 16, 32, 3, 3, generator=generator()).unbind()
    expected, momentum = weight.clone(), torch.zeros(16, 288)
    for gradient in (first.flatten(1), second.flatten(1)):
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        direction = polar((1 - MOMENTUM) * gradient + MOMENTUM * momentum).view_as(weight)
        expected = expected * (1 - 0.01 * 0.1) - 0.01 * RMS * 288**0.5 * direction
    found = moved(weight, [first, second])
    assert (found - expected).norm() < 0.34 * (weight - expected).norm()
    assert torch.cosine_similarity((found - weight).flatten(), (expected - weight).flatten(), 0) > 0.98


def test_a_step_has_the_size_of_adamws() -> None:
    weight, gradient = torch.zeros(64, 32, 3, 3), torch.randn(64, 32, 3, 3, generator=generator())
    step = moved(weight, [gradient])
    assert step.square().mean().sqrt().item() == pytest.approx(0.01 * RMS, rel=0.25)


def test_layout_in_memory_and_rounding_change_little() -> None:
    weight, gradient = torch.randn(2, 32, 16, 3, 3, generator=generator()).unbind()
    plain = moved(weight, [gradient])
    last = moved(
        weight.contiguous(memory_format=torch.channels_last), [gradient.contiguous(memory_format=torch.channels_last)]
    )
    assert torch.equal(plain, last)
    rounded = moved(weight, [gradient], torch.bfloat16)
    assert (rounded - plain).norm() < 0.05 * (plain - weight).norm()


@pytest.mark.parametrize("shape", [(16, 144), (64, 64), (144, 16)])
def test_a_stack_is_made_orthogonal_matrix_by_matrix(shape: tuple[int, int]) -> None:
    stack_KMN = torch.randn(3, *shape, generator=generator()) * torch.tensor([1e-3, 1.0, 0.0])[:, None, None]
    assert torch.allclose(orthogonal(stack_KMN), torch.stack([*map(orthogonal, stack_KMN)]), atol=1e-5)


def test_a_gpu_moves_weights_of_one_shape_together_and_a_cpu_each_alone() -> None:
    shapes = [(16, 32, 3, 3), (16, 32, 1, 1), (16, 32, 3, 3)]
    assert list(moved_together([torch.empty(shape, device="meta") for shape in shapes])) == [[0, 2], [1]]
    assert list(moved_together([torch.empty(shape) for shape in shapes])) == [[0], [1], [2]]


def test_together_weights_move_as_they_do_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """To rounding; what has no gradient stays, and has no momentum."""
    weights = torch.randn(4, 32, 16, 3, 3, generator=generator())
    gradients = torch.randn(2, 3, 32, 16, 3, 3, generator=generator())
    alone = torch.stack([moved(weights[i], [*gradients[:, i]]) for i in range(3)])
    parameters = [nn.Parameter(weight.contiguous(memory_format=torch.channels_last)) for weight in weights]
    optimiser = Muon(parameters, lr=0.01, weight_decay=0.1, dtype=torch.float32)
    monkeypatch.setattr("omniwsi.train.optimisers.moved_together", lambda weights: [[2, 0], [1]])
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=False):
            parameter.grad = gradient.clone()
        optimiser.step()
    assert torch.allclose(torch.stack([*parameters[:3]]), alone, atol=1e-6)
    assert torch.equal(parameters[3], weights[3])
    assert list(optimiser.state_dict()["state"]) == [0, 1, 2]


@pytest.mark.parametrize("method", METHODS)
def test_everything_that_learns_is_moved_by_one(method: str) -> None:
    model = build(ModelCard("test", METHODS[method], KIDNEY, 64))
    by_adamw, by_muon = (
        {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
        for optimiser in optimisers(model, BEST, "float32")
    )
    assert not by_adamw & by_muon
    assert by_adamw | by_muon == {id(parameter) for parameter in model.parameters()}
    wide = {name: parameter.numel() for name, parameter in model.named_parameters() if id(parameter) in by_muon}
    assert not any(part in name for name in wide for part in ("controller", "norm", "stem", "project"))
    convolutions = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim == 4)
    assert sum(wide.values()) > 0.99 * convolutions


def test_where_one_tissue_learns_alone_there_is_nothing_wide() -> None:
    model = build(ModelCard("test", "concat", KIDNEY, 64)).requires_grad_(False)
    model.get_parameter("controller.weight").requires_grad_(True)
    (only,) = optimisers(model, BEST, "float32")
    assert isinstance(only, torch.optim.AdamW)
    assert only.param_groups[0]["weight_decay"] == 0


def test_the_published_recipe_moves_everything_by_sgd() -> None:
    model = build(ModelCard("test", "concat", KIDNEY, 64))
    (only,) = optimisers(model, MIDL2022, "float32")
    assert isinstance(only, torch.optim.SGD)
