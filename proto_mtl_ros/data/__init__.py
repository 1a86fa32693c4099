# SPDX-License-Identifier: Apache-2.0
"""Recordings, samples and data sets. Never imports ROS."""
