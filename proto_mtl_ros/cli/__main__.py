# SPDX-License-Identifier: Apache-2.0
"""`python -m proto_mtl_ros.cli`, for machines where `proto-mtl` is not on the path."""

from proto_mtl_ros.cli.main import main

main()
