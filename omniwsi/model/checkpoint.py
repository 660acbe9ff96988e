"""Weights files that know what they are, and the published checkpoints.

A file is safetensors with the ModelCard in its header, under the key "omniwsi". The tensors are named as in the network.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from omniwsi.errors import WeightsError
from omniwsi.model.card import Form, ModelCard
from omniwsi.model.forms import build
from omniwsi.model.network import Network
from omniwsi.model.omniseg import OmniSeg
from omniwsi.tissues import KIDNEY

DEFAULT_WEIGHTS = "renal6"
_CARD_KEY = "omniwsi"


def weights_folder() -> Path:
    """Where the weights that ship lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


def shipped_weights() -> dict[str, Path]:
    """Name -> file, of the weights that ship."""
    return {path.stem: path for path in sorted(weights_folder().glob("*.safetensors"))}


def find_weights(name_or_path: str | Path) -> Path:
    """The file of a shipped name or of a path. Raises WeightsError naming what there is."""
    shipped = shipped_weights()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        known = ", ".join(shipped) or "none"
        raise WeightsError(f"no weights called {name_or_path}; pass a .safetensors file or one that ships: {known}")
    return path


def load_model(name_or_path: str | Path = DEFAULT_WEIGHTS) -> Network:
    """The network of a weights file in float32, ready for inference; `model.card` tells what it is."""
    path = find_weights(name_or_path)
    card = read_card(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged ({error}); get it again") from None
    model = build(card)
    _require_fit(path.name, model.state_dict(), tensors)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.eval()


def read_card(path: Path) -> ModelCard:
    """The card alone, without reading the tensors."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_CARD_KEY)
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file ({error})") from None
    if text is None:
        raise WeightsError(f"{path} has no model card; import a published checkpoint with: omniwsi weights import")
    return ModelCard.from_json(text)


def save_model(model: Network, path: Path, half: bool = False) -> None:
    """Write `model` with its card, whole or not at all; `half` stores 16-bit floats."""
    dtype = torch.float16 if half else torch.float32
    tensors = {name: tensor.detach().to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(safetensors.torch.save(tensors, {_CARD_KEY: model.card.to_json()}))
    partial.replace(path)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path) -> str:
    """What is wrong with a weights file, or nothing: checksum (of those that ship), card, shapes, finite numbers."""
    expected = _expected_sha256().get(path.name) if path.parent == weights_folder() else None
    if expected is not None and sha256_of(path) != expected:
        return "its checksum is not the one it shipped with"
    try:
        model = load_model(path)
    except WeightsError as error:
        return str(error)
    broken = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    return f"{broken[0]} holds numbers that are not finite" if broken else ""


def _expected_sha256() -> dict[str, str]:
    """File name -> sha256, from SHA256SUMS beside the weights that ship."""
    sums = weights_folder() / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.is_file() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _require_fit(name: str, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    wrong = [f"{key} is missing" for key in wanted if key not in given]
    wrong += [f"{key} is left over" for key in given if key not in wanted]
    wrong += [
        f"{key} is {list(given[key].shape)}, not {list(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in given and given[key].shape != tensor.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(f"{name} does not fit: {'; '.join(wrong[:3])}{more}")


# --- The published checkpoints -------------------------------------------------------------------------------------

_UNUSED = re.compile(r"(add_0|add_1|x1_resb_add0|x1_resb_add1)\.")
"""Blocks that the published files hold and the published networks never run."""

_PUBLISHED_NAMES = (
    (r"^trunk\.stem\.", "conv1."),
    (r"^trunk\.encoder\.(\d)\.", r"layer\1."),
    (r"^trunk\.fusion\.norm\.", "fusionConv.0."),
    (r"^trunk\.fusion\.conv\.", "fusionConv.2."),
    (r"^trunk\.pool\.", "GAP.0."),
    (r"^trunk\.decoder\.0\.", "x8_resb.0."),
    (r"^trunk\.decoder\.1\.", "x4_resb.0."),
    (r"^trunk\.decoder\.2\.", "x2_resb.0."),
    (r"^trunk\.decoder\.3\.", "x1_resb.0."),
    (r"^trunk\.project\.norm\.", "precls_conv.0."),
    (r"^trunk\.project\.conv\.", "precls_conv.2."),
    (r"\.shortcut\.norm\.", ".downsample.0."),
    (r"\.shortcut\.conv\.", ".downsample.2."),
    (r"\.norm(\d)\.", r".gn\1."),
)
"""Ours -> theirs, tried in order on every name."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A published checkpoint as our network, and what of it was dropped."""

    model: OmniSeg
    dropped: tuple[str, ...]
    published_parameters: int
    """of the checkpoint, dropped ones included"""


def import_published(path: Path) -> Imported:
    """Read a published Omni-Seg checkpoint of either form: a bare state dict, or one under "model", "module." or not.

    Raises WeightsError naming what is missing or left over.
    """
    state = _published_state(Path(path))
    form: Form = "trilinear" if "controller_trilinear.weight" in state else "concat"
    card = ModelCard(
        name=Path(path).stem,
        form=form,
        tissues=KIDNEY,
        tile_px=512,
        training={"origin": f"imported from {Path(path).name}"},
    )
    model = OmniSeg(card)
    dropped = tuple(key for key in state if _UNUSED.match(key))
    used = {key: _as_linear(key, tensor.float()) for key, tensor in state.items() if key not in dropped}
    ours = {_published_name(key, form): tensor for key, tensor in model.state_dict().items()}
    _require_fit(str(path), ours, used)
    model.load_state_dict({key: used[_published_name(key, form)] for key in model.state_dict()})
    return Imported(model.eval(), dropped, sum(tensor.numel() for tensor in state.values()))


def _published_state(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is not a PyTorch checkpoint of plain tensors ({reason})") from None
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} holds no state dict: expected tensors by name, bare or under the key 'model'")
    return {key.removeprefix("module."): tensor for key, tensor in content.items()}


def _published_name(key: str, form: Form) -> str:
    for ours, theirs in _PUBLISHED_NAMES:
        key = re.sub(ours, theirs, key)
    return key.replace("controller.", "controller_trilinear.") if form == "trilinear" else key


def _as_linear(key: str, tensor: Tensor) -> Tensor:
    """The published controller is a 1x1 convolution over one pixel: a linear layer."""
    return tensor.flatten(1) if key.startswith("controller") and tensor.ndim == 4 else tensor
