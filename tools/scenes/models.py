# SPDX-License-Identifier: Apache-2.0
"""Furniture models of Sweet Home 3D libraries (``.sh3f``: a zip of OBJ models and a catalogue).

World frame of the room: metres, x east, y north, z up. A model stands on z = 0, is centred in
x and y, has the size its catalogue states, and faces -y (south) before it is turned.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

Size = tuple[float, float, float]

LIBRARY_TERMS = {
    "BlendSwap-CC-0": ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "BlendSwap-CC-BY": ("CC BY 3.0", "https://creativecommons.org/licenses/by/3.0/"),
    "Reallusion": ("CC BY 3.0 US", "https://creativecommons.org/licenses/by/3.0/us/"),
    "KatorLegaz": ("CC BY 3.0 US", "https://creativecommons.org/licenses/by/3.0/us/"),
    "Scopia": ("CC BY 3.0", "https://creativecommons.org/licenses/by/3.0/"),
}


@dataclass
class Material:
    """What an MTL file says of a surface; ``color`` is sRGB, 0..1."""

    color: tuple[float, float, float] = (0.6, 0.6, 0.6)
    texture: np.ndarray | None = None  # uint8 [H,W,3], RGB


@dataclass
class Mesh:
    """Triangles: vertices [N,3] in metres, faces [F,3]; per vertex normals [N,3] and uv [N,2]."""

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None = None
    uv: np.ndarray | None = None

    def moved(self, at: tuple[float, float, float], yaw: float) -> Mesh:
        """The mesh turned by ``yaw`` degrees (counter-clockwise from above), then shifted."""
        c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        normals = None if self.normals is None else self.normals @ turn.T
        return Mesh(self.vertices @ turn.T + np.asarray(at), self.faces, normals, self.uv)


@dataclass
class Model:
    """A furniture model: one mesh per material, and who made it."""

    library: str
    name: str
    title: str
    author: str
    size: Size  # width, depth, height in metres
    source: str = ""  # where the author published it, from the licence file beside the model
    meshes: dict[str, Mesh] = field(default_factory=dict)
    materials: dict[str, Material] = field(default_factory=dict)


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


def load_model(folder: Path, library: str, name: str, size: Size | None = None) -> Model:
    """Read model ``name`` of ``library`` below ``folder``; ``size`` overrides the catalogue's."""
    import trimesh
    from trimesh.resolvers import ZipResolver

    path = folder / f"{library}.sh3f"
    entry = catalogue(path)[name]
    if size is None:
        width, depth, height = (float(entry[k]) / 100 for k in ("width", "depth", "height"))
        size = width, depth, height
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
    loaded = trimesh.load_scene(
        io.BytesIO(files[obj.name]), file_type="obj", resolver=ZipResolver(files),
        process=False, group_material=True,
    )  # fmt: skip
    meshes = {}
    for key, part in loaded.geometry.items():
        uv = getattr(part.visual, "uv", None)
        uv = None if uv is None else np.nan_to_num(uv)
        material = getattr(part.visual, "material", None)
        image = getattr(material, "image", None)
        texture = None if image is None else np.array(image.convert("RGB"))
        diffuse = (0.6, 0.6, 0.6) if material is None else np.asarray(material.diffuse[:3]) / 255
        model.materials[key] = Material(tuple(float(c) for c in diffuse), texture)  # type: ignore[arg-type]
        normals = np.asarray(part.vertex_normals) if b"\nvn " in files[obj.name] else None
        meshes[key] = Mesh(np.asarray(part.vertices), np.asarray(part.faces), normals, uv)
    model.meshes = _stand_up(meshes, size)
    return model


def _source(files: dict[str, bytes]) -> str:
    for name in sorted(files):
        if "licen" in name.lower():
            text = files[name].decode("utf-8", "replace")
            link = re.search(r"blendswap\.com/blends/view/\d+", text)
            number = re.match(r"(\d+) - ", name)
            if link:
                return f"https://www.{link[0]}"
            if number:
                return f"https://www.blendswap.com/blends/view/{number[1]}"
    return ""


def _stand_up(meshes: dict[str, Mesh], size: Size) -> dict[str, Mesh]:
    """From OBJ axes (y up, facing +z, any unit) to the room's (z up, facing -y, metres)."""
    points = np.concatenate([m.vertices for m in meshes.values()])
    low, high = points.min(0), points.max(0)
    width, depth, height = size
    scale = np.array([width, height, depth]) / np.maximum(high - low, 1e-9)
    origin = np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    axes = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    result = {}
    for name, mesh in meshes.items():
        vertices = ((mesh.vertices - origin) * scale) @ axes.T
        normals = None
        if mesh.normals is not None:
            normals = (mesh.normals / np.maximum(scale, 1e-9)) @ axes.T
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        result[name] = Mesh(vertices, mesh.faces, normals, mesh.uv)
    return result
