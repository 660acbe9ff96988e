from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from omniwsi.errors import WeightsError
from omniwsi.model.card import HeadShape, ModelCard
from omniwsi.model.head import PUBLISHED, foreground, head_size, of_logits, run_heads
from omniwsi.tissues import KIDNEY

SHAPES = [PUBLISHED, HeadShape(depth=1), HeadShape(depth=2), HeadShape(depth=4, width=5), HeadShape(width=16)]


def slow_head(map_DHW: torch.Tensor, head_K: torch.Tensor, shape: HeadShape) -> torch.Tensor:
    """One tile, one tissue, one layer after another, as the papers draw it."""
    numbers = head_K.tolist()
    channels = [8] + [shape.width] * (shape.depth - 1) + [2]
    layers = []
    for into, out in pairwise(channels):
        layers.append(torch.tensor(numbers[: into * out]).view(out, into))
        numbers = numbers[into * out :]
    x = map_DHW
    for i, weight in enumerate(layers):
        bias, numbers = torch.tensor(numbers[: len(weight)]), numbers[len(weight) :]
        x = torch.einsum("oi,ihw->ohw", weight, x) + bias[:, None, None]
        x = x.relu() if i < len(layers) - 1 else x
    assert not numbers
    return x


def test_the_published_head_is_162_numbers() -> None:
    assert head_size(PUBLISHED) == 162


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_heads_at_once_equal_one_after_another(shape: HeadShape) -> None:
    generator = torch.Generator().manual_seed(0)
    map_BDHW = torch.randn(3, 8, 6, 10, generator=generator)
    heads_BTK = torch.randn(3, 5, head_size(shape), generator=generator)
    logits = run_heads(map_BDHW, heads_BTK, shape)
    assert logits.shape == (3, 5, 2, 6, 10)
    for b in range(3):
        for t in range(5):
            expected = slow_head(map_BDHW[b], heads_BTK[b, t], shape)
            torch.testing.assert_close(logits[b, t], expected, rtol=1e-4, atol=1e-4)


def test_the_map_may_be_channels_last() -> None:
    map_BDHW, heads = torch.randn(2, 8, 6, 10), torch.randn(2, 3, head_size(PUBLISHED))
    torch.testing.assert_close(
        run_heads(map_BDHW.contiguous(memory_format=torch.channels_last), heads), run_heads(map_BDHW, heads)
    )


def test_a_logit_too_large_for_float16_is_no_probability() -> None:
    logits = torch.tensor([[0.0, torch.inf], [0.0, 3.0], [-torch.inf, 1.0]]).half()[None, :, :, None, None]
    probs = of_logits(logits)[0, :, 0, 0]
    assert probs.isnan().tolist() == [True, False, True]
    assert probs[1] == torch.tensor(3.0).sigmoid()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_tile_in_bfloat16_goes_another_way_to_the_same(shape: HeadShape) -> None:
    """As convolutions that write one margin a tissue: no further from float32 than two tiles, which do not."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 8, 30, 20, generator=generator).contiguous(memory_format=torch.channels_last)
    heads = torch.randn(2, 5, head_size(shape), generator=generator) / 2
    exact = of_logits(run_heads(maps, heads, shape))
    with torch.inference_mode():
        together = foreground(maps.bfloat16(), heads, shape) - exact
        alone = torch.cat([foreground(maps[i : i + 1].bfloat16(), heads[i : i + 1], shape) for i in range(2)]) - exact
    assert alone.shape == (2, 5, 30, 20)
    assert alone.abs().max() <= 0.03
    assert alone.abs().mean() <= 1.2 * together.abs().mean()


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"depth": 9}, {"width": 0}, {"condition": "scale"}])
def test_heads_that_there_are_not(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a head "):
        HeadShape(**wrong)
    text = ModelCard("a", "concat", KIDNEY, 64).to_json()
    name, value = next(iter(wrong.items()))
    before = getattr(PUBLISHED, name)
    spoilt = text.replace(f'"{name}": {before!r}'.replace("'", '"'), f'"{name}": {value!r}'.replace("'", '"'))
    assert spoilt != text
    with pytest.raises(WeightsError, match="a head "):
        ModelCard.from_json(spoilt)
