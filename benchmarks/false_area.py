"""How much is found where there is nothing of the kidney: on an organ that is none, or on glass.

    python benchmarks/false_area.py OUT SLIDE [-- OPTIONS of omniwsi segment]

Everything found is false there, vessels apart, which every organ has. Prints mm2 found per mm2 looked at, a tissue a row.
For glass, `--roi` names a part of a slide without tissue, and `--foreground none` has it looked at nevertheless.
"""

from __future__ import annotations

import json
from pathlib import Path

from segmented import asked, segmented


def main(out: Path, slide: Path, options: list[str]) -> None:
    run = json.loads((segmented(slide, out, options) / "run.json").read_text())
    looked_at = {name: sweep["area_mm2"] for sweep in run["sweeps"] for name in sweep["tissues"]}
    print("| tissue | looked at, mm2 | objects | found, mm2 a mm2 |")
    print("|---|---|---|---|")
    for name, found in run["tissues"].items():
        share = found["area_mm2"] / looked_at[name]
        print(f"| {name} | {looked_at[name]:.1f} | {found['objects']} | {share:.4f} |")


if __name__ == "__main__":
    main(*asked(__doc__))
