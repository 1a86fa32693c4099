# SPDX-License-Identifier: Apache-2.0
"""Mitsuba: the scene from parts, exact hits along rays, path-traced light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import drjit as dr
import mitsuba as mi
import numpy as np
import pyoidn

from .camera import Pose
from .layout import Part, Surface

mi.set_variant("llvm_ad_rgb")


@dataclass
class Hits:
    """Where a bundle of rays meets the room, row by row: points float32 [N,3] (world), depth
    float32 [N] (metres along the optical axis), normals float32 [N,3] (optical frame, facing the
    camera), labels uint8 [N], albedo and emission float32 [N,3] (linear)."""

    points: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    labels: np.ndarray
    albedo: np.ndarray
    emission: np.ndarray


def _linear(color: tuple[float, float, float]) -> list[float]:
    """sRGB to linear; nothing real reflects more than 80 % or less than 2 %."""
    c = np.asarray(color)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return [float(x) for x in np.clip(linear, 0.02, 0.80)]


def _texture(surface: Surface, name: str, work: Path, gain: np.ndarray | None = None) -> Any:
    """A bitmap texture; with ``gain`` a radiance texture."""
    u, v = surface.period
    # Images start at the top, v at the bottom.
    to_uv = mi.ScalarTransform4f().translate([0, 1, 0]).scale([1 / u, -1 / v, 1])
    assert surface.texture is not None
    if gain is None:
        path = work / f"{name}.png"
        cv2.imwrite(str(path), np.ascontiguousarray(surface.texture[..., ::-1]))
        return {"type": "bitmap", "filename": str(path), "to_uv": to_uv}
    linear = (surface.texture.astype(np.float32) / 255) ** 2.2 * gain.astype(np.float32)
    return {"type": "bitmap", "bitmap": mi.Bitmap(linear), "raw": True, "to_uv": to_uv}


def _bsdf(surface: Surface, name: str, work: Path) -> dict[str, Any]:
    if surface.texture is not None:
        reflectance = _texture(surface, name, work)
    else:
        reflectance = {"type": "rgb", "value": _linear(surface.color)}
    return {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": reflectance}}


class Room:
    """The loaded scene. ``work`` holds meshes and textures on their way to Mitsuba."""

    def __init__(self, parts: list[Part], work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        scene: dict[str, Any] = {"type": "scene"}
        for part in parts:
            path = work / f"{part.name}.ply"
            part.mesh.write_ply(path)
            shape: dict[str, Any] = {
                "type": "ply", "filename": str(path), "face_normals": part.mesh.normals is None,
                "bsdf": _bsdf(part.surface, part.name, work),
            }  # fmt: skip
            if part.surface.emission is not None:
                gain = np.asarray(part.surface.emission)
                if part.surface.texture is not None:
                    radiance = _texture(part.surface, part.name, work, gain)
                else:
                    radiance = {"type": "rgb", "value": [float(x) for x in gain]}
                shape["emitter"] = {"type": "area", "radiance": radiance}
            scene[part.name] = shape
        # Unmerged, so that every shape keeps its own identity and thus its class.
        self.scene = mi.load_dict(scene, optimize=False)
        by_name = {part.name: part.label for part in parts}
        shapes = self.scene.shapes()
        keys = [int(dr.reinterpret_array(mi.UInt32, mi.ShapePtr(s))[0]) for s in shapes]
        self._labels = np.full(max(keys) + 1, 255, np.uint8)
        for key, shape in zip(keys, shapes):
            self._labels[key] = by_name[shape.id()]
        self._integrator = mi.load_dict({
            "type": "aov", "aovs": "albedo:albedo,normal:sh_normal",
            "image": {"type": "path", "max_depth": 6, "rr_depth": 3},
        })  # fmt: skip

    def trace(self, pose: Pose, local: np.ndarray) -> Hits:
        """Follow the rays ``local`` [N,3] = (x, y, 1), optical frame, of a camera at ``pose``."""
        length = np.linalg.norm(local, axis=1)
        world = ((local / length[:, None]) @ pose.axes.T).astype(np.float32)
        origin = mi.Point3f(*[float(x) for x in pose.position])
        hit = self.scene.ray_intersect(mi.Ray3f(origin, mi.Vector3f(world.T)))
        albedo = hit.bsdf().eval_diffuse_reflectance(hit)
        emission = hit.emitter(self.scene).eval(hit)
        keys = dr.reinterpret_array(mi.UInt32, hit.shape)
        dr.eval(hit.t, hit.p, hit.n, albedo, emission, keys)
        depth = (np.array(hit.t) / length).astype(np.float32)
        normals = (np.array(hit.n).T @ pose.axes).astype(np.float32)
        normals[(normals * local).sum(1) > 0] *= -1
        return Hits(
            np.array(hit.p).T, depth, normals, self._labels[np.array(keys)],
            np.array(albedo).T, np.array(emission).T,
        )  # fmt: skip

    def irradiance(
        self, pose: Pose, size: tuple[int, int], focal: float, samples: int, seed: int
    ) -> np.ndarray:
        """What a white surface would send to a camera at ``pose``: path traced, divided by the
        albedo, denoised. float32 [H,W,3] for ``size`` = (width, height), focal length in pixels,
        principal point in the middle."""
        target = pose.position + pose.axes[:, 2]
        sensor = mi.load_dict({
            "type": "perspective", "fov_axis": "x", "near_clip": 0.01,
            "fov": float(np.degrees(2 * np.arctan(size[0] / 2 / focal))),
            "to_world": mi.ScalarTransform4f().look_at(
                origin=[float(x) for x in pose.position], target=[float(x) for x in target],
                up=[float(x) for x in -pose.axes[:, 1]],
            ),
            "film": {
                "type": "hdrfilm", "width": size[0], "height": size[1],
                "rfilter": {"type": "box"}, "pixel_format": "rgb", "component_format": "float32",
            },
            "sampler": {"type": "independent"},
        })  # fmt: skip
        image = np.array(
            mi.render(
                self.scene, sensor=sensor, integrator=self._integrator, spp=samples, seed=seed
            )
        )
        color, albedo, normal = (np.ascontiguousarray(image[..., i : i + 3]) for i in (0, 3, 6))
        light = color / np.clip(albedo, 0.02, 1)
        return pyoidn.denoise(light, np.full_like(light, 0.7), normal, hdr=True)
