# SPDX-License-Identifier: Apache-2.0
"""Playing a recording to the node over DDS and recording what comes back.

The place where ROS and recordings meet: a robot needs neither this nor ``data``.
"""
