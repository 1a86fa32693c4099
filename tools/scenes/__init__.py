# SPDX-License-Identifier: Apache-2.0
"""Rooms rendered with exact depth, normals and classes: the recording's, and random ones."""
