from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omniwsi.model.checkpoint import import_published
from omniwsi.model.omniseg import SCALE_MPPS, OmniSeg, scale_code
from omniwsi.model.trunk import CODE_CHANNELS, MAP_CHANNELS
from omniwsi.tissues import KIDNEY

from .conftest import PARAMETERS, VERSIONS


def test_logits_are_those_of_the_published_networks(checkpoint: Path, version: str, golden: Path) -> None:
    """Within 1e-4 of the largest logit: `forward`, and `encode` once then `decode` of all six."""
    expected = np.load(golden / "omniseg_golden.npz")
    image = torch.from_numpy(expected["image"])
    imported = import_published(checkpoint)
    model = imported.model
    assert imported.published_parameters == PARAMETERS[version]
    assert model.card.form == VERSIONS[version]
    scales = [scale for scale in range(4) if f"{version}_scale{scale}" in expected]
    assert scales == ([0] if version == "midl2022" else [0, 1, 2, 3])
    with torch.inference_mode():
        features = model.encode(image)
        for scale in scales:
            truth = expected[f"{version}_scale{scale}"]
            tissues = [replace(tissue, mpp=SCALE_MPPS[scale]) for tissue in KIDNEY]
            decoded = model.decode(features, tissues).numpy()[..., 1::4, 2::4]
            assert np.abs(decoded - truth).max() <= 1e-4 * np.abs(truth).max()
            for tissue in KIDNEY:
                index = torch.tensor([tissue.index] * 2)
                one = model(image, index, torch.full_like(index, scale)).numpy()[..., 1::4, 2::4]
                assert np.abs(one - truth[:, tissue.index]).max() <= 1e-4 * np.abs(truth).max()


def test_what_is_never_used_is_dropped_and_counted(checkpoint: Path, version: str) -> None:
    imported = import_published(checkpoint)
    assert {key.split(".")[0] for key in imported.dropped} == {"add_0", "add_1", "x1_resb_add0", "x1_resb_add1"}
    kept = sum(parameter.numel() for parameter in imported.model.parameters())
    assert kept == PARAMETERS[version] - 76_416


def test_encode_once_decode_any(model: OmniSeg) -> None:
    x = torch.rand(2, 3, 64, 48)
    with torch.inference_mode():
        features = model.encode(x)
        assert features.map_BDHW.shape == (2, MAP_CHANNELS, 64, 48)
        assert features.code_BF.shape == (2, CODE_CHANNELS)
        together = model.decode(features, KIDNEY)
        assert together.shape == (2, 6, 2, 64, 48)
        for asked in ([KIDNEY[4]], [KIDNEY[5], KIDNEY[0]], [KIDNEY[1]] * 3):
            some = model.decode(features, asked)
            for i, tissue in enumerate(asked):
                torch.testing.assert_close(some[:, i], together[:, tissue.index], rtol=1e-4, atol=1e-5)


def test_each_image_of_a_batch_may_want_its_own_tissue(model: OmniSeg) -> None:
    x = torch.rand(6, 3, 32, 32)
    index = torch.arange(6)
    scale = torch.tensor([scale_code(tissue.mpp) for tissue in KIDNEY])
    with torch.inference_mode():
        mixed = model(x, index, scale)
        for i, tissue in enumerate(KIDNEY):
            alone = model.decode(model.encode(x[i : i + 1]), [tissue])[0, 0]
            torch.testing.assert_close(mixed[i], alone, rtol=1e-4, atol=1e-5)


def test_the_trunk_runs_once_however_many_tissues(model: OmniSeg) -> None:
    calls = []
    model.trunk.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        model.decode(model.encode(torch.rand(1, 3, 32, 32)), KIDNEY)
    assert len(calls) == 1


def test_sides_that_are_no_multiple_of_16(model: OmniSeg) -> None:
    with pytest.raises(AssertionError):
        model.encode(torch.rand(1, 3, 40, 32))
