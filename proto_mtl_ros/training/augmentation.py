# SPDX-License-Identifier: Apache-2.0
"""The training transform on batches of tensors: crop and scale, mirror, colour.

What is done to a frame is drawn by the caller from (seed, pass, frame), so it does not depend on
the batch that the frame is in, on the number of processes, or on whether the run was continued.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_BLUR = 7  # longest motion blur in pixels


@dataclass(frozen=True)
class Crop:
    """What happens to one frame.

    ``size`` is the width of the window as a share of the largest of the output's aspect ratio that
    lies inside; above 1 the frame is seen from farther away, with nothing around it. ``x`` and
    ``y`` say where the window lies in the room that is left, 0 to 1. Colours are drawn from
    ``seed``, None leaves them alone.
    """

    size: float = 1.0
    x: float = 0.5
    y: float = 0.5
    mirrored: bool = False
    seed: int | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator, smallest: float, largest: float = 1.0) -> Crop:
        """Draw the training transform of a frame."""
        return cls(
            size=float(rng.uniform(smallest, largest)),
            x=float(rng.random()),
            y=float(rng.random()),
            mirrored=bool(rng.random() < 0.5),
            seed=int(rng.integers(2**31)),
        )


@dataclass(frozen=True)
class Windows:
    """Windows in stored frames of one size, and the output that each becomes.

    Edges are in pixels with the first pixel's left edge at 0. ``scale`` is source pixels per
    output pixel, the same along both axes: nothing is stretched.
    """

    source: tuple[int, int]
    out: tuple[int, int]
    left: Tensor
    top: Tensor
    scale: Tensor
    mirrored: Tensor

    @classmethod
    def of(
        cls, crops: Sequence[Crop], height: int, width: int, out_height: int, out_width: int
    ) -> Windows:
        """Place ``crops`` in frames of ``height`` x ``width``."""
        fit = min(width / out_width, height / out_height)
        scale = np.array([crop.size for crop in crops]) * fit
        left = np.array([crop.x for crop in crops]) * (width - scale * out_width)
        top = np.array([crop.y for crop in crops]) * (height - scale * out_height)
        return cls(
            (height, width),
            (out_height, out_width),
            torch.from_numpy(left),
            torch.from_numpy(top),
            torch.from_numpy(scale),
            torch.tensor([crop.mirrored for crop in crops]),
        )

    def select(self, which: Sequence[int]) -> Windows:
        rows = list(which)
        parts = (self.left[rows], self.top[rows], self.scale[rows], self.mirrored[rows])
        return Windows(self.source, self.out, *parts)

    def on(self, base: Windows, stride: int) -> Windows:
        """Return the same windows in maps that lie ``stride`` pixels apart in the output of
        ``base``; their output is as coarse.
        """
        pixel = base.scale * stride
        return Windows(
            (base.out[0] // stride, base.out[1] // stride),
            (self.out[0] // stride, self.out[1] // stride),
            (self.left - base.left) / pixel,
            (self.top - base.top) / pixel,
            self.scale / base.scale,
            self.mirrored,
        )

    def positions(self) -> tuple[Tensor, Tensor]:
        """Return where the centres of the output's rows and columns lie: [B, H], [B, W]."""
        height, width = self.out
        rows = self.top[:, None] + (torch.arange(height) + 0.5) * self.scale[:, None]
        columns = self.left[:, None] + (torch.arange(width) + 0.5) * self.scale[:, None]
        return rows, torch.where(self.mirrored[:, None], columns.flip(1), columns)

    def inside(self) -> Tensor:
        """Return which output pixels show something of their frame, bool [B, H, W]."""
        rows, columns = self.positions()
        height, width = self.source
        down, across = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
        return down[:, :, None] & across[:, None, :]

    def cameras(self, cameras: Tensor) -> Tensor:
        """Return fx, fy, cx, cy [B, 4] of the outputs from those of the stored frames."""
        fx, fy, cx, cy = cameras.double().unbind(1)
        cx = (cx + 0.5 - self.left) / self.scale - 0.5
        cy = (cy + 0.5 - self.top) / self.scale - 0.5
        cx = torch.where(self.mirrored, self.out[1] - 1 - cx, cx)
        return torch.stack([fx / self.scale, fy / self.scale, cx, cy], 1).float()

    def mirror_x(self, vectors: Tensor) -> Tensor:
        """Negate the x component of vectors [B, H, W, 3] in mirrored outputs, in place."""
        vectors[..., 0] *= torch.where(self.mirrored, -1.0, 1.0).to(vectors)[:, None, None]
        return vectors


def _filter(positions: Tensor, scale: Tensor, length: int) -> Tensor:
    """Return resampling weights [B, outputs, length]: a triangle as wide as an output pixel.

    Bilinear where nothing shrinks, and without aliasing where it does.
    """
    radius = scale.clamp_min(1.0)[:, None, None]
    # only the few pixels under the triangle are worked out
    taps = int(torch.ceil(2 * radius.max())) + 1
    first = (positions - radius[..., 0] - 0.5).ceil()
    index = first[..., None] + torch.arange(taps)
    weights = (1 - (positions[..., None] - (index + 0.5)).abs() / radius).clamp_min_(0)
    # what lies outside the source altogether gets 0
    weights = torch.where((index >= 0) & (index < length), weights, 0)
    weights = (weights / weights.sum(-1, keepdim=True).clamp_min(1e-6)).float()
    dense = torch.zeros(*positions.shape, length)
    return dense.scatter_add_(2, index.long().clamp_(0, length - 1), weights)


