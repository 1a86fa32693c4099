# SPDX-License-Identifier: Apache-2.0
"""The light in the room, computed once and looked up by every frame.

Nothing moves but the camera and all surfaces are matt, so the light that falls on a point is the
same in every frame. It is path traced for a few wide views along the camera's way; a frame traces
its own exact rays, finds each hit in the views that see it, and multiplies by its own albedo.
That costs a twentieth of path tracing each frame, and the light does not flicker.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .camera import Pose
from .renderer import Hits, Room

VIEW_WIDTH, VIEW_HEIGHT, VIEW_FOCAL = 400, 300, 245.0


@dataclass
class View:
    """One view: its pose, light [H,W,3], depth [H,W], normals [H,W,3] (world), trust [H,W]."""

    pose: Pose
    light: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    trust: np.ndarray


def view_light(room: Room, pose: Pose, samples: int, seed: int, path: Path) -> np.ndarray:
    """Path trace one view's light, or read it from ``path``, where it is kept."""
    if not path.exists():
        size = (VIEW_WIDTH, VIEW_HEIGHT)
        light = room.irradiance(pose, size, VIEW_FOCAL, samples, seed).astype(np.float32)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(file, light=light)
        temporary.replace(path)
    with np.load(path) as data:
        return data["light"]


def view(room: Room, pose: Pose, light: np.ndarray) -> View:
    """The view at ``pose``: its light, and what of it can be trusted."""
    shape = (VIEW_HEIGHT, VIEW_WIDTH)
    v, u = np.mgrid[:VIEW_HEIGHT, :VIEW_WIDTH].astype(np.float64)
    x = (u + 0.5 - VIEW_WIDTH / 2) / VIEW_FOCAL
    y = (v + 0.5 - VIEW_HEIGHT / 2) / VIEW_FOCAL
    hits = room.trace(pose, np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3))
    depth = hits.depth.reshape(shape)
    # Inverse depth is linear inside a plane: its second derivative marks edges, where a view's
    # pixel mixes surfaces. Such pixels count where there is nothing better, pixels of or beside
    # a lamp never.
    bend = np.abs(cv2.Laplacian(1 / depth, cv2.CV_32F, ksize=1)) * depth
    lamp = (hits.emission.max(1) > 0).reshape(shape).astype(np.uint8)
    beside = cv2.dilate(lamp, np.ones((3, 3), np.uint8)) > 0
    trust = np.where(beside, 0.0, np.where(bend < 0.02, 1.0, 0.02)).astype(np.float32)
    normals = (hits.normals @ pose.axes.T).reshape(*shape, 3).astype(np.float32)
    return View(pose, light, depth, normals, trust)


def gather(views: list[View], hits: Hits, pose: Pose, height: int, width: int) -> np.ndarray:
    """The light at ``hits``, which fill an image of ``height`` x ``width``: float32 [H,W,3]."""
    normals = hits.normals @ pose.axes.T.astype(np.float32)
    total = np.zeros((height, width, 3), np.float32)
    weight = np.full((height, width), 1e-9, np.float32)
    for view in views:
        local = (hits.points - view.pose.position.astype(np.float32)) @ view.pose.axes.astype(
            np.float32
        )
        z = np.maximum(local[:, 2], 0.05)
        u = (local[:, 0] / z * VIEW_FOCAL + VIEW_WIDTH / 2 - 0.5).reshape(height, width)
        v = (local[:, 1] / z * VIEW_FOCAL + VIEW_HEIGHT / 2 - 0.5).reshape(height, width)
        z = np.where(local[:, 2] > 0.05, z, 1e6).reshape(height, width)
        depth = cv2.remap(view.depth, u, v, cv2.INTER_NEAREST, borderValue=-1)
        there = cv2.remap(view.normals, u, v, cv2.INTER_NEAREST, borderValue=0)
        facing = np.einsum("ij,ij->i", there.reshape(-1, 3), normals).reshape(height, width)
        same = (np.abs(depth - z) < 0.03 * z) & (facing > 0.7)
        trusted = cv2.remap(view.trust, u, v, cv2.INTER_LINEAR, borderValue=0)
        light = cv2.remap(view.light * view.trust[..., None], u, v, cv2.INTER_LINEAR, borderValue=0)
        share = same / z**2
        total += light * share[..., None]
        weight += trusted * share
    known = (weight > 1e-4).astype(np.float32)
    light = total / weight[..., None] * known[..., None]
    return _fill(light, known)


def _fill(light: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Light for points that no view sees: that of their neighbourhood in the image."""
    for size in (7, 21, 61, 181, 541):
        if known.all():
            break
        around = cv2.blur(light * known[..., None], (size, size))
        share = cv2.blur(known, (size, size))
        found = (known == 0) & (share > 0.02)
        light[found] = around[found] / share[found][:, None]
        known = np.maximum(known, found.astype(np.float32))
    return light
