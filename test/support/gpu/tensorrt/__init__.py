# SPDX-License-Identifier: Apache-2.0
"""The stand-in under the name of the real library, for processes that have it on their path."""

from __future__ import annotations

from gpu_stand_in import StandInCuda, stand_in_tensorrt

cuda = StandInCuda(room=1 << 28)
globals().update(vars(stand_in_tensorrt(cuda, (4, 192, 256))))
