# SPDX-License-Identifier: Apache-2.0
"""A path tracer for rooms: exact depth, normals and classes, and light that looks real.

Mitsuba finds what rays hit; materials are ours: one buffer for all textures and one table for all
surfaces, so that the compiled code is the same for every room and is compiled once.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import drjit as dr
import mitsuba as mi
import numpy as np
import pyoidn

from .camera import Hits, Pinhole, Pose
from .parts import CLASSES, Part, Surface, join

mi.set_variant("llvm_ad_rgb")

BOUNCES = 3


@dataclass
class _Point:
    """Points on surfaces: position, geometric and shading normal against the ray, albedo,
    radiance, roughness of the coat (0: none), all drjit arrays."""

    p: mi.Point3f
    ng: mi.Normal3f
    ns: mi.Normal3f
    albedo: mi.Color3f
    radiance: mi.Color3f
    gloss: mi.Float
    part: mi.UInt32


class Room:
    """The loaded scene. ``sun``: direction towards it [3] and radiance [3] of what falls through
    panes, or None."""

    def __init__(self, parts: list[Part], sun: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        whole = join([part.mesh for part in parts])
        flat = (x.astype(np.float32).ravel() for x in (whole.vertices, whole.normals, whole.uv))
        self._vertices, self._normals, self._uv = map(mi.Float, flat)
        owner = np.repeat(np.arange(len(parts)), [len(part.mesh.faces) for part in parts])
        self._owner, self._faces = mi.UInt32(owner), mi.UInt32(whole.faces.ravel())
        corners = whole.vertices[whole.faces].astype(np.float32)
        self._labels = np.array([CLASSES.index(part.label) for part in parts], np.uint8)
        self._surfaces([part.surface for part in parts])
        self._emitters([part.surface for part in parts], corners, owner)
        mesh = mi.Mesh("room", len(whole.vertices), len(whole.faces))
        shape = mi.traverse(mesh)
        shape["vertex_positions"], shape["faces"] = self._vertices, self._faces
        shape.update()
        self._scene = mi.load_dict({"type": "scene", "mesh": mesh})
        self._sampler = mi.load_dict({"type": "independent"})
        toward, shine = sun or (np.array([0.0, 0, 1]), np.zeros(3))
        self._sun = mi.Vector3f(*(toward / np.linalg.norm(toward)).tolist())
        self._shine = mi.Color3f(*shine.tolist())
        self._pane = mi.UInt32(np.array([part.pane for part in parts], np.uint32))
        dr.make_opaque(self._sun, self._shine)

    def _surfaces(self, surfaces: list[Surface]) -> None:
        """The table of surfaces, and the buffer of textures: uint32 a texel, RGB."""
        texels, table, offset = [np.zeros(1, np.uint32)], [], 1
        for s in surfaces:
            color = np.asarray(s.color, float)
            color = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
            width = height = start = 0
            if s.texture is not None:
                height, width = s.texture.shape[:2]
                shifted = s.texture.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)
                texels.append(shifted.reshape(-1))
                start, offset = offset, offset + width * height
            # Nothing real reflects more than 80 % or less than 2 %.
            table.append([*np.clip(color, 0.02, 0.8), *(s.emission or (0, 0, 0)), s.gloss,
                          start, width, height, *s.period])  # fmt: skip
        self._texels = mi.UInt32(np.concatenate(texels))
        self._table = mi.Float(np.array(table, np.float32).ravel())

    def _emitters(self, surfaces: list[Surface], corners: np.ndarray, owner: np.ndarray) -> None:
        power = np.array([0.0 if s.emission is None else np.mean(s.emission) for s in surfaces])
        shining = np.flatnonzero(power[owner] > 0).astype(np.uint32)
        shining = shining if len(shining) else np.zeros(1, np.uint32)
        a, b, c = corners[shining].transpose(1, 0, 2)
        areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2 + 1e-12
        weight = areas * (power[owner[shining]] + 1e-9)
        self._shining = mi.UInt32(shining)
        self._choice = mi.DiscreteDistribution(mi.Float(weight.astype(np.float32)))
        self._density = mi.Float((weight / weight.sum() / areas).astype(np.float32))

    def _at(self, face: mi.UInt32, b1: mi.Float, b2: mi.Float, along: mi.Vector3f, ok: mi.Bool):
        """The points on ``face`` at barycentric coordinates, seen in direction ``along``."""
        index = [dr.gather(mi.UInt32, self._faces, face * 3 + i, ok) for i in range(3)]
        v = [dr.gather(mi.Point3f, self._vertices, i, ok) for i in index]
        n = [dr.gather(mi.Normal3f, self._normals, i, ok) for i in index]
        t = [dr.gather(mi.Point2f, self._uv, i, ok) for i in index]
        b0 = 1 - b1 - b2
        ng = dr.normalize(dr.cross(v[1] - v[0], v[2] - v[0]))
        ng = dr.select(dr.dot(ng, along) > 0, -ng, ng)
        ns = dr.normalize(n[0] * b0 + n[1] * b1 + n[2] * b2)
        ns = dr.select(dr.dot(ns, ng) < 0, -ns, ns)
        ns = dr.select(dr.dot(ns, ns) > 0.5, ns, ng)
        uv = t[0] * b0 + t[1] * b1 + t[2] * b2
        part = dr.gather(mi.UInt32, self._owner, face, ok)
        row = [dr.gather(mi.Float, self._table, part * 12 + i, ok) for i in range(12)]
        color = mi.Color3f(row[0], row[1], row[2])
        glow = mi.Color3f(row[3], row[4], row[5])
        textured = ok & (row[8] > 0)
        image = self._lookup(row, uv, textured)
        shines = dr.any(glow > 0)
        albedo = dr.select(textured, dr.clip(image, 0.02, 0.8), color)
        radiance = glow * dr.select(textured, image, mi.Color3f(1.0))
        p = v[0] * b0 + v[1] * b1 + v[2] * b2
        return _Point(p, ng, ns, dr.select(shines, 0.0, albedo), radiance, row[6], part)

    def _lookup(self, row: list[mi.Float], uv: mi.Point2f, ok: mi.Bool) -> mi.Color3f:
        """Texels, bilinear, linear colour. Images start at the top, v at the bottom."""
        width, height = mi.UInt32(row[8]), mi.UInt32(row[9])
        u, v = uv.x / row[10], -uv.y / row[11]
        x, y = (u - dr.floor(u)) * row[8] - 0.5, (v - dr.floor(v)) * row[9] - 0.5
        x0, y0 = dr.floor(x), dr.floor(y)
        fx, fy = x - x0, y - y0
        total = mi.Color3f(0.0)
        for i in (0, 1):
            for j in (0, 1):
                cx = mi.UInt32(mi.Int32(x0) + i + mi.Int32(width)) % dr.maximum(width, 1)
                cy = mi.UInt32(mi.Int32(y0) + j + mi.Int32(height)) % dr.maximum(height, 1)
                texel = dr.gather(mi.UInt32, self._texels, mi.UInt32(row[7]) + cy * width + cx, ok)
                c = mi.Color3f(*[mi.Float((texel >> shift) & 255) for shift in (0, 8, 16)])
                total += c * (dr.select(i == 1, fx, 1 - fx) * dr.select(j == 1, fy, 1 - fy) / 255)
        return dr.power(total, 2.2)

    def _nearest(self, ray: mi.Ray3f, ok: mi.Bool, coherent: bool = False):
        """The points that rays meet, whether they meet one, and how far away."""
        hit = self._scene.ray_intersect_preliminary(ray, coherent, active=ok)
        ok = ok & hit.is_valid()
        return self._at(hit.prim_index, hit.prim_uv.x, hit.prim_uv.y, ray.d, ok), ok, hit.t

    def _direct(self, at: _Point, ok: mi.Bool) -> mi.Color3f:
        """Light on points, one random point of one emitter each, and the sun: irradiance / pi."""
        u, w = self._sampler.next_1d(ok), self._sampler.next_2d(ok)
        k, _ = self._choice.sample_reuse(u, ok)
        face = dr.gather(mi.UInt32, self._shining, k, ok)
        root = dr.sqrt(w.x)
        lamp = self._at(face, root * (1 - w.y), root * w.y, mi.Vector3f(0.0), ok)
        way = lamp.p - at.p
        far = dr.squared_norm(way)
        d = way / dr.sqrt(far)
        cosines = dr.maximum(dr.dot(d, at.ns), 0) * dr.abs(dr.dot(d, lamp.ng))
        density = dr.gather(mi.Float, self._density, k, ok)
        start = at.p + at.ng * 1e-3
        lit = ok & (cosines > 0) & (dr.dot(d, at.ng) > 0)
        ray = mi.Ray3f(start, d)
        ray.maxt = dr.sqrt(far) - 3e-3
        lit &= ~self._scene.ray_test(ray, active=lit)
        share = cosines / (dr.maximum(far, 1e-3) * density * dr.pi)
        light = dr.select(lit, lamp.radiance * share, 0.0)
        slant = dr.dot(self._sun, at.ns)
        sunny = ok & (slant > 0) & (dr.dot(self._sun, at.ng) > 0) & (dr.max(self._shine) > 0)
        out = self._scene.ray_intersect_preliminary(mi.Ray3f(start, self._sun), active=sunny)
        sunny &= out.is_valid()
        there = dr.gather(mi.UInt32, self._owner, out.prim_index, sunny)
        sunny &= dr.gather(mi.UInt32, self._pane, there, sunny) > 0
        return light + dr.select(sunny, self._shine * (slant / dr.pi), 0.0)

    def _rays(self, pose: Pose, local: np.ndarray) -> tuple[mi.Ray3f, np.ndarray]:
        length = np.linalg.norm(local, axis=1)
        world = ((local / length[:, None]) @ pose.axes.T).astype(np.float32)
        origin = mi.Point3f(*pose.position.tolist())
        dr.make_opaque(origin)  # else every pose would be compiled anew
        return mi.Ray3f(origin, mi.Vector3f(world.T)), length

    def trace(self, pose: Pose, local: np.ndarray) -> Hits:
        """Follow the rays ``local`` [N,3] = (x, y, 1), optical frame, of a camera at ``pose``."""
        rays, length = self._rays(pose, local)
        at, ok, t = self._nearest(rays, mi.Bool(True), True)
        dr.eval(at.ng, at.part, t, ok)
        depth = (np.array(t) / length).astype(np.float32)
        normals = (np.array(at.ng).T @ pose.axes).astype(np.float32)
        labels = np.where(np.array(ok), self._labels[np.array(at.part)], 255).astype(np.uint8)
        return Hits(depth, normals, labels)

    def photograph(self, pose: Pose, camera: Pinhole, supersampling: int, seed: int) -> np.ndarray:
        """Linear colour float32 [H,W,3], path traced with ``supersampling`` ** 2 paths a pixel.

        The light that falls on the surfaces is denoised, then multiplied by the exact colours:
        textures and edges stay sharp."""
        s = supersampling
        shape = (camera.height, s, camera.width, s, 3)
        local = camera.rays(s)
        rays = self._rays(pose, local)[0]
        self._sampler.seed(seed, len(local))
        first, ok, _ = self._nearest(rays, mi.Bool(True), True)
        at, light, weight = first, self._direct(first, ok), mi.Color3f(1.0)
        for _ in range(BOUNCES - 1):
            d = mi.warp.square_to_cosine_hemisphere(self._sampler.next_2d(ok))
            d = mi.Frame3f(at.ns).to_world(d)
            ok &= dr.dot(d, at.ng) > 0
            at, ok, _ = self._nearest(mi.Ray3f(at.p + at.ng * 1e-3, d), ok)
            weight *= at.albedo
            light += dr.select(ok, weight * self._direct(at, ok), 0.0)
        # The coat of glossy surfaces mirrors what is there, more at grazing angles.
        glossy = first.gloss > 0
        wobble = mi.warp.square_to_std_normal(self._sampler.next_2d(glossy)) * (first.gloss * 0.5)
        wobble = mi.Frame3f(first.ns).to_world(mi.Vector3f(wobble.x, wobble.y, 0.0))
        tilted = dr.normalize(first.ns + wobble)
        d = rays.d - 2 * dr.dot(rays.d, tilted) * tilted
        glossy &= dr.dot(d, first.ng) > 0
        fresnel = 0.04 + 0.96 * (1 - dr.abs(dr.dot(rays.d, tilted))) ** 5
        seen, glossy, _ = self._nearest(mi.Ray3f(first.p + first.ng * 1e-3, d), glossy)
        there = seen.radiance + seen.albedo * self._direct(seen, glossy)
        mirrored = dr.select(glossy, fresnel * there, 0.0)
        dr.eval(light, mirrored, first.albedo, first.radiance, first.ns)
        light_, mirrored_, albedo, glow, normals = (
            np.array(x).T for x in (light, mirrored, first.albedo, first.radiance, first.ns)
        )
        # One lucky path must not outshine its neighbourhood.
        light_ = np.nan_to_num(light_ + mirrored_ / np.clip(albedo, 0.05, 1))
        light_ = np.minimum(light_, 20 * np.median(light_) + 1e-3).reshape(shape).mean((1, 3))
        normals = (normals @ pose.axes).reshape(shape).mean((1, 3))
        light_, normals = (np.ascontiguousarray(x, np.float32) for x in (light_, normals))
        even = np.full_like(light_, 0.7)
        smooth = pyoidn.denoise(light_, even, normals, hdr=True, clean_aux=True)
        # Paths end after some bounces; what would follow is nearly even.
        smooth = smooth + 0.15 * np.median(smooth, (0, 1))
        fine = cv2.resize(smooth, (camera.width * s, camera.height * s))
        least = 0.05 * (glow.max(1, keepdims=True) == 0)
        color = np.clip(albedo, least, 1) * fine.reshape(-1, 3) + glow
        # Clip before averaging, as each sensor cell does: edges of lights stay smooth.
        limit = 20 * np.median(color) + 1e-3
        return np.minimum(color, limit).reshape(shape).mean((1, 3)).astype(np.float32)
