from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from omniwsi.model.omniseg import OmniSeg
from omniwsi.model.predictor import Predictor
from omniwsi.model.rounded import ExactStem


@pytest.fixture
def x_BCHW() -> Tensor:
    pixels = torch.randint(256, (2, 3, 64, 48), generator=torch.Generator().manual_seed(0))
    return (pixels / 255).contiguous(memory_format=torch.channels_last)


def test_the_stem_is_exact_but_for_its_result(x_BCHW: Tensor) -> None:
    """One rounding to 8 bits, as if float32 had computed it."""
    conv = nn.Conv2d(3, 32, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = conv(x_BCHW)
        found = ExactStem(copy.deepcopy(conv))(x_BCHW).float()
    assert ((found - expected).abs() <= expected.abs() / 256 + 1e-5).all()


def test_a_predictor_draws_no_random_numbers(model: OmniSeg) -> None:
    """Or training would go on otherwise after it looked at how good it is."""
    before = torch.get_rng_state()
    Predictor(model, "cpu", "bfloat16")
    assert torch.equal(torch.get_rng_state(), before)
