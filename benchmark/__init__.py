# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: methods x label manifests x seeds from a protocol file, resumable at any point."""
