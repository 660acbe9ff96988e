from __future__ import annotations

from pathlib import Path

import pytest
import torch

from omniwsi.model.card import Form, ModelCard
from omniwsi.model.omniseg import OmniSeg
from omniwsi.tissues import KIDNEY

from .published import published_state

VERSIONS: dict[str, Form] = {"midl2022": "concat", "tbme2023": "trilinear"}
PARAMETERS = {"midl2022": 6_033_238, "tbme2023": 6_986_122}


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    return shared / "golden"


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def checkpoint(golden: Path, version: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published checkpoint on disk."""
    path = tmp_path_factory.mktemp("published") / f"{version}.pth"
    torch.save(published_state(golden, version), path)
    return path


@pytest.fixture(params=["concat", "trilinear"])
def model(request: pytest.FixtureRequest) -> OmniSeg:
    """An untaught network of either form."""
    torch.manual_seed(0)
    return OmniSeg(ModelCard("untaught", request.param, KIDNEY, tile_px=64)).eval()
