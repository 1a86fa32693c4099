# SPDX-License-Identifier: Apache-2.0
"""What measures and checks the product; not installed."""
