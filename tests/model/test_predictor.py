from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import omniwsi.model.predictor as predictor_module
from omniwsi.errors import OmniWSIError, UsageError
from omniwsi.metrics import dice
from omniwsi.model.checkpoint import load_model
from omniwsi.model.omniseg import OmniSeg
from omniwsi.model.predictor import Precision, Predictor, best_precision
from omniwsi.synthetic import draw_section
from omniwsi.tissues import KIDNEY


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    """Five tiles of 64 px of a drawn section."""
    section = draw_section(400, 200, "pas", mpp=1.0, to_the_edge=True).pixels_HWC
    return np.stack([section[40:104, 64 * i : 64 * i + 64] for i in range(5)])


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        ("cpu", "float32"),
        ("cpu", "bfloat16"),
        *(pytest.param("cuda", precision, marks=needs_gpu) for precision in ("float32", "bfloat16", "float16")),
    ],
)
def test_the_same_tile_gives_the_same_bytes_in_any_batch(
    model: OmniSeg, tiles: np.ndarray, device: str, precision: Precision
) -> None:
    predictor = Predictor(model, device, precision)
    alone = np.concatenate([predictor.decode(predictor.encode(tile[None]), KIDNEY)[:1] for tile in tiles])
    for size in (2, 3, 5):
        for start in range(0, 5, size):
            batch = tiles[start : start + size]
            probs = predictor.decode(predictor.encode(batch), KIDNEY)
            np.testing.assert_array_equal(probs[: len(batch)], alone[start : start + size])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_bytes_on_one_core_and_on_many(model: OmniSeg, tiles: np.ndarray, precision: Precision) -> None:
    """And a predictor leaves the number of threads of its process as it was."""
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            predictor = Predictor(model, "cpu", precision)
            results.append(predictor.decode(predictor.encode(tiles), KIDNEY))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize(
    ("amx", "known", "precision"),
    [
        (True, {"avx512_bf16": True, "cpu_name": "Intel Xeon"}, "bfloat16"),
        (False, {"avx512_bf16": True, "cpu_name": "Intel Xeon"}, "float32"),
        (False, {"avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bfloat16"),
        (False, {"avx512_bf16": False, "cpu_name": "AMD EPYC"}, "float32"),
        (False, {"bf16": True}, "float32"),
        (False, None, "float32"),
    ],
)
def test_bfloat16_where_a_processor_is_quicker_with_it(
    amx: bool, known: dict[str, object] | None, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older PyTorch does not tell what else there is; ARM has another word."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    if known is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert best_precision("cpu") == precision


def test_several_devices_give_the_bytes_of_one(
    model: OmniSeg, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor that counts as two, since GPUs are rare where this runs."""
    one = Predictor(model, "cpu", "float32")
    monkeypatch.setattr(predictor_module, "require_devices", lambda named: ["cpu", "cpu"])
    two = Predictor(model, "cuda:0,cuda:1", "float32")
    features = two.encode(tiles)
    assert [which for which, _ in features] == [0, 1, 0, 1, 0]
    np.testing.assert_array_equal(two.decode(features, KIDNEY), one.decode(one.encode(tiles), KIDNEY))


def test_where_memory_does_not_suffice_chunks_become_smaller(
    model: OmniSeg, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(predictor_module._CHUNK, "cpu", 8)
    predictor = Predictor(model, "cpu", "float32")
    monkeypatch.setattr(predictor, "_workers", None)  # a GPU is asked for one chunk after the other
    (replica,) = predictor._replicas
    encode, sizes = replica.encode, []
    most = 2

    def encode_few(x_BCHW: torch.Tensor) -> object:
        sizes.append(len(x_BCHW))
        if len(x_BCHW) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return encode(x_BCHW)

    monkeypatch.setattr(replica, "encode", encode_few)
    found = predictor.decode(predictor.encode(tiles), KIDNEY)[: len(tiles)]
    assert sizes == [8, 4, 2, 2, 2]
    assert "2 tiles at a time from now on" in caplog.text
    monkeypatch.undo()
    whole = Predictor(model, "cpu", "float32")
    np.testing.assert_allclose(found, whole.decode(whole.encode(tiles), KIDNEY), atol=1e-5)
    most = 0
    monkeypatch.setattr(replica, "encode", encode_few)
    with pytest.raises(OmniWSIError, match="one tile at a time; free the GPU"):
        predictor.encode(tiles)


def test_probability_is_the_sigmoid_of_the_difference_of_logits(model: OmniSeg, tiles: np.ndarray) -> None:
    predictor = Predictor(model, "cpu", "float32")
    probs = predictor.decode(predictor.encode(tiles[:1]), KIDNEY)
    x = torch.from_numpy(tiles[:1]).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        logits = model.decode(model.encode(x), KIDNEY)
    np.testing.assert_allclose(probs, (logits[:, :, 1] - logits[:, :, 0]).sigmoid(), atol=1e-5)
    assert probs.dtype == np.float32


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_16_bits_find_what_float32_finds(device: str) -> None:
    """The weights that ship, on a drawn section."""
    model = load_model()
    side = model.card.tile_px
    section = draw_section(600, 600, "he", seed=5, mpp=1.0).pixels_HWC[100 : 100 + side, 100 : 100 + side][None]
    full, rounded = (
        predictor.decode(predictor.encode(section), KIDNEY[:2])[0] >= 0.5
        for predictor in (
            Predictor(model, "cpu", "float32"),
            Predictor(model, device, "bfloat16" if device == "cpu" else "float16"),
        )
    )
    assert full.any()
    for a, b in zip(full, rounded, strict=True):
        assert dice(a, b) > 0.995


def test_a_device_that_is_not_there(model: OmniSeg) -> None:
    for device, says in (
        ("cuda:99", "there is no device cuda:99 here"),
        ("nonsense", "--device takes .*, not nonsense"),
        ("cuda:98,cuda:99", "there is no device cuda:98 here"),
        ("cuda:0,cuda:0", "each once; not cuda:0,cuda:0"),
        ("cpu,cuda:0", "several GPUs as in .*, each once; not cpu,cuda:0"),
    ):
        with pytest.raises(UsageError, match=says) as caught:
            Predictor(model, device)
        assert "\n" not in str(caught.value)


@needs_gpu
def test_cuda_agrees_with_the_cpu(model: OmniSeg, tiles: np.ndarray) -> None:
    """Also of tiles of another size, and of the first ones again."""
    there, here = (Predictor(model, device, "float32") for device in ("cuda", "cpu"))
    for given in (tiles, tiles[:, :32, :48], tiles):
        features = there.encode(given)
        on_cuda = there.decode(features, KIDNEY)[:5]
        np.testing.assert_array_equal(there.decode_on_device(features, KIDNEY).cpu()[:5], on_cuda)
        np.testing.assert_allclose(on_cuda, here.decode(here.encode(given), KIDNEY), atol=0.01)


@needs_gpu
def test_features_outlive_the_next_pass(model: OmniSeg, tiles: np.ndarray) -> None:
    """What is captured writes to one place again and again."""
    predictor = Predictor(model, "cuda")
    first = predictor.encode(tiles[:1])
    expected = predictor.decode(first, KIDNEY)
    predictor.encode(tiles[1:2])
    np.testing.assert_array_equal(predictor.decode(first, KIDNEY), expected)


@needs_gpu
@pytest.mark.parametrize("where", ["encoder.0.0.conv2", "decoder.3.conv2", "project.conv"])
def test_numbers_too_large_for_float16_are_no_result(model: OmniSeg, tiles: np.ndarray, where: str) -> None:
    """Wherever they arise: what comes after must not make them ordinary again."""
    large = copy.deepcopy(model)
    with torch.no_grad():
        large.trunk.get_submodule(where).weight.mul_(1e7)
    predictor = Predictor(large, "cuda")
    with pytest.raises(OmniWSIError, match="too large for float16; pass --precision bfloat16"):
        predictor.decode(predictor.encode(tiles), KIDNEY)
    careful = Predictor(large, "cuda", "bfloat16")
    assert np.isfinite(careful.decode(careful.encode(tiles), KIDNEY)).all()


def test_float16_is_for_gpus(model: OmniSeg) -> None:
    with pytest.raises(UsageError, match="--precision float16 is for GPUs"):
        Predictor(model, "cpu", "float16")
