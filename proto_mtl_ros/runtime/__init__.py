# SPDX-License-Identifier: Apache-2.0
"""Running a model bundle: the bundle, the engines behind one protocol, and the predictor.

Nothing here imports ROS, and no backend is imported before it is asked for.
"""

from proto_mtl_ros.runtime.bundle import Bundle
from proto_mtl_ros.runtime.engine import Engine, available_backends, create_engine
from proto_mtl_ros.runtime.manifest import ModelManifest, Normalisation, TrainingRecord
from proto_mtl_ros.runtime.predictor import Prediction, Predictor

__all__ = [
    "Bundle",
    "Engine",
    "ModelManifest",
    "Normalisation",
    "Prediction",
    "Predictor",
    "TrainingRecord",
    "available_backends",
    "create_engine",
]
