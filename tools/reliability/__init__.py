# SPDX-License-Identifier: Apache-2.0
"""What was done to make it fail, on one page."""
