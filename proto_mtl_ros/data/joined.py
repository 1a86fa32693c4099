# SPDX-License-Identifier: Apache-2.0
"""Several data sets as one: frames of all, each with the labels it has, in one label set.

The YAML file that the kind ``joined`` opens lists them:

    label_set: nyu13            # a name, a list of classes, or left out: that of the first source
    sources:
      - {name: nyu, kind: nyuv2, root: ../nyuv2, manifest: ../nyuv2/manifests/one_label.csv}
      - name: office
        kind: folder
        root: office
        class_map: {desk: table, monitor: tv}
        options: {derive_normals: true}

Paths are relative to the file. Frame ids are ``<name>/<frame id>``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from proto_mtl_ros.data.label_set import LABEL_SETS, NO_CLASSES, named_label_set
from proto_mtl_ros.data.registry import data_set, open_source
from proto_mtl_ros.data.sample import ClassMapped, DataSet, FrameSource, Sample, notes_of
from proto_mtl_ros.data.table import NoSplitError
from proto_mtl_ros.errors import DataError, one_line
from proto_mtl_ros.files import read_yaml
from proto_mtl_ros.tasks import LabelSet, known_tasks


class SourceConfig(BaseModel):
    """One data set of several: ``name`` is the prefix of its frame ids, ``split`` maps the split
    that is asked for to its own name for it, ``class_map`` its classes to those of the common label
    set.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    kind: str
    root: Path
    split: dict[str, str] | None = None
    manifest: Path | None = None
    class_map: dict[str, str] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    repeat: int = Field(1, ge=1)


class JoinConfig(BaseModel):
    """Several data sets and the label set that they share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    label_set: str | tuple[str, ...] | None = None

    @classmethod
    def read(cls, path: Path) -> JoinConfig:
        """Read a YAML file; relative paths in it are relative to where it lies."""
        try:
            config = cls.model_validate(read_yaml(path, DataError))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(f"{path}: {key}: {one_line(first['msg'])}") from None
        names = [source.name for source in config.sources]
        if len(set(names)) != len(names):
            raise DataError(f"{path}: two sources have one name; every source needs its own")
        if any(source.kind == "joined" for source in config.sources):
            raise DataError(f"{path} joins what is joined: list its sources here")
        here = path.parent
        changes = [
            {"root": here / source.root, "manifest": source.manifest and here / source.manifest}
            for source in config.sources
        ]
        sources = tuple(s.model_copy(update=u) for s, u in zip(config.sources, changes))
        return config.model_copy(update={"sources": sources})

    def common_label_set(self) -> LabelSet | None:
        """Return the label set that is stated, None when none is."""
        if self.label_set is None:
            return None
        if isinstance(self.label_set, str):
            if self.label_set not in LABEL_SETS:
                raise DataError(
                    f"unknown label set {self.label_set!r}; name one of {', '.join(LABEL_SETS)} "
                    "or list the classes"
                )
            return LABEL_SETS[self.label_set]
        return named_label_set("joined", self.label_set, None, "label_set")


class Joined(DataSet):
    """Several sources one behind the other; frame ids become ``<name>/<frame id>``.

    Without ``label_set`` it is that of the first source with segmentation. A source without a class
    map must have the same classes. The manifest counts beside those of the sources; ``repeats`` are
    how often a training sees a source's frames in one pass.
    """

    def __init__(
        self,
        sources: Mapping[str, FrameSource],
        label_set: LabelSet | None = None,
        class_maps: Mapping[str, Mapping[str, str] | None] | None = None,
        manifest: Path | str | None = None,
        frame_ids: Sequence[str] | None = None,
        repeats: Mapping[str, int] | None = None,
    ) -> None:
        self._repeats = repeats or {}
        if not sources:
            raise DataError("nothing to join: give at least one source")
        maps = class_maps or {}
        with_classes = [s.label_set for s in sources.values() if "segmentation" in s.tasks]
        self.label_set = label_set or (with_classes[0] if with_classes else NO_CLASSES)
        self._sources = {
            name: ClassMapped(source, self.label_set, maps.get(name))
            for name, source in sources.items()
        }
        every = [
            f"{name}/{frame_id}"
            for name, source in self._sources.items()
            for frame_id in source.frame_ids
        ]
        self.choose(every, frame_ids, manifest, "the joined data set")
        self._place = {frame_id: place for place, frame_id in enumerate(every)}
        self._starts = [0, *accumulate(len(source) for source in self._sources.values())]
        there = [task for source in self._sources.values() for task in source.tasks]
        self.tasks = tuple(t for t in dict.fromkeys((*known_tasks(), *there)) if t in there)
        self.notes = tuple(
            f"{name}: {note}" for name, s in self._sources.items() for note in notes_of(s)
        )

    def repeats(self, frame_id: str) -> int:
        """Return how often a training sees a frame in one pass."""
        return self._repeats.get(frame_id.partition("/")[0], 1)

    def labelled(self, frame_id: str, may: Collection[str]) -> Collection[str]:
        name, _, own_id = frame_id.partition("/")
        return set(may) & set(self._sources[name].has(own_id))

    def __getitem__(self, index: int) -> Sample:
        frame_id = self.frame_ids[index]
        name = frame_id.partition("/")[0]
        start = self._starts[list(self._sources).index(name)]
        sample = self._sources[name][self._place[frame_id] - start]
        may = self.has(frame_id)
        labels = {task: label for task, label in sample.labels.items() if task in may}
        return Sample(frame_id, sample.rgb, sample.camera, labels)


@data_set("joined", looks_like=lambda root: root.suffix in (".yaml", ".yml"))
def open_joined(
    root: Path | str,
    split: str,
    manifest: Path | str | None = None,
    frame_ids: Sequence[str] | None = None,
) -> FrameSource:
    """Open the data sets that a YAML file lists as one."""
    config = JoinConfig.read(Path(root))
    sources: dict[str, FrameSource] = {}
    for entry in config.sources:
        own = (entry.split or {}).get(split, split)
        try:
            sources[entry.name] = open_source(
                entry.kind, entry.root, own, manifest=entry.manifest, options=entry.options
            )
        except NoSplitError:  # a set without a val split, say, adds nothing to it
            continue
    if not sources:
        raise NoSplitError(f"{root}: none of its sources has a split {split!r}")
    class_maps = {entry.name: entry.class_map for entry in config.sources}
    repeats = {entry.name: entry.repeat for entry in config.sources}
    return Joined(sources, config.common_label_set(), class_maps, manifest, frame_ids, repeats)
