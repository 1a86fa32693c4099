# SPDX-License-Identifier: Apache-2.0
"""Recordings: rosbag2, ROS 1 bags, videos, folders of images."""
