# SPDX-License-Identifier: Apache-2.0
"""Surface normals of a depth map, differentiable: the torch twin of ``geometry.depth_to_normals``.

The inverse depth of a plane n . p = d is linear in the ray (x, y, 1): 1 / z = (n / d) . (x, y, 1).
Its two derivatives, by smoothed central differences that are exact for planes, therefore give the
normal of a local plane however steep it is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def depth_normals(depth: Tensor, camera: Tensor) -> Tensor:
    """Return unit normals [B, 3, H, W] of depth [B, 1, H, W], in the optical frame, facing the
    camera (n . p < 0).

    Normals do not depend on the unit of depth, so canonical depth serves as well as metres.

    Args:
        depth: positive everywhere.
        camera: fx, fy, cx, cy [B, 4] in pixels of the depth map.
    """
    inverse = 1.0 / depth
    fx, fy, cx, cy = (values[:, None, None, None] for values in camera.to(depth).unbind(1))
    kernel = depth.new_tensor([[1.0, 2.0, 1.0]])
    kernel = kernel.t() @ depth.new_tensor([[-1.0, 0.0, 1.0]]) / 8.0  # Sobel
    padded = F.pad(inverse, (1, 1, 1, 1), mode="replicate")
    a = F.conv2d(padded, kernel[None, None]) * fx
    b = F.conv2d(padded, kernel.t()[None, None]) * fy
    height, width = depth.shape[-2:]
    x = (torch.arange(width, device=depth.device, dtype=depth.dtype) - cx) / fx
    y = (torch.arange(height, device=depth.device, dtype=depth.dtype)[:, None] - cy) / fy
    c = inverse - a * x - b * y
    # the plane's inverse depth a x + b y + c is positive at the pixel, so -(a, b, c) faces us
    return -F.normalize(torch.cat([a, b, c], 1), dim=1, eps=1e-6)