def crop_images(images: Tensor, windows: Windows) -> Tensor:
    """Resample [B, h, C, w] (any type) to float32 [B, C, H, W].

    With the channels between rows and columns two matrix products do it, and nothing is moved.
    """
    count, height, channels, width = images.shape
    rows, columns = windows.positions()
    down = _filter(rows, windows.scale, height).to(images.device)
    across = _filter(columns, windows.scale, width).to(images.device)
    tall = down @ images.float().view(count, height, channels * width)
    out = tall.view(count, -1, width) @ across.transpose(1, 2)
    return out.view(count, down.shape[1], channels, -1).transpose(1, 2)


def crop_labels(labels: Tensor, frames: Tensor, windows: Windows) -> Tensor:
    """Take from [n, h, w, ...] the pixel that holds each output pixel's centre: [B, H, W, ...].

    ``frames`` [B] says which of the n each of the windows lies in.
    """
    _, height, width = labels.shape[:3]
    rows, columns = windows.positions()
    rows = rows.floor().long().clamp_(0, height - 1) + (frames * height)[:, None]
    columns = columns.floor().long().clamp_(0, width - 1)
    pixels = (rows * width)[:, :, None] + columns[:, None, :]
    taken = labels.flatten(0, 2).index_select(0, pixels.flatten().to(labels.device))
    return taken.view(*pixels.shape, *labels.shape[3:])


def jitter_colours(images: Tensor, crops: Sequence[Crop], strength: float) -> Tensor:
    """Random brightness, contrast, saturation, white balance, gamma, and now and then the blur and
    noise of a moving robot's camera: float32 [B, 3, H, W], 0 to 255, to uint8 [B, H, W, 3].

    The seeds of ``crops`` draw the change; ``strength`` is 0 to 1.
    """
    coloured = [position for position, crop in enumerate(crops) if crop.seed is not None]
    if strength == 0 or not coloured:
        return _bytes((images + 0.5).clamp_(0, 255))
    draws = [np.random.default_rng(crop.seed) for crop in crops]

    def uniform(low: float, high: float, count: int = 1) -> Tensor:
        values = np.stack(
            [rng.uniform(1 - low * strength, 1 + high * strength, count) for rng in draws]
        )
        return torch.from_numpy(values).to(images)[:, :, None, None]

    gain = uniform(0.5, 0.5) * uniform(0.15, 0.15, 3)
    contrast, saturation, gamma = uniform(0.5, 0.5), uniform(0.7, 0.5), uniform(0.3, 0.4)
    weights = gain * images.new_tensor(_LUMA)[:, None, None]
    red, green, blue = ((images * weights)[:, channel] for channel in range(3))
    grey = ((red + green) + blue)[:, None]
    # grey + saturation (x - grey), then contrast about the mean of grey, in one pass over x
    level = grey * (contrast * (1 - saturation))
    level = level + (1 - contrast) * grey.mean((2, 3), keepdim=True)
    x = torch.addcmul(level, images, gain * (contrast * saturation))
    for position, rng in enumerate(draws):
        if rng.random() < 0.2 * strength:
            x[position] = _motion_blur(
                x[position], int(rng.integers(3, _BLUR + 1)), rng.uniform(0, math.pi)
            )
        if rng.random() < 0.3 * strength:
            noise = rng.standard_normal((*x.shape[2:], 3), np.float32) * rng.uniform(1, 10)
            x[position] += torch.from_numpy(noise.astype(np.float32)).to(x).permute(2, 0, 1)
    # log 0 is -inf, and its exponential 0 again
    x = x.clamp_(0, 255).mul_(1 / 255).log_().mul_(gamma).exp_().mul_(255)
    plain = [position for position, crop in enumerate(crops) if crop.seed is None]
    if plain:
        x[plain] = images[plain]
    return _bytes(x.add_(0.5))


def _bytes(images: Tensor) -> Tensor:
    """Return [B, 3, H, W], 0 to 255, as uint8 [B, H, W, 3]."""
    return images.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _motion_blur(image: Tensor, length: int, angle: float) -> Tensor:
    """Blur [3, H, W] along a line of ``length`` pixels."""
    kernel = torch.zeros(length, length)
    steps = torch.linspace(-(length - 1) / 2, (length - 1) / 2, 2 * length)
    rows = (steps * math.sin(angle) + (length - 1) / 2).round().long()
    columns = (steps * math.cos(angle) + (length - 1) / 2).round().long()
    kernel[rows, columns] = 1.0
    kernel = (kernel / kernel.sum()).to(image)[None, None]
    left, right = (length - 1) // 2, length // 2
    # channels as a batch: three small convolutions, not a grouped one
    padded = F.pad(image[:, None], (left, right, left, right), mode="replicate")
    return F.conv2d(padded, kernel)[:, 0]
