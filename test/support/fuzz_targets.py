# SPDX-License-Identifier: Apache-2.0
"""What reads files that anybody may have written, each as a function of bytes.

A target gets a folder of its own and the bytes of one file. It may return or raise a
``ProtoMtlError`` of one line; anything else is a finding. Seeds lie in ``corpus/<target>``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from proto_mtl_ros.data.bags.bag import Bag, is_bag
from proto_mtl_ros.data.bags.message_types import decode
from proto_mtl_ros.data.bags.pictures import decode_depth, decode_picture
from proto_mtl_ros.data.camera_file import read_camera
from proto_mtl_ros.data.drawn.masks import read_masks
from proto_mtl_ros.data.joined import JoinConfig
from proto_mtl_ros.data.label_set import read_label_set
from proto_mtl_ros.data.manifest import read_manifest
from proto_mtl_ros.data.map_file import read_array, read_depth, read_image, read_segmentation
from proto_mtl_ros.data.table import read_splits
from proto_mtl_ros.encodings import decode_compressed, decode_compressed_depth, to_depth, to_rgb
from proto_mtl_ros.errors import BundleError, ConfigError, EngineError, ProtoMtlError
from proto_mtl_ros.files.tensors import read_safetensors, read_torch
from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine_cache import EngineCache, EngineKey
from proto_mtl_ros.runtime.onnx_check import check_graph
from proto_mtl_ros.tasks import NYU13
from proto_mtl_ros.training.config import TrainConfig

CORPUS = Path(__file__).parent / "corpus"
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
MOST_MESSAGES = 200

_refused: list[str] = []


@contextmanager
def _refusal() -> Iterator[None]:
    """Let what follows be refused by one line, and note the line."""
    try:
        yield
    except ProtoMtlError as error:
        line = str(error)
        assert line and "\n" not in line and len(line) < 2000, line[:3000]
        _refused.append(line)


def _manifest(content: bytes, folder: Path) -> None:
    """model.json of a bundle; its file is there and has the right sum, so it is read to its end."""
    (folder / "model.onnx").write_bytes(_seed("graph", "tiny.onnx"))
    (folder / "model.json").write_bytes(content)
    bundle = Bundle.load(folder)
    with _refusal():
        _ = bundle.onnx_path
    _ = bundle.palette, bundle.has_int8, bundle.name, bundle.manifest.to_json()


def _graph(content: bytes, folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(content)
    check_graph(path)


def _bundle_files(content: bytes, folder: Path) -> None:
    """A bundle whose model.json is right about damaged files."""
    files = {"model.onnx": content, "weights.safetensors": content}
    stated = json.loads(_seed("manifest", "tiny.json"))
    stated["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "model.json").write_text(json.dumps(stated))
    bundle = Bundle.load(folder)
    with _refusal():
        _ = bundle.onnx_path
    read_safetensors(bundle.weights_path, BundleError, "export the model again")


def _read_bag(path: Path) -> None:
    assert is_bag(path)
    with Bag(path) as bag:
        _ = bag.topics, bag.duration, bag.notes
        for number, message in enumerate(bag.messages()):
            if number >= MOST_MESSAGES:
                break
            with _refusal():
                _ = message.stamp
            with _refusal():
                message.decode()
            if message.type in (IMAGE, COMPRESSED):
                with _refusal():
                    decode_picture(message)
                with _refusal():
                    decode_depth(message)


def _mcap(content: bytes, folder: Path) -> None:
    (folder / "bag.mcap").write_bytes(content)
    _read_bag(folder / "bag.mcap")


def _mcap_cut(content: bytes, folder: Path) -> None:
    """The same without its end: what is whole of it is recovered."""
    magic = b"\x89MCAP0\r\n"
    (folder / "bag.mcap").write_bytes(magic + content.removeprefix(magic).removesuffix(magic))
    _read_bag(folder / "bag.mcap")


def _sqlite(content: bytes, folder: Path) -> None:
    (folder / "bag.db3").write_bytes(content)
    _read_bag(folder / "bag.db3")


def _ros1(content: bytes, folder: Path) -> None:
    (folder / "bag.bag").write_bytes(content)
    _read_bag(folder / "bag.bag")


def _metadata(content: bytes, folder: Path) -> None:
    (folder / "bag.mcap").write_bytes(_seed("mcap", "tiny.mcap"))
    (folder / "metadata.yaml").write_bytes(content)
    _read_bag(folder)


def _message(content: bytes, folder: Path) -> None:
    """A serialised message; the first byte chooses its type."""
    kinds = (IMAGE, COMPRESSED, "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage")
    if not content:
        return
    kind = kinds[content[0] % len(kinds)]
    message = decode(kind, content[1:])
    if kind == IMAGE:
        stored = (message.encoding, message.height, message.width, message.step)
        for convert in (to_rgb, to_depth):
            with _refusal():
                convert(*stored, bool(message.is_bigendian), message.data)


def _picture(content: bytes, folder: Path) -> None:
    path = folder / "picture.png"
    path.write_bytes(content)
    for read in (read_image, read_depth, lambda where: read_segmentation(where, NYU13)):
        with _refusal():
            read(path)
    for read_message in (
        lambda: decode_compressed("jpeg", content),
        lambda: decode_compressed_depth("16UC1; compressedDepth png", content),
        lambda: decode_compressed_depth("32FC1; compressedDepth", content),
        lambda: decode_compressed_depth("16UC1; compressedDepth rvl", content),
    ):
        with _refusal():
            read_message()


def _array(content: bytes, folder: Path) -> None:
    path = folder / "array.npy"
    path.write_bytes(content)
    np.asarray(read_array(path))


def _masks(content: bytes, folder: Path) -> None:
    """JSON and XML of labelling tools; what can be read is drawn."""
    for where in (folder / "1700000000000000000.json", folder / "a.xml"):
        where.write_bytes(content)
        with _refusal():
            for mask in read_masks(where).masks.values():
                mask()


def _table(content: bytes, folder: Path) -> None:
    path = folder / "table.csv"
    path.write_bytes(content)
    for read in (read_manifest, read_splits):
        with _refusal():
            read(path)


def _config(content: bytes, folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_bytes(content)
    for read in (TrainConfig.read, JoinConfig.read):
        with _refusal():
            read(path)


def _camera_and_classes(content: bytes, folder: Path) -> None:
    for name in ("camera.json", "classes.json"):
        (folder / name).write_bytes(content)
    with _refusal():
        read_camera(folder / "camera.json")
    read_label_set(folder)


def _checkpoint(content: bytes, folder: Path) -> None:
    path = folder / "last.ckpt"
    path.write_bytes(content)
    read_torch(path, ConfigError, "train again")


KEY = EngineKey("tiny", "a" * 64, "tensorrt 10.3.0", "Orin", "8.7", "fp16", "1x96x128")


def _sidecar(content: bytes, folder: Path) -> None:
    cache = EngineCache(folder / "cache")
    cache.store(KEY, b"engine").with_suffix(".json").write_bytes(content)
    cache.why_missing(KEY)
    if cache.find(KEY) is None:
        raise EngineError("the engine is not taken: build it again")


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "manifest": _manifest,
    "graph": _graph,
    "bundle_files": _bundle_files,
    "mcap": _mcap,
    "mcap_cut": _mcap_cut,
    "sqlite": _sqlite,
    "ros1": _ros1,
    "metadata": _metadata,
    "message": _message,
    "picture": _picture,
    "array": _array,
    "masks": _masks,
    "table": _table,
    "config": _config,
    "camera_and_classes": _camera_and_classes,
    "checkpoint": _checkpoint,
    "sidecar": _sidecar,
}


def refused_by(target: str, content: bytes, folder: Path) -> list[str]:
    """Run a target; return the lines with which its readers have refused the content.

    Raises:
        Exception: a finding.
    """
    _refused.clear()
    with _refusal():
        TARGETS[target](content, folder)
    return [line.replace(str(folder), "") for line in _refused]


@lru_cache(maxsize=16)
def _seed(target: str, name: str) -> bytes:
    return (CORPUS / target / name).read_bytes()


cv2.setNumThreads(1)
