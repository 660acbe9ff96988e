"""Slides, and where on them there is something to see."""

from omniwsi.slide.foreground import Foreground, Vicinity, everything, find_foreground, stretched
from omniwsi.slide.opening import ArraySlide, open_slide
from omniwsi.slide.slide import Level, Slide, SlideInfo
from omniwsi.slide.tiles import TileBatch, read_tiles

__all__ = [
    "ArraySlide",
    "Foreground",
    "Level",
    "Slide",
    "SlideInfo",
    "TileBatch",
    "Vicinity",
    "everything",
    "find_foreground",
    "open_slide",
    "read_tiles",
    "stretched",
]
