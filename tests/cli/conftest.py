"""What tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from omniwsi.model.card import ModelCard
from omniwsi.model.checkpoint import save_model
from omniwsi.model.omniseg import OmniSeg
from omniwsi.tissues import KIDNEY


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untaught network with small tiles: quick, and it finds something everywhere."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untaught.safetensors"
    save_model(OmniSeg(ModelCard("untaught", "concat", KIDNEY, 64)), path)
    return path
