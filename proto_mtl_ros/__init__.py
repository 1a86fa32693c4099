# SPDX-License-Identifier: Apache-2.0
"""Segmentation, metric depth and surface normals for every pixel of a robot's cameras."""

__version__ = "0.2.0"
