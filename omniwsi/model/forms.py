"""Which network a card's form stands for."""

from __future__ import annotations

from omniwsi.model import rivals
from omniwsi.model.card import Form, ModelCard
from omniwsi.model.network import Network
from omniwsi.model.omniseg import OmniSeg

NETWORKS: dict[Form, type[Network]] = {
    "concat": OmniSeg,
    "trilinear": OmniSeg,
    "multi-nets": rivals.MultiNets,
    "multi-head": rivals.MultiHead,
    "tal": rivals.Tal,
    "cond-none": rivals.CondNone,
    "cond-input": rivals.CondInput,
    "cond-dec": rivals.CondDec,
    "masked-sigmoid": rivals.MaskedSigmoid,
}


def build(card: ModelCard) -> Network:
    """Untaught."""
    return NETWORKS[card.form](card)
