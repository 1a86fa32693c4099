# SPDX-License-Identifier: Apache-2.0
"""A small data set in the format of the NYUv2 pack, drawn by us: coloured walls and boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_pack(root: Path, train: int = 12, val: int = 2, seed: int = 0) -> Path:
    """Write ``train`` + ``val`` frames; colour tells the class, the row tells the depth."""
    rng = np.random.default_rng(seed)
    for kind in ("rgb", "depth", "label13", "normal", "manifests"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    rows = ["frame_id,split"]
    one_label = ["frame_id,segmentation,depth,normals"]
    for index in range(train + val):
        frame = f"{index + 1:04d}"
        rows.append(f"{frame},{'train' if index < train else 'val'}")
        if index < train:
            one_label.append(f"{frame}," + ",".join(str(int(index % 3 == t)) for t in range(3)))
        rgb = np.full((480, 640, 3), 90, np.uint8)
        label = np.full((480, 640), 11, np.uint8)
        label[300:] = 4
        rgb[300:] = (40, 160, 60)
        x, y = (int(v) for v in rng.integers(60, 400, 2) // (1, 2))
        cv2.rectangle(rgb, (x, y), (x + 160, y + 140), (200, 60, 40), -1)
        label[y : y + 141, x : x + 161] = 3
        depth = np.repeat(np.linspace(120, 40, 480)[:, None], 640, 1).astype(np.uint8)
        normal = np.full((288, 384, 3), (126, 126, 2), np.uint8)
        cv2.imwrite(str(root / "rgb" / f"{frame}.jpg"), rgb[..., ::-1])
        cv2.imwrite(str(root / "label13" / f"{frame}.png"), label)
        cv2.imwrite(str(root / "depth" / f"{frame}.png"), depth)
        lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
        cv2.imwrite(str(root / "normal" / f"{frame}.webp"), normal[..., ::-1], lossless)
    (root / "splits.csv").write_text("\n".join(rows) + "\n")
    (root / "manifests" / "one_label.csv").write_text("\n".join(one_label) + "\n")
    return root
