"""Run: one output folder, what is in it and what is still missing.

    OUT/<slide>/run.json              from the first moment: status "running", then "done" (or "failed", "stopped")
    OUT/<slide>/unfinished/           mosaics and half-made results; gone at the end
    OUT/<slide>/segmentation.ome.zarr, contours.geojson, objects.csv, overview.jpg

Results are made in `unfinished/`, moved into place whole, and only then run.json says done. Whatever moment a process is
killed at, the same command goes on from what is on disk.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from omniwsi.errors import OmniWSIError, RunBusy, RunError, RunExists
from omniwsi.grid import Grid
from omniwsi.mosaic import Clip, Mosaic
from omniwsi.tissues import Sweep

PYRAMID, CONTOURS, TABLE, OVERVIEW = "segmentation.ome.zarr", "contours.geojson", "objects.csv", "overview.jpg"
RESULTS = (PYRAMID, CONTOURS, TABLE, OVERVIEW)
MANIFEST = "run.json"
_SCRATCH = "unfinished"
_REPORTED_PACKAGES = (
    "omniwsi",
    "torch",
    "numpy",
    "zarr",
    "openslide-python",
    "openslide-bin",
    "tifffile",
    "shapely",
    "pillow",
)


class Run:
    """A context. Leaving it by an error writes the reason into run.json and keeps everything that was finished."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], overwrite: bool = False) -> None:
        """`identity` is everything that the results depend on; a folder made with another one is refused.

        Raises RunExists, RunBusy, or RunError if the folder cannot be written.
        """
        self.folder = folder
        self._key = _key_of(identity)
        self._scratch = folder / _SCRATCH
        self.manifest: dict[str, Any] = {"status": "running", "key": self._key, **identity, "versions": _versions()}
        earlier = self._earlier(overwrite)
        self.already_done = earlier.get("status") == "done"
        if self.already_done:
            self.manifest = earlier
            return
        self._lock = self._locked()
        if overwrite:
            self._clear()
        self.resumed = bool(earlier) and not overwrite
        self.manifest["sweeps"] = earlier.get("sweeps", []) if self.resumed else []
        self.save()

    def _earlier(self, overwrite: bool) -> dict[str, Any]:
        """The manifest found in the folder; empty if there is none, or if it is to be overwritten."""
        if overwrite:
            return {}
        path = self.folder / MANIFEST
        try:
            earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            strangers = [name for name in RESULTS if (self.folder / name).exists()]
            if strangers:
                raise RunExists(f"{self.folder} already holds {strangers[0]}; pass --overwrite or another -o") from None
            return {}
        except (ValueError, OSError):
            raise RunExists(f"{path} cannot be read; pass --overwrite to begin anew, or another -o") from None
        if earlier.get("key") != self._key:
            what = _difference(earlier, self.manifest)
            raise RunExists(f"{self.folder} holds a run with {what}; pass --overwrite or another -o")
        return earlier

    def _locked(self) -> FileLock:
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._scratch / "lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise RunBusy(f"another process is writing to {self.folder}; wait for it, or pass another -o") from None
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written ({error.strerror}); pass another -o") from None
        return lock

    def _clear(self) -> None:
        """Only what a run makes, the manifest first: half a clearing must not look finished."""
        (self.folder / MANIFEST).unlink(missing_ok=True)
        for name in RESULTS:
            _remove(self.folder / name)
        for entry in self._scratch.iterdir():
            if entry.name != "lock":
                _remove(entry)

    def mosaic(self, sweep: Sweep, grid: Grid, clip: Clip | None = None) -> Mosaic:
        """The sweep's mosaic, going on where it was."""
        return Mosaic(self._scratch / f"sweep_{sweep.mpp:g}", grid, len(sweep.tissues), clip)

    def making(self, name: str) -> Path:
        """Where to make the result `name` before it is moved into place; what an earlier try left there is removed."""
        path = self._scratch / name
        _remove(path)
        return path

    def finish(self) -> None:
        """Everything in `unfinished/` that is a result is moved into place; then the run is done."""
        for name in RESULTS:
            _remove(self.folder / name)
            (self._scratch / name).rename(self.folder / name)
        self.manifest["status"] = "done"
        self.manifest.pop("error", None)
        self.save()
        self._lock.release()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def save(self) -> None:
        """The manifest, whole or not at all."""
        partial = self._scratch / (MANIFEST + ".partial")
        partial.write_text(json.dumps(self.manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(self.folder / MANIFEST)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.already_done or self.manifest["status"] == "done":
            return
        stopped = kind is not None and not issubclass(kind, Exception)
        self.manifest["status"] = "stopped" if stopped else "failed"
        self.manifest["error"] = str(error) if isinstance(error, OmniWSIError) else repr(error)
        try:
            self.save()
        finally:
            self._lock.release()


def folder_name(slide_name: str) -> str:
    """The slide's file name without its suffix.

    >>> folder_name("case 7.ome.tiff"), folder_name("kidney.v2.svs")
    ('case 7', 'kidney.v2')
    """
    path = Path(slide_name)
    stem = path.stem if path.suffix else path.name
    return stem[:-4] if stem.lower().endswith(".ome") else stem


def _key_of(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def _difference(earlier: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs first, in words."""
    for section in ("slide", "weights", "options"):
        before, now = earlier.get(section, {}), wanted.get(section, {})
        for name in now:
            if before.get(name) != now[name]:
                return f"another {section.removesuffix('s')} ({name} {before.get(name)}, now {now[name]})"
    return f"another version of omniwsi ({earlier.get('omniwsi')}, now {wanted.get('omniwsi')})"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _REPORTED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()
