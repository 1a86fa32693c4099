# SPDX-License-Identifier: Apache-2.0
"""Masks as labelling tools write them."""
