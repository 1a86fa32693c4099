# SPDX-License-Identifier: Apache-2.0
"""The furnished room behind ``recordings/room``."""
