# SPDX-License-Identifier: Apache-2.0
"""The furniture of the room: which model stands where, and what was changed on it."""

from __future__ import annotations

from . import textures
from .layout import (
    BED,
    BOOKS,
    CC0,
    CC_BY,
    CHAIR,
    FLOOR,
    FURNITURE,
    KATOR,
    OBJECTS,
    SCOPIA,
    SOFA,
    TABLE,
    TV,
    Item,
    Surface,
)

TABLE_TOP, COFFEE_TOP, CHEST_TOP, STAND_TOP, NIGHT_TOP = 0.724, 0.45, 0.82, 0.526, 0.454


def items() -> list[Item]:
    """Everything that is a model. Fresh objects at every call."""
    oak = Surface(texture=textures.wood(21, (0.62, 0.44, 0.27)))
    walnut = Surface(color=(0.30, 0.19, 0.11))
    books = {f"Books_{i}": BOOKS for i in range(1, 5)}
    sofa_cloth = Surface(color=(0.66, 0.60, 0.50))
    covers = (
        "beige", "beige_normalmap.jpg", "colorbeige_right_normalmap.jpg",
        "colorbeige_cushionmap.jpg", "colorbeige_center_normal2.jpg",
    )  # fmt: skip
    sofa = dict.fromkeys(covers, sofa_cloth)
    sofa["cosins"] = Surface(color=(0.50, 0.24, 0.17))
    sofa["cosins_brown"] = Surface(color=(0.24, 0.30, 0.36))
    blanket = Surface(color=(0.36, 0.45, 0.58))
    bed = {
        "structure": walnut,
        "couch": blanket,
        "pillow": Surface(color=(0.85, 0.84, 0.80)),
        "sheet": Surface(color=(0.82, 0.80, 0.76)),
        "matress": Surface(color=(0.8, 0.78, 0.72)),
    }
    tv = {
        "screen": Surface(color=(0.05, 0.05, 0.06)),
        "white_glossy_plastic": Surface(color=(0.08, 0.08, 0.08)),
    }
    shade = Surface(color=(0.85, 0.78, 0.62), emission=(3.2, 2.4, 1.4))
    lamp = {"squares_multilamps.jpg": shade}
    night_lamp = {"lampshade_multilamps.jpg": shade}
    stand_lamp = {"squares.001_tela_lamp_tile.jpg": Surface(emission=(2.6, 1.7, 0.9))}
    chair = "chairWithCushion"
    return [
        # North wall, from the west: bookcase, lamp, sofa, night stand, bed.
        Item(KATOR, "full-bookcase", (0.62, 5.00, 0), 0, FURNITURE, labels=books,
             surfaces={"White_paint": oak}),
        Item(SCOPIA, "living_lamp", (1.32, 4.75, 0), 70, OBJECTS, surfaces=stand_lamp),
        Item(SCOPIA, "beige_sofa", (2.66, 4.70, 0), 0, SOFA, surfaces=sofa),
        Item(CC0, "bedsideTable2", (4.10, 4.90, 0), 0, FURNITURE),
        Item(SCOPIA, "little_lamp2", (4.16, 4.98, NIGHT_TOP), 0, OBJECTS, surfaces=night_lamp),
        Item(CC_BY, "clock", (4.00, 4.78, NIGHT_TOP), 10, OBJECTS),
        Item(CC0, "bed2", (5.12, 4.08, 0), 0, BED, size=(1.55, 2.14, 1.08), surfaces=bed,
             labels={"pillow": OBJECTS}),
        Item(CC0, "teddyBear", (5.35, 4.58, 0.64), -20, OBJECTS),
        # Between sofa and dining table.
        Item(KATOR, "oriental-rug", (2.75, 3.30, 0.0), 90, FLOOR),
        Item(CC_BY, "table", (2.75, 3.45, 0), 0, TABLE, size=(1.15, 0.62, COFFEE_TOP),
             surfaces={"Table-Cross": walnut, "Table-Top": walnut}),
        Item(SCOPIA, "teapot", (2.50, 3.50, COFFEE_TOP), 30, OBJECTS),
        Item(SCOPIA, "cup", (2.68, 3.32, COFFEE_TOP), -40, OBJECTS),
        Item(CC_BY, "book", (3.02, 3.45, COFFEE_TOP), 15, BOOKS),
        # West: dining table at the window.
        Item(CC_BY, "table", (1.40, 2.55, 0), 0, TABLE),
        Item(CC0, chair, (1.02, 1.95, 0), 176, CHAIR),
        Item(CC0, chair, (1.75, 1.90, 0), 190, CHAIR),
        Item(CC0, chair, (1.05, 3.18, 0), 4, CHAIR),
        Item(CC0, chair, (1.78, 3.14, 0), -8, CHAIR),
        Item(CC_BY, "tulips", (1.30, 2.62, TABLE_TOP), 0, OBJECTS),
        Item(SCOPIA, "apples", (1.68, 2.72, TABLE_TOP), 0, OBJECTS),
        Item(CC_BY, "laptop", (1.80, 2.34, TABLE_TOP), 160, OBJECTS),
        Item(KATOR, "coffee-mug", (1.52, 2.28, TABLE_TOP), 60, OBJECTS),
        Item(KATOR, "newspaper", (1.05, 2.40, TABLE_TOP), 20, OBJECTS),
        Item(CC0, "radiator", (0.16, 2.65, 0.06), 90, FURNITURE),
        Item(CC0, "plant", (0.55, 4.28, 0), 40, OBJECTS),
        # East wall, from the south: television, chest of drawers.
        Item(CC_BY, "tvStand", (6.13, 1.15, 0), -90, FURNITURE),
        Item(CC0, "led_tv", (6.13, 1.15, STAND_TOP), -90, TV, size=(0.97, 0.18, 0.62), surfaces=tv),
        Item(CC_BY, "chest", (6.12, 2.58, 0), -90, FURNITURE),
        Item(SCOPIA, "little_lamp1", (6.15, 3.05, CHEST_TOP), 0, OBJECTS, surfaces=lamp),
        Item(SCOPIA, "mini_stereo", (6.10, 2.55, CHEST_TOP), -90, OBJECTS),
        Item(SCOPIA, "jar", (6.15, 2.10, CHEST_TOP), 0, OBJECTS),
        # On the floor.
        Item(SCOPIA, "cardboard-box", (5.45, 1.95, 0), 25, OBJECTS),
        Item(CC_BY, "backpack", (4.18, 3.95, 0), -30, OBJECTS),
        Item(CC0, "basketball", (4.55, 2.55, 0), 0, OBJECTS),
        Item(SCOPIA, "shopping-basket", (3.95, 4.35, 0), 60, OBJECTS, size=(0.36, 0.30, 0.36)),
    ]  # fmt: skip
