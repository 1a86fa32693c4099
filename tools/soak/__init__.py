# SPDX-License-Identifier: Apache-2.0
"""The node for hours, with faults, and what came of it."""
