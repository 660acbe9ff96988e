from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from omniwsi.model.card import ModelCard
from omniwsi.model.network import Network
from omniwsi.model.omniseg import OmniSeg
from omniwsi.model.predictor import Predictor
from omniwsi.model.rivals import CondDec, CondInput, MultiHead, MultiNets
from omniwsi.model.rounded import ExactStem, can_fuse, fuse, pointwise, round_weights
from omniwsi.tissues import KIDNEY

needs_fusing = pytest.mark.skipif(not can_fuse(), reason="oneDNN has no bfloat16 for this processor")


def logits_of(network: Network, x_BCHW: Tensor) -> Tensor:
    """float32; a second and other size is asked in passing."""
    with torch.inference_mode():
        network.decode(network.encode(x_BCHW[:1, :, :32, :32]), KIDNEY[:1])
        return network.decode(network.encode(x_BCHW), KIDNEY).float()


@pytest.fixture
def x_BCHW() -> Tensor:
    pixels = torch.randint(256, (2, 3, 64, 48), generator=torch.Generator().manual_seed(0))
    return (pixels / 255).contiguous(memory_format=torch.channels_last)


@needs_fusing
@pytest.mark.parametrize("kind", [OmniSeg, MultiNets, MultiHead, CondInput, CondDec])
def test_a_fused_network_adds_up_the_same(kind: type[Network], x_BCHW: Tensor) -> None:
    """In float32, where rounding hides nothing; the plain network is the twin."""
    torch.manual_seed(0)
    plain = kind(ModelCard("untaught", "concat", KIDNEY, tile_px=64)).eval().to(memory_format=torch.channels_last)
    fused = copy.deepcopy(plain)
    fuse(fused)
    before = x_BCHW.clone()
    expected, found = logits_of(plain, x_BCHW), logits_of(fused, x_BCHW)
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert torch.equal(x_BCHW, before)


@needs_fusing
def test_rounded_and_fused_stays_near(model: OmniSeg, x_BCHW: Tensor) -> None:
    rounded = copy.deepcopy(model).to(memory_format=torch.channels_last)
    round_weights(rounded, torch.bfloat16, keeps_norms=True)
    fused = copy.deepcopy(rounded)
    fuse(fused)
    expected = logits_of(model, x_BCHW)
    for network in (rounded, fused):
        assert (logits_of(network, x_BCHW) - expected).abs().max() <= 0.05 * expected.abs().max()


@pytest.mark.parametrize("relu", [True, False])
def test_pointwise_is_a_matrix_a_pixel_wherever_it_runs(relu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, 20, 30, generator=generator).bfloat16().contiguous(memory_format=torch.channels_last)
    weight, bias = (torch.randn(*shape, generator=generator).bfloat16() for shape in ((48, 8), (48,)))
    expected = torch.einsum("od,bdhw->bohw", weight.float(), x.float()) + bias.float()[:, None, None]
    expected = expected.relu() if relu else expected
    with torch.inference_mode():
        here = pointwise(x, weight, bias, relu)
        monkeypatch.setattr("omniwsi.model.rounded.can_fuse", lambda: False)
        elsewhere = pointwise(x, weight, bias, relu)
    for found in (here, elsewhere):
        torch.testing.assert_close(found.float(), expected, rtol=0.01, atol=0.01)


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
