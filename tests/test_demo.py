from __future__ import annotations

from pathlib import Path

from omniwsi.demo import run_demo
from omniwsi.tissues import KIDNEY


def test_the_demo_finds_every_tissue(tmp_path: Path) -> None:
    """With the weights that ship, as a user's first command runs it: figures well above painting everything, or nothing."""
    result = run_demo(tmp_path, "renal6", 0, "cpu", lambda progress: None)
    assert result.slide.exists()
    assert result.segmented.overview.exists()
    assert set(result.dice) == {tissue.name for tissue in KIDNEY}
    assert min(result.dice.values()) > 0.25
    assert sum(result.dice.values()) / 6 > 0.6
    assert min(result.dice["capsule"], result.dice["tuft"], result.dice["proximal_tubule"]) > 0.75
