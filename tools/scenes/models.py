# SPDX-License-Identifier: Apache-2.0
"""Furniture models of Sweet Home 3D libraries (``.sh3f``: a zip of OBJ models and a catalogue).

``models.csv`` says what may stand in a random room: library and model (``procedural``: drawn by
:mod:`.shapes`), class, roles (what it is placed as), width, depth, height in metres, and ``rest``,
the height that things on it lie at: empty for its top, -1 for nothing lies on it.

A model stands on z = 0, is centred in x and y, has the size its catalogue states, and faces -y
(south) before it is turned.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from .parts import Mesh, Point, Surface, rows, scaled

SHOWN = Path(__file__).parents[2] / "recordings" / "room" / "CREDITS.md"
PROCEDURAL = "procedural"


@dataclass
class Model:
    """A furniture model, who made it, and its shapes by the names of their materials."""

    library: str
    name: str
    title: str
    author: str
    size: Point  # width, depth, height in metres
    source: str = ""  # where the author published it, from the licence file beside the model
    shapes: dict[str, tuple[Mesh, Surface]] = field(default_factory=dict)


@cache
def catalogue(path: Path) -> dict[str, dict[str, str]]:
    """The entries of a library's catalogue by model name (the folder of its OBJ file)."""
    entries: dict[str, dict[str, str]] = {}
    with zipfile.ZipFile(path) as archive:
        text = archive.read("PluginFurnitureCatalog.properties").decode("latin1")
    for line in text.splitlines():
        match = re.match(r"(\w+)#(\d+)=(.*)", line.strip())
        if match:
            entries.setdefault(match[2], {})[match[1]] = match[3]
    return {PurePosixPath(e["model"]).stem: e for e in entries.values() if "model" in e}


@cache
def load_model(folder: Path, library: str, name: str, size: Point | None = None) -> Model:
    """Read model ``name`` of ``library`` below ``folder``; ``size`` overrides the catalogue's."""
    import trimesh
    from trimesh.resolvers import ZipResolver

    path = folder / f"{library}.sh3f"
    entry = catalogue(path)[name]
    if size is None:
        size = tuple(float(entry[key]) / 100 for key in ("width", "depth", "height"))
    model = Model(library, name, entry["name"], entry.get("creator", library), size)
    obj = PurePosixPath(entry["model"].lstrip("/"))
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if PurePosixPath(n).parent == obj.parent]
        files = {PurePosixPath(name).name: archive.read(name) for name in names}
    model.source = _source(files)
    images = [data for name, data in files.items() if name.endswith("jpg")]
    for data in [data for name, data in files.items() if name.endswith("mtl")]:
        # Some name the author's own path; then it is the only picture of the folder.
        for name in re.findall(r"map_Kd\s+(.+?)\s*$", data.decode("latin1"), re.MULTILINE):
            if name not in files and len(images) == 1:
                files[name] = images[0]
    how = dict(file_type="obj", resolver=ZipResolver(files), process=False, group_material=True)
    loaded = trimesh.load_scene(io.BytesIO(files[obj.name]), **how)
    scene, smooth = loaded.geometry.values(), b"\nvn " in files[obj.name]
    # From OBJ axes (y up, facing +z, any unit) to the room's (z up, facing -y, metres).
    points = np.concatenate([part.vertices for part in scene])
    low, high = points.min(0), points.max(0)
    middle = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    scale = np.array([size[0], size[2], size[1]]) / np.maximum(high - low, 1e-9)
    axes = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    for key, part in loaded.geometry.items():
        uv, material = (getattr(part.visual, name, None) for name in ("uv", "material"))
        image = getattr(material, "image", None)
        surface = Surface((0.6, 0.6, 0.6), image and np.array(image.convert("RGB")))
        if material is not None:
            surface.color = tuple((np.asarray(material.diffuse[:3]) / 255).tolist())
        normals = np.asarray(part.vertex_normals) if smooth else None
        uv = None if uv is None else np.nan_to_num(uv)
        mesh = scaled(Mesh(part.vertices - middle, np.asarray(part.faces), normals, uv), scale)
        normals = None if mesh.normals is None else mesh.normals @ axes
        model.shapes[key] = Mesh(mesh.vertices @ axes, mesh.faces, normals, uv), surface
    return model


def _source(files: dict[str, bytes]) -> str:
    for name in sorted(name for name in files if "licen" in name.lower()):
        text = files[name].decode("utf-8", "replace")
        found = re.search(r"blendswap\.com/blends/view/(\d+)", text) or re.match(r"(\d+) - ", name)
        if found:
            return f"https://www.blendswap.com/blends/view/{found[1]}"
    return ""


@dataclass(frozen=True)
class Entry:
    """A model. ``label`` is its class, ``size`` (width, depth, height) in metres; ``rest`` the
    height that things on it lie at, None where nothing does."""

    library: str
    name: str
    label: str
    roles: tuple[str, ...]
    size: Point
    rest: float | None


def held_out() -> frozenset[tuple[str, str]]:
    """Library and name of the models of the recording that ships: never seen in training."""
    text = SHOWN.read_text(encoding="utf-8")
    return frozenset(re.findall(r"\(`([\w-]+)/([\w-]+)`\)", text))


@cache
def entries() -> tuple[Entry, ...]:
    """All models that may be drawn, in the order of the table."""
    out, hidden = [], held_out()
    for row in rows("models.csv"):
        if (row["library"], row["model"]) not in hidden:
            size = tuple(float(row[key]) for key in ("width", "depth", "height"))
            rest, roles = float(row["rest"] or size[2]), tuple(row["roles"].split())
            rest = None if rest < 0 else rest
            out.append(Entry(row["library"], row["model"], row["class"], roles, size, rest))
    return tuple(out)


@cache
def by_role(role: str) -> tuple[Entry, ...]:
    """The models that may be placed as ``role``; never empty. KeyError where no model has it."""
    found = tuple(e for e in entries() if role in e.roles)
    if not found:
        raise KeyError(role)
    return found
