# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics can say is wrong, how bad it is, and what to do: one table.

Run `python -m tools.interface_pages` after a change.
"""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, ERROR, STALE = b"\x00", b"\x01", b"\x02", b"\x03"
"""Levels of diagnostic_msgs/DiagnosticStatus, here so that documents are made without ROS."""


@dataclass(frozen=True)
class Diagnostic:
    """A row of the table."""

    cause: str  # which messages begin with and counters are called by
    meaning: str  # when it is said
    action: str  # what to do, at the end of the message
    level: bytes = WARN


_TRANSPORT = "check the driver and the network"
_ONE_CAMERA = "nothing if that was meant; if it goes on, let one node alone publish the images"
_CLOCKS = "synchronise the clocks (NTP, PTP); for a recording set use_sim_time"
_NETWORK = "if it goes on: ~/reload_model, or another precision or backend"

CAMERA: tuple[Diagnostic, ...] = (
    Diagnostic(
        "no_image",
        "no image for `input_timeout` seconds; STALE after five times as long, when what else the "
        "status says is old",
        "start or restart the camera's driver, or remap image to its topic",
    ),
    Diagnostic(
        "no_results",
        "images come, and for five seconds none gave a result",
        "mend what it names; where that is overwritten, the engine hangs: see the log",
        ERROR,
    ),
    Diagnostic(
        "too_slow",
        "fewer than half of the images give results (until 60 % do again), as newer ones come "
        "before the engine is free",
        "set max_rate to a rate that is kept, or choose a smaller input_size or a faster backend",
    ),
    Diagnostic(
        "few_results",
        "fewer than half of the images give results (until 60 % do again) for another reason",
        "mend what it names",
    ),
    Diagnostic(
        "engine_error",
        "the network failed on an image, or publishing its results did",
        "~/reload_model, or another backend",
        ERROR,
    ),
    Diagnostic(
        "incompatible_qos",
        "a peer's QoS does not match that of the topic, nothing is exchanged with it",
        "change it there or with qos_overrides",
    ),
)

IMAGES: tuple[Diagnostic, ...] = (
    Diagnostic("zero_size", "height, width or data is 0", "restart the camera's driver"),
    Diagnostic(
        "short_data", "fewer bytes than height * step", "check the driver, or a relay: it cuts them"
    ),
    Diagnostic("bad_step", "step is less than a row takes", "the driver fills it wrongly: mend it"),
    Diagnostic(
        "bad_width",
        "an odd width of a 4:2:2 image, or a mosaic below 3x3",
        "set another size or encoding in the driver",
    ),
    Diagnostic(
        "unknown_encoding",
        "an encoding, or compressed data, that is not known",
        "set rgb8 or bgr8 (jpeg or png) in the driver, or install cv_bridge",
    ),
    Diagnostic(
        "wrong_kind",
        "depth or something else that is no image of a camera",
        "remap image to the colour image",
    ),
    Diagnostic(
        "too_large",
        "more pixels than `max_pixels`",
        "set a smaller size in the driver, or raise max_pixels",
    ),
    *(
        Diagnostic(f"bad_{kind.lower()}", f"a {kind} that is cut off or damaged", _TRANSPORT)
        for kind in ("JPEG", "PNG")
    ),
)

INFO: tuple[Diagnostic, ...] = (
    Diagnostic(
        "camera_info_missing",
        "images come without a camera_info",
        "publish camera_info, or remap it to the driver's",
    ),
    Diagnostic(
        "camera_info_uncalibrated",
        "K[0] is 0",
        "calibrate the camera, or give its calibration file to the driver",
    ),
    Diagnostic("bad_camera_info", "its numbers are no camera", "mend the calibration file"),
    Diagnostic(
        "camera_info_size",
        "it is for images of another shape, and is not used",
        "publish the camera_info of this image",
    ),
    Diagnostic(
        "camera_info_scaled",
        "it is for images of another size but the same shape, and is scaled",
        "right if the driver scales its images; publish their own camera_info to be sure",
    ),
    Diagnostic(
        "camera_info_contradictory",
        "several calibrations take turns; the newest counts",
        "let one node alone publish the camera_info of this camera",
    ),
    *(
        Diagnostic(f"{what}_changed", f"the images have another {of} than before", _ONE_CAMERA)
        for what, of in (("resolution", "size"), ("encoding", "encoding"))
    ),
    Diagnostic(
        "frame_id_empty",
        "images have no frame_id, so no transform is found for the results",
        "let the driver set header.frame_id, to the camera's optical frame",
    ),
    Diagnostic(
        "stamp_zero",
        "images have the stamp 0, so no transform is found for the results",
        "let the driver set header.stamp",
    ),
    *(
        Diagnostic(f"stamp_{when}", f"stamps are more than 5 s {where} the node's clock", _CLOCKS)
        for when, where in (("past", "behind"), ("future", "ahead of"))
    ),
    Diagnostic(
        "stamp_backwards",
        "an image is older than the one before it",
        "let one node alone publish the images; in a looped recording it is the loop",
    ),
    *(
        Diagnostic(f"invalid_{name}", f"the network gave {what}; published as invalid", _NETWORK)
        for name, what in (
            ("depth", "depth that is NaN or infinite"),
            ("normals", "normals that are NaN or infinite"),
            ("class", "ids of no class"),
        )
    ),
)

NODE: tuple[Diagnostic, ...] = (
    Diagnostic(
        "name_clash",
        "another node has the same name, so services and parameters reach either",
        "end one of them, or start it with -r __node:=another_name; one that was killed is off "
        "the list after 20 s",
    ),
)

DIAGNOSTICS: dict[str, Diagnostic] = {row.cause: row for row in (*CAMERA, *IMAGES, *INFO, *NODE)}


def row_of(cause: str) -> Diagnostic:
    """The table's row; of an unknown map, or of a converter that is not ours, one made for it."""
    action = _NETWORK if cause.startswith("invalid_") else "see the log, and the camera's driver"
    return DIAGNOSTICS.get(cause) or Diagnostic(cause, "", action)
