# SPDX-License-Identifier: Apache-2.0
"""Furniture models of Sweet Home 3D libraries (``.sh3f``: a zip of OBJ models and a catalogue).

World frame of the room: metres, x east, y north, z up. A model stands on z = 0, is centred in
x and y, has the size its catalogue states, and faces -y (south) before it is turned.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

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

    def write_ply(self, path: Path) -> None:
        """Write a binary PLY, under a temporary name first."""
        columns = [("x", 0), ("y", 1), ("z", 2)]
        data = [self.vertices]
        if self.normals is not None:
            columns += [("nx", 0), ("ny", 1), ("nz", 2)]
            data.append(self.normals)
        if self.uv is not None:
            columns += [("u", 0), ("v", 1)]
            data.append(self.uv)
        header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(self.vertices)}"]
        header += [f"property float {name}" for name, _ in columns]
        header += [f"element face {len(self.faces)}"]
        header += ["property list uchar int vertex_indices", "end_header", ""]
        faces = np.empty(len(self.faces), dtype=[("n", "u1"), ("i", "<i4", 3)])
        faces["n"], faces["i"] = 3, self.faces
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write("\n".join(header).encode())
            file.write(np.hstack(data).astype("<f4").tobytes())
            file.write(faces.tobytes())
        temporary.replace(path)


@dataclass
class Model:
    """A furniture model: one mesh per material, and who made it."""

    library: str
    name: str
    title: str
    author: str
    size: tuple[float, float, float]  # width, depth, height in metres
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


def load_model(
    folder: Path, library: str, name: str, size: tuple[float, float, float] | None = None
) -> Model:
    """Read model ``name`` of ``library`` below ``folder``; ``size`` overrides the catalogue's."""
    path = folder / f"{library}.sh3f"
    entry = catalogue(path)[name]
    if size is None:
        size = tuple(float(entry[k]) / 100 for k in ("width", "depth", "height"))  # type: ignore[assignment]
    model = Model(library, name, entry["name"], entry.get("creator", library), size)
    obj_path = PurePosixPath(entry["model"].lstrip("/"))
    with zipfile.ZipFile(path) as archive:
        text = archive.read(str(obj_path)).decode("latin1")
        meshes, mtl_name = _parse_obj(text)
        members = set(archive.namelist())
        model.source = _source(archive, obj_path.parent, members)
        if mtl_name and str(obj_path.parent / mtl_name) in members:
            mtl = archive.read(str(obj_path.parent / mtl_name)).decode("latin1")
            model.materials = _parse_mtl(mtl, archive, obj_path.parent, members)
    model.meshes = _stand_up(meshes, size)
    return model


def _source(archive: zipfile.ZipFile, folder: PurePosixPath, members: set[str]) -> str:
    for member in sorted(members):
        name = PurePosixPath(member)
        if name.parent == folder and "licen" in name.name.lower():
            text = archive.read(member).decode("utf-8", "replace")
            link = re.search(r"blendswap\.com/blends/view/\d+", text)
            number = re.match(r"(\d+) - ", name.name)
            if link:
                return f"https://www.{link[0]}"
            if number:
                return f"https://www.blendswap.com/blends/view/{number[1]}"
    return ""


def _stand_up(meshes: dict[str, Mesh], size: tuple[float, float, float]) -> dict[str, Mesh]:
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
        faces = mesh.faces
        if mesh.normals is None:
            result[name] = smooth(Mesh(vertices, faces, None, mesh.uv))
        else:
            normals = (mesh.normals / scale) @ axes.T
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
            # Some models wind their faces against their normals, which would shade black.
            a, b, c = (vertices[faces[:, i]] for i in range(3))
            against = (np.cross(b - a, c - a) * normals[faces].sum(1)).sum(1) < 0
            faces = faces.copy()
            faces[against] = faces[against][:, ::-1]
            result[name] = Mesh(vertices, faces, normals, mesh.uv)
    return result


