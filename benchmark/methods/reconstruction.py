# SPDX-License-Identifier: Apache-2.0
"""Task-agnostic enhancement: the backbone's features, quantised, must still show the picture.

The paper has a VQ codebook and an image reconstruction for this and publishes no more than their
names and the codebook's size; all else is our reading:

    z[n] = LN(P f16[n] - mean_n P f16[n])                       per picture; no learnt scale
    e[n] = the nearest to z[n] among the codes LN(c_k)          codebook of K vectors
    loss = mean |D(z + sg(e - z)) - image|                      at stride 4, normalised image
         + mean (sg(z) - e)^2 + beta mean (z - sg(e))^2         "Neural Discrete Representation
                                                                Learning", van den Oord et al. 2017

sg stops the gradient; the decoder's gradient goes straight through the quantisation to z. Needs no
label, and nothing of it is deployed.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from proto_mtl_ros.model.decoder import upsample
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.training.auxiliary import AuxiliaryLoss, Options, Setup, auxiliary_loss

_COMMITMENT = 0.25
"""beta of van den Oord et al."""

_STRIDE = 4
"""Of the reconstruction; texture finer than that is nothing a task asks for."""


class Codebook(nn.Module):
    """K codes of width D, and the nearest of them to a vector.

    Codes die where all features are alike or where the shortest codes win, so both sides have the
    same length (codes on a sphere: Yu et al., ICLR 2022) and features are centred. A code that no
    feature comes near simply stays: restarts and running means would be state to keep alike between
    processes and over a resume.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(size, width))

    def codes(self) -> Tensor:
        """Return the codes [K, D], of zero mean and unit variance over D."""
        return F.layer_norm(self.vectors, self.vectors.shape[-1:])

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return (nearest codes [N, D], their indices [N]) for ``vectors`` [N, D]."""
        codes = self.codes()
        with torch.no_grad():
            # |z - e|^2 without |z|^2, which is the same for all codes
            distance = codes.square().sum(1) - 2.0 * vectors @ codes.t()
            index = distance.argmin(1)
        return codes[index], index


class ReconstructionOptions(Options):
    """K and D of the codebook; the paper has 4096 and 1024."""

    codebook_size: int = Field(512, ge=2)
    codebook_width: int = Field(128, ge=8)


@auxiliary_loss("reconstruction")
class Reconstruction(AuxiliaryLoss):
    """The image from quantised stride-16 features: an L1 distance and the codebook's two terms."""

    title = "task-agnostic enhancement"
    Options = ReconstructionOptions
    _mean: Tensor
    _std: Tensor

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        network, width = setup.network, setup.options.codebook_width
        self.project = nn.Conv2d(network.channels[3], width, 1)
        self.codebook = Codebook(setup.options.codebook_size, width)
        self.decode16 = nn.Conv2d(width, 64, 3, padding=1)
        self.decode8 = nn.Conv2d(64, 32, 3, padding=1)
        self.decode4 = nn.Conv2d(32, 3, 3, padding=1)
        for name, values in (("_mean", network.mean), ("_std", network.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def target(self, image: Tensor) -> Tensor:
        """Return uint8 [B, H, W, 3] normalised as for the backbone, at stride 4: [B, 3, h, w]."""
        pixels = F.avg_pool2d(image.permute(0, 3, 1, 2).float(), _STRIDE)
        return (pixels - self._mean) / self._std

    def embed(self, out: NetworkOutput) -> Tensor:
        """Return z: float32 [B, H/16, W/16, D], of zero mean and unit variance over D."""
        z = self.project(out.pyramid[3]).float()
        # what all of a picture shares would make its features alike and leave few codes in use
        z = (z - z.mean((2, 3), keepdim=True)).permute(0, 2, 3, 1)
        return F.layer_norm(z, z.shape[-1:])

    def decode(self, z: Tensor) -> Tensor:
        """Return the picture [B, 3, H/4, W/4] that ``z`` [B, H/16, W/16, D] shows."""
        x = upsample(F.gelu(self.decode16(z.permute(0, 3, 1, 2))), 2)
        return self.decode4(upsample(F.gelu(self.decode8(x)), 2))

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        z = self.embed(out)
        # half precision would pick a code that is not the nearest
        with torch.autocast(z.device.type, enabled=False):
            e = self.codebook(z.flatten(0, 2))[0].view_as(z)
        picture = self.decode(z + (e - z).detach())
        loss = F.l1_loss(picture.float(), self.target(batch["image"]))
        loss = loss + F.mse_loss(e, z.detach())
        return loss + _COMMITMENT * F.mse_loss(z, e.detach())
