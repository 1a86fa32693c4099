# SPDX-License-Identifier: Apache-2.0
"""The options that name topics of a recording."""

from __future__ import annotations

from typing import Annotated

import typer

ImageTopic = Annotated[str | None, typer.Option(help="Colour images; guessed when not given.")]
InfoTopic = Annotated[str | None, typer.Option(help="Their CameraInfo; guessed.")]
DepthTopic = Annotated[str | None, typer.Option(help="Measured depth to compare; guessed.")]
