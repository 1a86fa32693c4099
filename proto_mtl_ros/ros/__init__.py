# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 node: parameters, topics, QoS, message conversion, diagnostics."""
