# SPDX-License-Identifier: Apache-2.0
"""A pickle that acts when it is loaded, in every place where a file can go: it never acts, and
what was asked for ends with one clear line."""

from __future__ import annotations

import ast
import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from fuzz_targets import KEY
from nyuv2_pack import write_pack
from sources import write_by_hand
from tiny_bundle import write_tiny_bundle

from recordings import START, write_recording

torch = pytest.importorskip("torch", reason="checkpoints need torch")
pytest.importorskip("lightning", reason="training needs lightning")

from pickle_traps import FORMS, LOADERS, as_array, as_arrays, as_pickle  # noqa: E402
from small_training import CONFIG  # noqa: E402

import proto_mtl_ros  # noqa: E402
from proto_mtl_ros.cli.main import run_command  # noqa: E402
from proto_mtl_ros.errors import ProtoMtlError  # noqa: E402
from proto_mtl_ros.runtime.engine_cache import EngineCache  # noqa: E402

pytestmark = pytest.mark.tries(
    "parsers", "a pickle that acts when it is loaded, in every place where a file can go",
    seen="one line that names the file; nothing is ever unpickled",
)  # fmt: skip


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "sprung"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.control
def test_the_trap_works_where_pickles_are_loaded(
    form: Callable[[Path], bytes], marker: Path
) -> None:
    content = io.BytesIO(form(marker))
    if form in (as_array, as_arrays):
        loaded = np.load(content, allow_pickle=True)
        _ = loaded["arr_0"] if form is as_arrays else loaded
    elif form is as_pickle:
        pickle.load(content)
    else:
        torch.load(content, weights_only=False)
    assert marker.exists()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything that a command reads, whole."""
    root = tmp_path_factory.mktemp("originals")
    write_pack(root / "pack", train=8, val=1)
    write_by_hand(root / "hand")
    shutil.rmtree(root / "hand" / "normals")
    (root / "hand" / "splits.csv").write_text("frame_id,split\na,train\nb,train\nc,train\n")
    (root / "hand" / "manifest.csv").write_text(
        "frame_id,segmentation,depth,normals\na,1,1,1\nb,1,1,1\nc,1,1,1\n"
    )
    write_tiny_bundle(root)
    write_recording(root / "bag", 2)
    (root / "masks").mkdir()
    shape = {"label": "floor", "points": [[0, 0], [9, 0], [9, 9]]}
    drawn = {"imageWidth": 160, "imageHeight": 120, "shapes": [shape]}
    (root / "masks" / f"{START}.json").write_text(json.dumps(drawn))
    (root / "train.yaml").write_text(yaml.safe_dump(CONFIG))
    (root / "joined.yaml").write_text("sources: [{name: a, kind: folder, root: hand}]\n")
    (root / "extrinsics.yaml").write_text("translation: [0, 0, 0]\n")
    (root / "figures").mkdir()
    (root / "figures" / "engine.json").write_text("{}")
    (root / "run").mkdir()
    return root


REPORT = ["dataset", "report", "--split", "train"]
BY_HAND = [*REPORT, "hand", "--kind", "folder"]
EVALUATE = ["evaluate", "--data", "pack", "--model", "tiny", "--split", "val"]
BAG = ["bag", "evaluate", "bag", "--model", "tiny", "--out", "out", "--backend", "onnxruntime"]
MASKS = ["dataset", "convert", "bag", "--out", "out", "--option", "masks=masks"]
TRAIN = ["train", "--config", "train.yaml", "--data", "pack", "--out", "run"]
EXPORT = ["export", "--config", "train.yaml", "--data", "pack", "--out", "made"]
DRAW = ["dataset", "manifest", "hand", "--kind", "folder", "--split", "train", "--out", "m"]

PLACES: dict[str, list[str]] = {
    "pack/splits.csv": EVALUATE,
    "pack/rgb/0009.jpg": EVALUATE,
    "pack/depth/0009.png": EVALUATE,
    "pack/label13/0009.png": EVALUATE,
    "pack/normal/0009.webp": EVALUATE,
    "tiny/model.json": EVALUATE,
    "hand/images/a.png": BY_HAND,
    "hand/depth/a.png": BY_HAND,
    "hand/depth/b.npy": BY_HAND,
    "hand/segmentation/b.png": BY_HAND,
    "hand/normals/c.npy": BY_HAND,
    "hand/normals/c.webp": BY_HAND,
    "hand/depth/c.tiff": BY_HAND,
    "hand/classes.txt": DRAW,
    "hand/classes.json": BY_HAND,
    "hand/camera.json": BY_HAND,
    "hand/cameras/a.json": BY_HAND,
    "hand/splits.csv": BY_HAND,
    "hand/manifest.csv": BY_HAND,
    "own.csv": [*BY_HAND, "--manifest", "own.csv"],
    "joined.yaml": [*REPORT, "joined.yaml", "--kind", "joined"],
    "bag/metadata.yaml": BAG,
    "bag/bag.mcap": BAG,
    "one.mcap": ["bag", "info", "one.mcap"],
    "one.db3": ["bag", "info", "one.db3"],
    "one.bag": ["bag", "info", "one.bag"],
    "extrinsics.yaml": [*BAG, "--extrinsics", "extrinsics.yaml"],
    "out/frames.jsonl": BAG,
    f"masks/{START}.json": MASKS,
    "masks/classes.json": MASKS,
    "coco.json": [*MASKS[:-1], "coco.json"],
    "out/selection.json": MASKS[:-2],
    "train.yaml": TRAIN,
    "run/last.ckpt": TRAIN,
    "old.ckpt": [*EXPORT, "--checkpoint", "old.ckpt"],
}
"""File that is replaced -> the command that reads it."""


@pytest.mark.parametrize("place", PLACES)
def test_no_command_loads_a_pickle(
    place: str,
    originals: Path,
    tmp_path: Path,
    marker: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # the environment can change torch's default, and must not change what is done here
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    root = tmp_path / "everything"
    shutil.copytree(originals, root)
    monkeypatch.chdir(root)
    path = root / place
    path.parent.mkdir(exist_ok=True)
    if place == "out/selection.json":
        path = root / "out" / ".selection.json"
    for form in FORMS:
        path.write_bytes(form(marker))
        with pytest.raises(SystemExit) as end:
            run_command(PLACES[place][0], PLACES[place][1:])
        said = capfd.readouterr().err.strip().splitlines()
        assert end.value.code in (2, 3), (form.__name__, said)
        lines = [line for line in said if line.startswith("proto-mtl")]
        assert len(lines) == 1 and len(lines[0]) < 1000, (form.__name__, said)
        assert "Traceback" not in "".join(said)
        assert not marker.exists()


@pytest.mark.parametrize("place", LOADERS)
@pytest.mark.parametrize("form", FORMS)
def test_no_loader_loads_a_pickle(
    place: str,
    form: Callable[[Path], bytes],
    tmp_path: Path,
    marker: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    folder = tmp_path / "place"
    folder.mkdir()
    try:
        assert LOADERS[place](form(marker), folder) == {}  # an image that is passed over
    except ProtoMtlError as refused:
        assert str(refused) and "\n" not in str(refused) and len(str(refused)) < 1000
    assert not marker.exists()


@pytest.mark.parametrize("form", FORMS)
def test_the_engine_cache_loads_no_pickle(
    form: Callable[[Path], bytes], tmp_path: Path, marker: Path
) -> None:
    cache = EngineCache(tmp_path / "cache")
    path = cache.store(KEY, b"engine")
    path.write_bytes(form(marker))
    assert cache.find(KEY) is None and "damaged" in cache.why_missing(KEY)
    cache.store(KEY, b"engine").with_suffix(".json").write_bytes(form(marker))
    assert cache.find(KEY) is None
    assert not marker.exists()


READERS = {"torch.load", "np.load", "numpy.load", "np.genfromtxt", "cv2.imread"}
READERS |= {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}
PICKLERS = {"pickle", "dill", "marshal", "shelve", "joblib"}
ALLOWED = {
    ("reading.py", "yaml.load"),
    ("storage.py", "yaml.load"),
    ("tensors.py", "torch.load"),
}
"""The lines that may: two loaders of plain values, and weights_only=True."""


def test_no_other_line_reads_what_could_act() -> None:
    """A reader that is added tomorrow has to go through the same doors."""
    package = Path(proto_mtl_ros.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {name.name.split(".")[0] for name in node.names}
                module = getattr(node, "module", None) or ""
                assert not PICKLERS & {*names, module}, path
            if isinstance(node, ast.Call) and (reader := ast.unparse(node.func)) in READERS:
                found.add((path.name, reader))
                assert reader != "torch.load" or "weights_only=True" in ast.unparse(node)
    # a picture that the bench makes a load of is the user's own
    assert found - {("cameras.py", "cv2.imread")} == ALLOWED
