from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omniwsi.errors import WeightsError
from omniwsi.model.card import Condition, HeadShape, ModelCard
from omniwsi.model.checkpoint import import_published
from omniwsi.model.omniseg import SCALE_MPPS, OmniSeg, scale_code
from omniwsi.model.trunk import CODE_CHANNELS, MAP_CHANNELS, Features
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
    """At inference, and where several labels of a picture teach."""
    calls = []
    model.trunk.register_forward_hook(lambda *_: calls.append(1))
    x, tissue, image = torch.rand(2, 3, 32, 32), torch.tensor([4, 0, 1]), torch.tensor([0, 1, 1])
    with torch.inference_mode():
        every = model.decode(model.encode(x), [replace(tissue, mpp=SCALE_MPPS[0]) for tissue in KIDNEY])
        assert len(calls) == 1
        asked = model(x, tissue, image_P=image)
    assert len(calls) == 2
    torch.testing.assert_close(asked, every[image, tissue], rtol=1e-4, atol=1e-5)


def test_sides_that_are_no_multiple_of_16(model: OmniSeg) -> None:
    with pytest.raises(AssertionError):
        model.encode(torch.rand(1, 3, 40, 32))


@pytest.mark.parametrize("condition", ["both", "task", "image"])
def test_a_head_depends_on_what_the_controller_is_told(condition: Condition) -> None:
    """Head of a tissue the same on every image, or of an image the same for every tissue, or neither."""
    torch.manual_seed(0)
    network = OmniSeg(ModelCard("a", "concat", KIDNEY, 32, HeadShape(depth=2, width=4, condition=condition)))
    inputs = {"both": CODE_CHANNELS + 6, "task": 6, "image": CODE_CHANNELS}[condition]
    assert network.controller.weight.shape == (8 * 4 + 4 + 4 * 2 + 2, inputs)
    with torch.inference_mode():
        features = network.encode(torch.rand(2, 3, 32, 32))
        same_map = Features(features.map_BDHW[:1].expand(2, -1, -1, -1), features.code_BF)
        logits_BT2HW = network.decode(same_map, KIDNEY)
    assert torch.equal(logits_BT2HW[0], logits_BT2HW[1]) == (condition == "task")
    assert torch.equal(logits_BT2HW[:, 0], logits_BT2HW[:, 1]) == (condition == "image")


def test_only_concat_can_leave_a_code_away() -> None:
    with pytest.raises(WeightsError, match="only concat can leave away a code"):
        ModelCard("a", "trilinear", KIDNEY, 32, HeadShape(condition="task"))
