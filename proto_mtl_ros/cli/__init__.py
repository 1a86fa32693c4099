# SPDX-License-Identifier: Apache-2.0
"""The command line: `main` dispatches, one thin file per command."""
