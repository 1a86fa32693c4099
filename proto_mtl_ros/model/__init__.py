# SPDX-License-Identifier: Apache-2.0
"""The multi-task network. Pure torch: no files are read or written except pretrained weights."""

from proto_mtl_ros.model.network import ProtoMTL, build_from_manifest, build_network

__all__ = ["ProtoMTL", "build_from_manifest", "build_network"]
