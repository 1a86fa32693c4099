# SPDX-License-Identifier: Apache-2.0
"""Experiments about task prototypes: candidate retrievals on one distilled recipe."""
