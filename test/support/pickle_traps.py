# SPDX-License-Identifier: Apache-2.0
"""Pickles that act when they are loaded, and the functions that read files of other people."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from small_training import train_config
from tiny_bundle import tiny_manifest

from proto_mtl_ros.data.bags.bag import Bag
from proto_mtl_ros.data.bags.recording_kinds import open_recording
from proto_mtl_ros.data.bags.writer import BagWriter
from proto_mtl_ros.model.backbones.weights import read_weights
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import create_engine
from proto_mtl_ros.tasks import DEPTH, NYU13, tasks_over
from proto_mtl_ros.training.checkpoint import AtomicCheckpointIO, check_resumable
from proto_mtl_ros.training.start import continued_from, starting_network
from proto_mtl_ros.training.teachers import _teacher
from recordings import START, jpeg_message, picture


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._marker,)


def as_pickle(marker: Path) -> bytes:
    return pickle.dumps(Trap(marker), protocol=2)


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    content = io.BytesIO()
    write(content)
    return content.getvalue()


def as_checkpoint(marker: Path) -> bytes:
    state = {"state_dict": {"a": Trap(marker)}, "epoch": 1}
    return written(lambda file: torch.save(state, file))


def as_old_checkpoint(marker: Path) -> bytes:
    state = {"labels_weights": Trap(marker)}
    return written(lambda file: torch.save(state, file, _use_new_zipfile_serialization=False))


def as_array(marker: Path) -> bytes:
    return written(lambda file: np.save(file, np.array([Trap(marker)], object)))


def as_arrays(marker: Path) -> bytes:
    return written(lambda file: np.savez(file, arr_0=np.array([Trap(marker)], object)))


FORMS = (as_pickle, as_checkpoint, as_old_checkpoint, as_array, as_arrays)


def _in_bundle(name: str, content: bytes, folder: Path) -> Path:
    """Return a bundle with a file whose sum is right, as its author would give it."""
    bundle = folder / "evil"
    bundle.mkdir(exist_ok=True)
    (bundle / name).write_bytes(content)
    stated = json.loads(tiny_manifest().to_json())
    stated["architecture"] = {"tasks": ["depth"], "width": 16, "head_width": 8}
    stated["files"] = {name: hashlib.sha256(content).hexdigest()}
    (bundle / "model.json").write_text(json.dumps(stated))
    return bundle


def _load_in(backend: str, name: str) -> Callable[[bytes, Path], object]:
    def load(content: bytes, folder: Path) -> object:
        bundle = Bundle.load(_in_bundle(name, content, folder))
        return create_engine(bundle, backend, "cpu", precision="int8" if "int8" in name else "fp32")

    return load


def _start_from(content: bytes, folder: Path) -> object:
    config = train_config(start_from=str(_in_bundle("weights.safetensors", content, folder)))
    return starting_network(config, tasks_over(config.tasks, NYU13))


def _backbone(suffix: str) -> Callable[[bytes, Path], object]:
    def load(content: bytes, folder: Path) -> object:
        path = folder / f"resnet18{suffix}"
        path.write_bytes(content)
        return read_weights(path)

    return load


def _resume(content: bytes, folder: Path) -> object:
    """Lightning asks for everything, as its callers may do."""
    (folder / "last.ckpt").write_bytes(content)
    return AtomicCheckpointIO().load_checkpoint(folder / "last.ckpt", weights_only=False)


def _of_a_teacher(name: str) -> Callable[[bytes, Path], object]:
    def load(content: bytes, folder: Path) -> object:
        (folder / "config.json").write_text(train_config().model_dump_json())
        (folder / "teacher.ckpt").touch()
        (folder / name).write_bytes(content)
        return _teacher(str(folder / "teacher.ckpt"), DEPTH)

    return load


def _run_config(content: bytes, folder: Path) -> object:
    torch.save({"epoch": 1}, folder / "last.ckpt")
    (folder / "config.json").write_bytes(content)
    check_resumable(train_config(), folder)
    return None


def _images(name: str) -> Callable[[bytes, Path], object]:
    def load(content: bytes, folder: Path) -> object:
        (folder / name).write_bytes(content)
        where = folder if "/" not in name and not name.endswith(".mp4") else folder / name
        with open_recording(where) as recording:
            return recording.pictures({1_000_000_000})

    return load


def _in_messages(content: bytes, folder: Path) -> object:
    """A recording whose messages are the pickle."""
    with BagWriter(folder / "bag") as writer:
        for number, kind in enumerate(("Image", "CompressedImage", "CameraInfo")):
            writer.add_topic(f"/{number}", f"sensor_msgs/msg/{kind}")
            writer.write(f"/{number}", START, content)
    with Bag(folder / "bag") as bag:
        return [message.decode() for message in bag.messages()]


def _in_a_picture(content: bytes, folder: Path) -> object:
    message = jpeg_message(picture(0), START)
    message.data = np.frombuffer(content, np.uint8)
    with BagWriter(folder / "bag") as writer:
        writer.add_topic("/image", "sensor_msgs/msg/CompressedImage")
        writer.write("/image", START, message)
    with open_recording(folder / "bag") as recording:
        return recording.pictures({START})


def _continued(content: bytes, folder: Path) -> object:
    bundle = folder / "next"
    bundle.mkdir()
    (bundle / "model.json").write_bytes(content)
    return continued_from(train_config(start_from="nyu13-lite0"), str(bundle))


LOADERS: dict[str, Callable[[bytes, Path], object]] = {
    "model.onnx in ONNX Runtime": _load_in("onnxruntime", "model.onnx"),
    "model.onnx in OpenVINO": _load_in("openvino", "model.onnx"),
    "model.int8.onnx": _load_in("onnxruntime", "model.int8.onnx"),
    "weights.safetensors in torch": _load_in("torch", "weights.safetensors"),
    "weights to start from": _start_from,
    "model.json to go on from": _continued,
    "backbone weights, .pth": _backbone(".pth"),
    "backbone weights, .safetensors": _backbone(".safetensors"),
    "checkpoint that Lightning resumes": _resume,
    "checkpoint of a teacher": _of_a_teacher("teacher.ckpt"),
    "configuration of a teacher": _of_a_teacher("config.json"),
    "configuration of a run": _run_config,
    "image of a folder": _images("a.tiff"),
    "picture that is published as it is": _images("a.jpg"),
    "video": _images("a.mp4"),
    "messages of a recording": _in_messages,
    "picture in a message": _in_a_picture,
}
