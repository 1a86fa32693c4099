# SPDX-License-Identifier: Apache-2.0
"""`proto-mtl predict`: classes, depth and normals of images, videos and recordings, as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import proto_mtl_ros
from proto_mtl_ros.cli import comma_list
from proto_mtl_ros.cli.engine_options import SHIPPED_MODEL, Model
from proto_mtl_ros.cli.terminal import echo
from proto_mtl_ros.errors import ConfigError


def command(
    source: Annotated[
        Path, typer.Argument(help="An image, a folder of images, a video, or a recording.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    model: Model = SHIPPED_MODEL,
    save: Annotated[
        str, typer.Option(help="What to write, with commas between.")
    ] = "ids,depth,normals,overlay",
    hfov: Annotated[
        float | None, typer.Option(help="Degrees that the longer side of an image sees.")
    ] = None,
    camera: Annotated[
        Path | None, typer.Option(help="Camera as JSON, in place of the recording's CameraInfo.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the classes while it runs.")] = False,
) -> None:
    """Write what a model sees: class ids, depth, normals, classes over the image, and a sheet.

    No ROS is needed. Where no camera is known, depth has no metric scale. Depth is 16 bits of
    millimetres, normals are (n + 1) / 2 * 255, the id 255 is unlabelled.
    """
    from proto_mtl_ros.data.camera_file import read_camera
    from proto_mtl_ros.evaluation.predict import SAVED, Frames, predict

    wanted = comma_list.parts(save)
    if not wanted or set(wanted) - set(SAVED):
        raise ConfigError(f"--save {save!r}: there are {', '.join(SAVED)}")
    if hfov is not None and camera is not None:
        raise ConfigError("--hfov and --camera exclude each other")
    frames = Frames(source, None if camera is None else read_camera(camera), hfov)
    window = _window() if show else None
    predictor = proto_mtl_ros.load(model)
    with typer.progressbar(length=frames.count, label=f"{source.name} to {out.name}") as bar:
        number, metric = predict(predictor, frames, out, wanted, window, bar.update)
    if frames.damaged:
        echo(f"note: {len(frames.damaged)} images are left out: {frames.damaged[0]}")
    if not metric:
        echo("note: no camera is known, so depth has no metric scale: --hfov or --camera")
    echo(f"{out}: {number} images, {', '.join(wanted)}; look at {out / 'contact_sheet.png'}")


def _window() -> Callable[[np.ndarray], None]:
    """Open a window; return what shows an image, uint8 [H, W, 3], in it. OpenCV's is not in the
    build without a display, which robots have.
    """
    try:
        import tkinter

        root = tkinter.Tk()
    except Exception as error:  # its own kind of error, which is there only with the library
        raise ConfigError(f"--show needs a display and python3-tk ({error})") from None
    root.title("proto-mtl predict")
    label = tkinter.Label(root)
    label.pack()

    def show(rgb: np.ndarray) -> None:
        height, width = rgb.shape[:2]
        picture = tkinter.PhotoImage(data=b"P6 %d %d 255 " % (width, height) + rgb.tobytes())
        label.configure(image=picture)
        label.image = picture  # type: ignore[attr-defined] # else it is collected
        root.update()

    return show
