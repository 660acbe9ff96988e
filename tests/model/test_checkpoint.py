from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from omniwsi.errors import WeightsError
from omniwsi.model.card import ModelCard
from omniwsi.model.checkpoint import (
    find_weights,
    import_published,
    load_model,
    read_card,
    save_model,
    shipped_weights,
    verify,
)
from omniwsi.model.omniseg import OmniSeg
from omniwsi.tissues import KIDNEY

from .published import published_state


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def equal(a: OmniSeg, b: OmniSeg) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_wrapping_of_a_published_file(
    golden: Path, version: str, checkpoint: Path, tmp_path: Path, prefix: str, wrapped: bool
) -> None:
    state = {prefix + key: tensor for key, tensor in published_state(golden, version).items()}
    content = {"model": state, "optimizer": {"lr": 0.1, "steps": [1, 2]}, "amp": None} if wrapped else state
    torch.save(content, tmp_path / "a.pth")
    assert equal(import_published(tmp_path / "a.pth").model, import_published(checkpoint).model)


def test_what_is_missing_or_left_over_is_named(golden: Path, version: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    whole = published_state(golden, version)
    torch.save({key: tensor for key, tensor in whole.items() if key != "layer3.1.conv2.weight"}, path)
    with pytest.raises(WeightsError, match=r"layer3\.1\.conv2\.weight is missing") as caught:
        import_published(path)
    one_line(caught.value)
    torch.save(whole | {"layer5.0.conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"layer5\.0\.conv1\.weight is left over"):
        import_published(path)
    torch.save(whole | {"conv1.weight": torch.zeros(32, 4, 3, 3)}, path)
    with pytest.raises(WeightsError, match=r"conv1\.weight is \[32, 4, 3, 3\], not \[32, 3, 3, 3\]"):
        import_published(path)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this code must not run",)


@pytest.mark.parametrize("content", [Evil(), {"model": {"a": Evil()}}, [1, 2], {"a": 1}, {"model": {"x": "y"}}])
def test_other_files_are_refused_and_never_run(
    content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError) as caught:
        import_published(tmp_path / "a.pth")
    one_line(caught.value)
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
def test_files_that_are_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="is not a PyTorch checkpoint of plain tensors") as caught:
        import_published(tmp_path / "a.pth")
    one_line(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no file"):
        import_published(tmp_path / "a.pth")
    with pytest.raises(
        WeightsError, match=r"no weights called nothing; pass a \.safetensors file or one that ships: renal6"
    ):
        find_weights("nothing")


def test_there_and_back(model: OmniSeg, tmp_path: Path) -> None:
    card = replace(
        model.card, training={"data": ["kidney_ki"], "seed": 3}, figures={"dice": {"tuft": 0.9}}, limits="research only"
    )
    model.card = card
    save_model(model, tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.card == card
    assert equal(loaded, model)
    assert verify(tmp_path / "a.safetensors") == ""


def test_half_precision_halves_the_file_and_hardly_changes_it(model: OmniSeg, tmp_path: Path) -> None:
    for name, half in (("full", False), ("half", True)):
        save_model(model, tmp_path / f"{name}.safetensors", half)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.51 * sizes[0]
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        full, half_ = (
            loaded.decode(loaded.encode(x), KIDNEY)
            for loaded in (load_model(tmp_path / "full.safetensors"), load_model(tmp_path / "half.safetensors"))
        )
    assert (full - half_).abs().max() < 0.02 * full.abs().max()


def test_a_card_that_does_not_fit_its_tensors(model: OmniSeg, tmp_path: Path) -> None:
    tensors = model.state_dict()
    wrong = replace(model.card, tissues=KIDNEY[:5])
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", {"omniwsi": wrong.to_json()})
    with pytest.raises(WeightsError, match=r"does not fit: controller\.weight is"):
        load_model(tmp_path / "a.safetensors")
    other = replace(model.card, form="trilinear" if model.card.form == "concat" else "concat")
    safetensors.torch.save_file(tensors, tmp_path / "b.safetensors", {"omniwsi": other.to_json()})
    with pytest.raises(WeightsError, match="does not fit"):
        load_model(tmp_path / "b.safetensors")
    assert "does not fit" in verify(tmp_path / "b.safetensors")


def test_a_file_without_a_card_or_with_half_of_one(model: OmniSeg, tmp_path: Path) -> None:
    safetensors.torch.save_file(model.state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="has no model card; import a published checkpoint with"):
        read_card(tmp_path / "a.safetensors")
    for text in ("{}", "not json", '{"tissues": 3}', json.dumps({"tissues": [{"name": "x"}]})):
        safetensors.torch.save_file(model.state_dict(), tmp_path / "b.safetensors", {"omniwsi": text})
        with pytest.raises(WeightsError, match="the model card cannot be read"):
            read_card(tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"short")
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        read_card(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "wrong",
    [
        {"form": "quadratic"},
        {"tile_px": 100},
        {"normalisation": "imagenet"},
        {"tissues": ()},
        {"tissues": KIDNEY[1:]},
    ],
)
def test_cards_are_checked_when_made(wrong: dict[str, object]) -> None:
    with pytest.raises(WeightsError):
        replace(ModelCard("a", "concat", KIDNEY, 64), **wrong)


def test_numbers_that_are_not_finite(model: OmniSeg, tmp_path: Path) -> None:
    with torch.no_grad():
        model.controller.bias[3] = float("nan")
    save_model(model, tmp_path / "a.safetensors")
    assert verify(tmp_path / "a.safetensors") == "controller.bias holds numbers that are not finite"


def test_what_ships() -> None:
    """Under 15 MB, as its checksum says, with a card that tells how it was made and what it must not be used for."""
    path = shipped_weights()["renal6"]
    assert path.stat().st_size < 15e6
    assert verify(path) == ""
    assert (path.parent / "SHA256SUMS").read_text().count(path.name) == 1
    card = read_card(path)
    assert [tissue.name for tissue in card.tissues] == [tissue.name for tissue in KIDNEY]
    script, *_ = card.training["command"].split()
    assert Path(__file__).parents[2].joinpath(script).is_file()
    assert card.training["licences"]
    assert set(card.figures["held_out_dice"]) == {tissue.name for tissue in KIDNEY}
    assert "diagnos" in card.limits
