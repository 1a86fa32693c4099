# SPDX-License-Identifier: Apache-2.0
"""Training: losses, the Lightning loop, and the export of a bundle."""
