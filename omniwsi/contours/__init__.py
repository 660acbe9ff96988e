"""Outlines of probabilities, exact across windows, in one pass from top to bottom.

    trace(read, size, tissue, options)    every object of a tissue, from whatever reads its probabilities

Where four neighbouring pixel centres are not all on one side of the threshold, the outline crosses the square between
them, at the places where linear interpolation puts it (marching squares). Every crossing lies on the line between two
neighbouring centres and is named by it, so pieces found in different windows join by name, without any tolerance: another
window size gives the same polygons, vertex for vertex. Foreground is 4-connected, so an object has one exterior; which
exterior and which holes belong together is told by connected components, followed across windows by union-find.
"""

from omniwsi.contours.options import TraceOptions
from omniwsi.contours.windows import trace

__all__ = ["TraceOptions", "trace"]
