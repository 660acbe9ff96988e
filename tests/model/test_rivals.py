from __future__ import annotations

import pytest
import torch

from omniwsi.model.card import FORMS, ModelCard
from omniwsi.model.checkpoint import load_model, save_model
from omniwsi.model.forms import build
from omniwsi.model.network import Network
from omniwsi.model.omniseg import OmniSeg
from omniwsi.model.predictor import Predictor
from omniwsi.tissues import KIDNEY

RIVALS = [form for form in FORMS if form not in ("concat", "trilinear")]


def network(form: str) -> Network:
    torch.manual_seed(0)
    return build(ModelCard("a", form, KIDNEY, 32)).eval()


@pytest.fixture(params=RIVALS)
def rival(request: pytest.FixtureRequest) -> Network:
    return network(request.param)


def tiles(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_decode_and_forward_agree(rival: Network) -> None:
    """Each tile for its own tissue, whatever the mixture and order: the same as all tissues of each tile."""
    x, tissue = tiles(), torch.tensor([3, 0, 3, 5])
    with torch.inference_mode():
        every = rival.decode(rival.encode(x), KIDNEY)
        assert every.shape == (4, 6, 2, 32, 32)
        own = rival(x, tissue)
        some = rival.decode(rival.encode(x), [KIDNEY[5], KIDNEY[0]])
        several = rival(x, torch.tensor([2, 3, 1]), image_P=torch.tensor([1, 1, 3]))
    torch.testing.assert_close(own, every[range(4), tissue], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(some, every[:, [5, 0]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(several, every[[1, 1, 3], [2, 3, 1]], atol=1e-4, rtol=1e-4)


def test_only_cond_none_does_not_know_the_tissue(rival: Network) -> None:
    with torch.inference_mode():
        every = rival.decode(rival.encode(tiles(1)), KIDNEY)[0]
    differs = (every[0] - every[1]).abs().max() > 1e-6
    assert differs == (rival.card.form != "cond-none")


def test_tal_is_one_softmax() -> None:
    """A pixel's probabilities of all tissues and the background add up to 1."""
    tal = network("tal")
    with torch.inference_mode():
        scores = tal.encode(tiles())
        logits = tal.decode(scores, KIDNEY)
    probs = logits.softmax(2)[:, :, 1]
    torch.testing.assert_close(probs, scores.softmax(1)[:, 1:])


def test_what_one_tissue_teaches_leaves_the_others_heads_alone() -> None:
    """Of nets and heads of their own only those of the taught tissue have a gradient."""
    for form in ("multi-nets", "multi-head"):
        rival = network(form)
        rival(tiles(2), torch.tensor([2, 2])).sum().backward()
        for t, head in enumerate(rival.heads):
            assert all((parameter.grad is not None) == (t == 2) for parameter in head.parameters())


def test_sizes() -> None:
    """Six networks are six trunks; a decoder a tissue costs what decoders cost; the others hardly differ from the dynamic one."""
    count = {form: sum(p.numel() for p in network(form).parameters()) for form in FORMS}
    dynamic = count["concat"]
    assert isinstance(network("concat"), OmniSeg)
    assert count["multi-nets"] / dynamic == pytest.approx(6, rel=0.05)
    assert 1.2 < count["multi-head"] / dynamic < 2
    for form in ("tal", "cond-none", "cond-input", "cond-dec", "masked-sigmoid"):
        assert count[form] / dynamic == pytest.approx(1, rel=0.05), form


def test_a_rival_is_saved_loaded_and_run_like_any_network(rival: Network, tmp_path: object) -> None:
    path = tmp_path / "a.safetensors"  # type: ignore[operator]
    save_model(rival, path)
    predictor = Predictor(load_model(path), "cpu", "float32")
    pixels = (tiles(2).permute(0, 2, 3, 1) * 255).byte().numpy()
    probs = predictor.decode(predictor.encode(pixels), KIDNEY[:2])
    with torch.inference_mode():
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        logits = rival.decode(rival.encode(x), KIDNEY[:2])
    torch.testing.assert_close(torch.from_numpy(probs), logits.softmax(2)[:, :, 1], atol=1e-4, rtol=1e-3)
