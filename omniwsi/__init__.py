"""omniwsi: whole kidney slides in, every tissue out.

>>> import omniwsi
>>> result = omniwsi.segment("kidney.svs", "results", tissues="tuft,capsule")  # doctest: +SKIP
"""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("omniwsi")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

# A library is silent until its user asks for its log; the command line shows it in its own words.
logging.getLogger(__name__).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from omniwsi.errors import OmniWSIError
    from omniwsi.model.checkpoint import load_model
    from omniwsi.pipeline import SegmentResult, segment
    from omniwsi.plan import SegmentOptions
    from omniwsi.slide import ArraySlide, Slide, open_slide
    from omniwsi.tissues import KIDNEY, Tissue

_HOMES = {
    "ArraySlide": "omniwsi.slide",
    "KIDNEY": "omniwsi.tissues",
    "OmniWSIError": "omniwsi.errors",
    "SegmentOptions": "omniwsi.plan",
    "SegmentResult": "omniwsi.pipeline",
    "Slide": "omniwsi.slide",
    "Tissue": "omniwsi.tissues",
    "load_model": "omniwsi.model.checkpoint",
    "open_slide": "omniwsi.slide",
    "segment": "omniwsi.pipeline",
}

__all__ = [
    "KIDNEY",
    "ArraySlide",
    "OmniWSIError",
    "SegmentOptions",
    "SegmentResult",
    "Slide",
    "Tissue",
    "__version__",
    "load_model",
    "open_slide",
    "segment",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when first asked for: `import omniwsi` costs nothing, and `--help` never loads torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'omniwsi' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
