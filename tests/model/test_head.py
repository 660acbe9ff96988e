from __future__ import annotations

import torch

from omniwsi.model.head import HEAD_SIZE, run_heads


def slow_head(map_DHW: torch.Tensor, head_K: torch.Tensor) -> torch.Tensor:
    """One tile, one tissue, one layer after another, as the papers draw it."""
    numbers = head_K.tolist()
    weights, biases = numbers[:144], numbers[144:]
    layers = [
        (torch.tensor(weights[:64]).view(8, 8), torch.tensor(biases[:8])),
        (torch.tensor(weights[64:128]).view(8, 8), torch.tensor(biases[8:16])),
        (torch.tensor(weights[128:]).view(2, 8), torch.tensor(biases[16:])),
    ]
    x = map_DHW
    for i, (weight, bias) in enumerate(layers):
        x = torch.einsum("oi,ihw->ohw", weight, x) + bias[:, None, None]
        x = x.relu() if i < 2 else x
    return x


def test_all_heads_at_once_equal_one_after_another() -> None:
    assert HEAD_SIZE == 162
    generator = torch.Generator().manual_seed(0)
    map_BDHW = torch.randn(3, 8, 6, 10, generator=generator)
    heads_BTK = torch.randn(3, 5, HEAD_SIZE, generator=generator)
    logits = run_heads(map_BDHW, heads_BTK)
    assert logits.shape == (3, 5, 2, 6, 10)
    for b in range(3):
        for t in range(5):
            torch.testing.assert_close(logits[b, t], slow_head(map_BDHW[b], heads_BTK[b, t]), rtol=1e-4, atol=1e-4)


def test_the_map_may_be_channels_last() -> None:
    map_BDHW, heads = torch.randn(2, 8, 6, 10), torch.randn(2, 3, HEAD_SIZE)
    torch.testing.assert_close(
        run_heads(map_BDHW.contiguous(memory_format=torch.channels_last), heads), run_heads(map_BDHW, heads)
    )
