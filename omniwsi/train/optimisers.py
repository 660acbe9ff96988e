"""What moves the weights: SGD as published, or Muon for wide convolutions and AdamW for the rest.

A gradient's few strong directions drown the others, and those are what tells rare tissues apart. Muon (Jordan et al.,
kellerjordan.github.io/posts/muon, 2024) puts the nearest orthogonal matrix in the place of its momentum, so all directions move alike. Scaled as
by Liu et al. (Muon is Scalable for LLM Training, arXiv 2502.16982, section 2.2), AdamW's learning rate and decay serve unchanged. What it
is worth: benchmarks/training.md. torch.optim.Muon takes matrices alone, and multiplies
in bfloat16, which many processors only emulate.

Axes: O channels out, I channels in, H rows, W columns; M x N the same weight as a matrix, [O, I * H * W], K of them a stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from omniwsi.model.predictor import Precision
from omniwsi.train.recipes import Recipe

MOMENTUM = 0.95
RMS = 0.2
"""Of a step, in learning rates: what AdamW's steps have."""
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of one Newton-Schulz iteration (Jordan et al.): singular values end between 0.7 and 1.2 in five."""
_ITERATIONS = 5
_WIDE = 16


def optimisers(model: nn.Module, recipe: Recipe, precision: Precision) -> list[torch.optim.Optimizer]:
    """For all that learns, each parameter by one of them."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Decay would move weights that only their gradient holds still.
    decay = recipe.weight_decay if all(parameter.requires_grad for parameter in model.parameters()) else 0.0
    if recipe.optimiser == "sgd":
        return [torch.optim.SGD(parameters, recipe.learning_rate, 0.99, weight_decay=decay, nesterov=True)]
    others = [parameter for parameter in parameters if not is_wide(parameter)]
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, recipe.learning_rate, weight_decay=decay)]
    if len(others) < len(parameters):  # all, where a tissue is added and nothing else learns
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        made.append(Muon(filter(is_wide, parameters), recipe.learning_rate, decay, dtype))
    return made


class Muon(torch.optim.Optimizer):
    """For convolutions. `dtype`: what matrices are multiplied in."""

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # nothing here has a closure
        for group in self.param_groups:
            weights = [weight_OIHW for weight_OIHW in group["params"] if weight_OIHW.grad is not None]
            if not weights:
                continue
            gradients = [weight_OIHW.grad for weight_OIHW in weights]
            momenta = [self._momentum(weight_OIHW) for weight_OIHW in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            nesterov = torch._foreach_lerp(gradients, momenta, MOMENTUM)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            for places in moved_together(weights):
                self._move([weights[i] for i in places], [nesterov[i] for i in places], group["lr"])

    def _momentum(self, weight_OIHW: nn.Parameter) -> Tensor:
        state = self.state[weight_OIHW]
        if not state:
            state["momentum"] = torch.zeros_like(weight_OIHW)
        return state["momentum"]

    def _move(self, weights: list[Tensor], nesterov: list[Tensor], lr: float) -> None:
        """K weights of one shape."""
        nesterov_KMN = torch.stack(nesterov).flatten(2)
        # One matrix alone is multiplied as a matrix, which a processor may round otherwise than as a stack of one.
        steps = orthogonal(nesterov_KMN.squeeze(0).to(self._dtype)).to(weights[0].dtype)
        rate = lr * RMS * max(nesterov_KMN.shape[1:]) ** 0.5
        torch._foreach_sub_(weights, steps.reshape(-1, *weights[0].shape).unbind(), alpha=rate)


def moved_together(weights: Sequence[Tensor]) -> Iterable[list[int]]:
    """Places of weights of one shape on a GPU, where starting an operation costs more than small matrices do; else each alone."""
    places_of: dict[tuple[object, ...], list[int]] = {}
    for place, weight in enumerate(weights):
        alone = (place,) if weight.device.type == "cpu" else ()
        places_of.setdefault((*weight.shape, *alone), []).append(place)
    return places_of.values()


def is_wide(parameter: nn.Parameter) -> bool:
    """A convolution's weights, neither of pixels nor of what the head reads."""
    return parameter.ndim == 4 and min(parameter.shape[:2]) >= _WIDE


def orthogonal(matrices: Tensor) -> Tensor:
    """[M, N] or a stack, of the same singular vectors with all singular values near 1 (0.7 to 1.2); those of nothing stay nothing."""
    a, b, c = _QUINTIC
    multiplied_and_added = torch.addmm if matrices.ndim == 2 else torch.baddbmm
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = multiplied_and_added(x, multiplied_and_added(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
