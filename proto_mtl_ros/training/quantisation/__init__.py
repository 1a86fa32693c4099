# SPDX-License-Identifier: Apache-2.0
"""From a bundle's fp32 graph to an int8 one: calibration, quantisation, and the check of its loss.

Needed on the machine that exports, never on a robot.
"""
