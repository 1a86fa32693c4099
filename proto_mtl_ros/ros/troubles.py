# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics can say is wrong, how bad it is, and what to do: one table.

`python -m proto_mtl_ros.ros.troubles` prints docs/diagnostics.md; a test holds the file equal to
it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from proto_mtl_ros.ros.health import (
    CALM,
    ERROR,
    HOLD,
    LONGEST_HOLD,
    OK,
    STALE,
    WARN,
    Health,
)

LEVEL_NAMES = {OK: "OK", WARN: "WARN", ERROR: "ERROR", STALE: "STALE"}


@dataclass(frozen=True)
class Trouble:
    """A row of the table.

    cause: short name, which messages begin with and counters are called by.
    level: of the status while it lasts.
    meaning: when it is said.
    action: what to do, said at the end of the message.
    """

    cause: str
    level: bytes
    meaning: str
    action: str


CAMERA: tuple[Trouble, ...] = (
    Trouble(
        "no_image",
        WARN,
        "no image for `input_timeout` seconds; STALE after five times as long, when what else the "
        "status says is old",
        "start or restart the camera's driver, or remap image to its topic",
    ),
    Trouble(
        "no_results",
        ERROR,
        "images come, and for five seconds none gave a result",
        "mend what it names; where that is overwritten, the engine hangs: see the log",
    ),
    Trouble(
        "too_slow",
        WARN,
        "fewer than half of the images give results (until 60 % do again), as newer ones come "
        "before the engine is free",
        "set max_rate to a rate that is kept, or choose a smaller input_size or a faster backend",
    ),
    Trouble(
        "few_results",
        WARN,
        "fewer than half of the images give results (until 60 % do again) for another reason",
        "mend what it names",
    ),
    Trouble(
        "engine_error",
        ERROR,
        "the network failed on an image, or publishing its results did",
        "~/reload_model, or another backend",
    ),
    Trouble(
        "incompatible_qos",
        WARN,
        "a peer's QoS does not match that of the topic, nothing is exchanged with it",
        "change it there or with qos_overrides",
    ),
)

IMAGES: tuple[Trouble, ...] = (
    Trouble("zero_size", WARN, "height, width or data is 0", "restart the camera's driver"),
    Trouble(
        "short_data",
        WARN,
        "fewer bytes than height * step",
        "the driver or a relay cuts messages: check it",
    ),
    Trouble(
        "bad_step",
        WARN,
        "step is less than a row takes",
        "the driver fills step or width wrongly: mend it",
    ),
    Trouble(
        "bad_width",
        WARN,
        "an odd width of a 4:2:2 image, or a mosaic below 3x3",
        "set another size or encoding in the driver",
    ),
    Trouble(
        "unknown_encoding",
        WARN,
        "an encoding, or compressed data, that is not known",
        "set rgb8 or bgr8 (jpeg or png) in the driver, or install cv_bridge",
    ),
    Trouble(
        "wrong_kind",
        WARN,
        "depth or something else that is no picture",
        "remap image to the colour image",
    ),
    Trouble("too_large", WARN, "more pixels than are decoded", "set a smaller size in the driver"),
    Trouble(
        "bad_jpeg", WARN, "a JPEG that is cut off or damaged", "check the driver and the network"
    ),
    Trouble(
        "bad_png", WARN, "a PNG that is cut off or damaged", "check the driver and the network"
    ),
)

INFO: tuple[Trouble, ...] = (
    Trouble(
        "camera_info_missing",
        WARN,
        "images come without a camera_info",
        "publish camera_info, or remap it to the driver's",
    ),
    Trouble(
        "camera_info_uncalibrated",
        WARN,
        "K[0] is 0",
        "calibrate the camera, or give its calibration file to the driver",
    ),
    Trouble("bad_camera_info", WARN, "its numbers are no camera", "mend the calibration file"),
    Trouble(
        "camera_info_size",
        WARN,
        "it is for images of another shape, and is not used",
        "publish the camera_info of this image",
    ),
    Trouble(
        "camera_info_scaled",
        WARN,
        "it is for images of another size but the same shape, and is scaled",
        "right if the driver scales its images; publish their own camera_info to be sure",
    ),
    Trouble(
        "camera_info_contradictory",
        WARN,
        "several calibrations take turns; the newest counts",
        "let one node alone publish the camera_info of this camera",
    ),
    Trouble(
        "resolution_changed",
        WARN,
        "the images have another size than before",
        "nothing if that was meant; if it goes on, let one node alone publish the images",
    ),
    Trouble(
        "encoding_changed",
        WARN,
        "the images have another encoding than before",
        "nothing if that was meant; if it goes on, let one node alone publish the images",
    ),
    Trouble(
        "stamp_zero",
        WARN,
        "images have the stamp 0, so no transform is found for the results",
        "let the driver set header.stamp",
    ),
    Trouble(
        "stamp_past",
        WARN,
        "stamps are more than `stamp_tolerance` seconds behind the node's clock",
        "synchronise the clocks (NTP, PTP); for a recording set use_sim_time, or stamp_tolerance 0",
    ),
    Trouble(
        "stamp_future",
        WARN,
        "stamps are more than `stamp_tolerance` seconds ahead of the node's clock",
        "synchronise the clocks (NTP, PTP); for a recording set use_sim_time, or stamp_tolerance 0",
    ),
    Trouble(
        "stamp_backwards",
        WARN,
        "an image is older than the one before it",
        "let one node alone publish the images; in a looped recording it is the loop",
    ),
    *(
        Trouble(
            f"invalid_{what}",
            WARN,
            f"the network gave {of}; published as invalid",
            "if it goes on: ~/reload_model, or another precision or backend",
        )
        for what, of in (
            ("depth", "depth that is NaN or infinite"),
            ("normals", "normals that are NaN or infinite"),
            ("class", "ids of no class"),
        )
    ),
)