def smooth(mesh: Mesh, crease: float = 40.0) -> Mesh:
    """Normals by corner: the mean of the faces around it within ``crease`` degrees."""
    corners = mesh.faces.reshape(-1)
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    areas = np.cross(b - a, c - a)
    unit = areas / np.maximum(np.linalg.norm(areas, axis=1, keepdims=True), 1e-20)
    _, place = np.unique(mesh.vertices.round(6), axis=0, return_inverse=True)
    place = place.reshape(-1)[corners]  # the welded position of each corner
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(place.max() + 2))
    count = (starts[1:] - starts[:-1])[place]
    ours = np.repeat(np.arange(len(corners)), count)
    step = np.arange(len(ours)) - np.repeat(np.cumsum(count) - count, count)
    theirs = order[starts[place][ours] + step]
    near = (unit[ours // 3] * unit[theirs // 3]).sum(1) > np.cos(np.radians(crease))
    normals = np.zeros((len(corners), 3))
    for axis in range(3):
        normals[:, axis] = np.bincount(
            ours[near], areas[theirs[near] // 3, axis], minlength=len(corners)
        )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 1e-18, normals / np.maximum(length, 1e-18), [[0.0, 0.0, 1.0]])
    faces = np.arange(len(corners)).reshape(-1, 3)
    uv = None if mesh.uv is None else mesh.uv[corners]
    return Mesh(mesh.vertices[corners], faces, normals, uv)


def _parse_obj(text: str) -> tuple[dict[str, Mesh], str | None]:
    """Meshes by material name, and the name of the material file."""
    v: list[list[float]] = []
    vt: list[list[float]] = []
    vn: list[list[float]] = []
    triangles: dict[str, list[tuple[int, int, int]]] = {}
    corners: dict[tuple[int, int, int], int] = {}
    material, mtl_name = "default", None
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        key = words[0]
        if key == "v":
            v.append([float(x) for x in words[1:4]])
        elif key == "vt":
            vt.append([float(x) for x in words[1:3]])
        elif key == "vn":
            vn.append([float(x) for x in words[1:4]])
        elif key == "usemtl":
            material = words[1] if len(words) > 1 else "default"
        elif key == "mtllib":
            mtl_name = line.split(None, 1)[1].strip()
        elif key == "f":
            ids = []
            for word in words[1:]:
                part = (word.split("/") + ["", ""])[:3]
                sizes = (len(v), len(vt), len(vn))
                index = tuple(
                    -1 if not p else (int(p) - 1 if int(p) > 0 else n + int(p))
                    for p, n in zip(part, sizes)
                )
                ids.append(corners.setdefault(index, len(corners)))  # type: ignore[arg-type]
            out = triangles.setdefault(material, [])
            out.extend((ids[0], ids[i], ids[i + 1]) for i in range(1, len(ids) - 1))
    table = np.array(list(corners), dtype=np.int64)
    points = np.array(v)
    uvs, normals = np.array(vt or [[0.0, 0.0]]), np.array(vn or [[0.0, 0.0, 1.0]])
    meshes = {}
    for name, faces in triangles.items():
        used, inverse = np.unique(np.array(faces), return_inverse=True)
        rows = table[used]
        meshes[name] = Mesh(
            points[rows[:, 0]],
            inverse.reshape(-1, 3),
            normals[rows[:, 2]] if vn and (rows[:, 2] >= 0).all() else None,
            uvs[rows[:, 1]] if vt and (rows[:, 1] >= 0).all() else None,
        )
    return meshes, mtl_name


def _parse_mtl(
    text: str, archive: zipfile.ZipFile, folder: PurePosixPath, members: set[str]
) -> dict[str, Material]:
    materials: dict[str, Material] = {}
    current = Material()
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "newmtl":
            current = materials.setdefault(words[1] if len(words) > 1 else "default", Material())
        elif words[0] == "Kd":
            r, g, b = (min(max(float(x), 0.0), 1.0) for x in words[1:4])
            current.color = (r, g, b)
        elif words[0] == "map_Kd":
            member = str(folder / line.split(None, 1)[1].strip())
            images = [m for m in members if m.startswith(f"{folder}/") and m.endswith("jpg")]
            if member not in members and len(images) == 1:
                member = images[0]  # some MTL files name the author's own path
            if member in members:
                raw = np.frombuffer(archive.read(member), np.uint8)
                image = cv2.imdecode(raw, cv2.IMREAD_COLOR)
                current.texture = None if image is None else image[..., ::-1].copy()
    return materials
