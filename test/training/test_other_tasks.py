# SPDX-License-Identifier: Apache-2.0
"""A task that none of ours is like: trained, judged, drawn and exported as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_training import learn_by_heart, train_config

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.model.deploy import DeployGraph
from proto_mtl_ros.tasks import NYU13, TASKS, binary
from proto_mtl_ros.training.export import onnx_file
from proto_mtl_ros.training.trainer import training_store


class Stripes:
    """Frames with a bright half, whose edge is labelled; one of them has depth alone."""

    label_set = NYU13
    tasks = ("depth", "edges")
    frame_ids = ("0", "1", "2", "3")

    def __len__(self) -> int:
        return 4

    def has(self, frame_id: str) -> tuple[str, ...]:
        return ("depth",) if frame_id == "3" else self.tasks

    def __getitem__(self, index: int) -> Sample:
        rgb = np.full((64, 96, 3), 40, np.uint8)
        edges = np.zeros((64, 96), np.uint8)
        column = 20 + 16 * index
        rgb[:, column:], edges[:, column - 4 : column + 4], edges[:8] = 220, 1, 255
        every = {"depth": np.full((64, 96), 2.0, np.float32), "edges": edges}
        labels = {name: every[name] for name in self.has(str(index))}
        camera = Camera(np.array([[100.0, 0, 48], [0, 100, 32], [0, 0, 1]]), 96, 64)
        return Sample(str(index), rgb, camera, labels)


@pytest.fixture
def module_and_batch(monkeypatch):
    """A module that has learnt the stripes, and their batch."""
    monkeypatch.setitem(TASKS, "edges", binary("edges"))
    config = train_config(
        tasks=["depth", "edges"],
        model={"width": 32},
        loss={"edges": 2.0},
        optimiser={"lr": 5e-3, "warmup_steps": 1, "decay_epochs": 10},
    )
    module, batch, _ = learn_by_heart(config, training_store(config, Stripes()), range(4))
    return module, batch


@pytest.mark.slow
def test_yes_or_no_per_pixel_is_learnt_judged_and_exported(module_and_batch):
    onnxruntime = pytest.importorskip("onnxruntime")
    module, batch = module_and_batch
    module.on_validation_epoch_start()
    module.train()  # batch statistics: so few steps leave no running ones
    with torch.no_grad():
        module.validation_step(batch, 0)
    assert module.metrics["edges"].compute()["max_f"] > 0.8
    graph = onnx_file(DeployGraph(module.network), 64, 96)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["depth", "edges"]
    _, edges = session.run(names, {"image": batch["image"].numpy()})
    assert edges.dtype == np.float32 and edges.shape == (4, 64, 96)
    with torch.no_grad():
        raw = module(batch["image"]).raw["edges"].sigmoid()
    expected = torch.nn.functional.interpolate(raw, (64, 96), mode="bilinear")[:, 0]
    # weights in the graph are rounded to half precision
    assert np.allclose(edges, expected.numpy(), atol=0.02)