NODE: tuple[Trouble, ...] = (
    Trouble(
        "name_clash",
        WARN,
        "another node has the same name, so services and parameters reach either",
        "end one of them, or start it with -r __node:=another_name; one that was killed is off the "
        "list after 20 s",
    ),
)

TROUBLES: dict[str, Trouble] = {row.cause: row for row in (*CAMERA, *IMAGES, *INFO, *NODE)}


def see(health: Health, cause: str, text: str, level: bytes | None = None, about: str = "") -> None:
    """Tell `health` of a trouble of the table; `level` is another one than the table's.

    A cause that the table does not have, of an image, is one of a converter that is not ours.
    """
    row = TROUBLES.get(cause)
    action = row.action if row else "see the log, and the camera's driver"
    health.see(cause, level or (row.level if row else WARN), text, action, about)


def _table(rows: tuple[Trouble, ...]) -> list[str]:
    lines = ["", "| message begins with | level | said when | what to do |", "|---|---|---|---|"]
    return lines + [
        f"| `{row.cause}` | {LEVEL_NAMES[row.level]} | {row.meaning} | {row.action} |"
        for row in rows
    ]


def markdown_text() -> str:
    """docs/diagnostics.md."""
    lines = [
        "# Diagnostics",
        "",
        "Made from the table of troubles by `python -m proto_mtl_ros.ros.troubles`. "
        "`/diagnostics` has one status of the node and its engine and one of each camera, once a "
        "second. The level of a status is that of its worst trouble; its message names every "
        "trouble, the worst first: `cause: what was seen; what to do`. The counters of a status "
        "are described in [topics.md](topics.md).",
        "",
        "## Rules",
        "",
        "- A trouble is said as soon as it is seen.",
        f"- It stays until it has not been seen for {HOLD:g} s (parameter `trouble_hold`), and "
        "says `(3 s ago)` meanwhile, so that a level does not flap where a fault comes and goes.",
        f"- Does it return within {CALM:g} s of its end, it stays twice as long, and so on, up to "
        f"{LONGEST_HOLD:g} s. After {CALM:g} s without it, {HOLD:g} s hold again.",
        "- The log gets one line when a trouble begins and one when it is over, with the time it "
        "lasted; what lies between is only counted. So one trouble writes eight lines in its first "
        "minute at most and three in each further minute, whatever the rate of the camera.",
        "- Thresholds that something is measured against have a gap: `too_slow` begins below one "
        "half and ends above 60 %.",
        "- All of it goes by a steady clock. Deactivating the node forgets a camera's troubles.",
        "",
        "Which levels: OK, all is well. WARN, results come and are worth less than they could be, "
        "or some do not come. ERROR, no results. STALE, the camera has been silent so long that "
        "the rest of its status says nothing.",
        "",
        "## A camera",
        *_table(CAMERA),
        "",
        "Images that cannot be used, each counted in `bad.<cause>`:",
        *_table(IMAGES),
        "",
        "What costs no image but is not right; counted in `info.<cause>` where a message brings "
        "it:",
        *_table(INFO),
        "",
        "## The node and its engine",
        *_table(NODE),
        "",
        "Besides, the status of the engine says in words why configuring failed (ERROR), that "
        "another engine runs than the one asked for (WARN), and that an engine could not be built "
        "(ERROR).",
        "",
        "## What cannot be seen here",
        "",
        "A message that is no valid CDR (cut off, wrong lengths) never reaches the node: the "
        "middleware throws it away, with a line of its own on stderr. If that happens to all of "
        "them, the camera's status says `no_image` beside the number of publishers. Images that "
        "the transport loses are not counted either; a best-effort camera over a network loses "
        "some. A subscriber that hangs holds up neither the node nor other subscribers, and the "
        "middleware gives it up after 20 s without a sign of life: look at the subscriber.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Print docs/diagnostics.md."""
    sys.stdout.write(markdown_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
