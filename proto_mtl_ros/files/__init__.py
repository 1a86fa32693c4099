# SPDX-License-Identifier: Apache-2.0
"""Files that anybody may have written are read within limits; what is written appears whole."""

from proto_mtl_ros.files.folders import NewFolder, ScratchFolder, remove_leftovers, replace_folder
from proto_mtl_ros.files.locks import FolderInUse, lock, sole_use
from proto_mtl_ros.files.reading import (
    MAX_DEPTH,
    MAX_JSON,
    MAX_TABLE,
    MAX_YAML,
    Refusal,
    check_inside,
    open_regular,
    parse_json,
    parse_yaml,
    read_bytes,
    read_json,
    read_text,
    read_yaml,
)
from proto_mtl_ros.files.writing import named, write_bytes, write_json_part, write_text
