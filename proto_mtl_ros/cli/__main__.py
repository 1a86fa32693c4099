# SPDX-License-Identifier: Apache-2.0
"""`python -m proto_mtl_ros.cli`, for machines where `proto-mtl` is not on the path."""

from proto_mtl_ros.own_path import leave_current_folder

leave_current_folder()  # before anything else is imported

from proto_mtl_ros.cli.main import main  # noqa: E402

main()
