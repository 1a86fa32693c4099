# SPDX-License-Identifier: Apache-2.0
"""How fast it is: engines alone, the node end to end, one network against three.

A machine is never quiet, so what is compared runs in one go, a few frames each in turn.
"""
