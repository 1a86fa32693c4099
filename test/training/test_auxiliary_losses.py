# SPDX-License-Identifier: Apache-2.0
"""Terms of the loss: gradients, what they are on cases worked out by hand, and missing labels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import WIDTH, batch, made, output, small_network, train_config
from torch.nn import functional as F

from benchmark.methods.krt import TaskPrototypes, entropy
from benchmark.methods.prototype_knowledge import consistency, entropy_floor, knowledge_embedding
from proto_mtl_ros import plugins
from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.geometry import Camera
from proto_mtl_ros.geometry.normals import depth_to_normals
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.tasks import NYU13
from proto_mtl_ros.training.auxiliary import AUXILIARY_LOSSES
from proto_mtl_ros.training.auxiliary.auxiliary_loss import TEACHER, TEACHER_FEATURES
from proto_mtl_ros.training.auxiliary.geometry import depth_normals
from proto_mtl_ros.training.module import MultiTaskModule


@pytest.fixture(scope="module")
def network():
    return small_network()


def _gradients(out: NetworkOutput) -> list[Any]:
    every = (
        *out.raw.values(),
        *out.features.values(),
        *out.logits.values(),
        out.pooled,
        out.affinity,
    )
    return [tensor.grad for tensor in every if tensor.grad is not None]


MASKS = {
    "a task without any label": [[True, False, False], [False, True, False]],
    "a frame without any label": [[False, False, False], [True, True, True]],
    "no label at all": [[False] * 3, [False] * 3],
    "every label": [[True] * 3, [True] * 3],
}


@pytest.mark.parametrize("labelled", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("empty", [False, True], ids=["valid", "all invalid"])
@pytest.mark.parametrize("name", AUXILIARY_LOSSES)
def test_missing_labels_never_make_a_term_or_its_gradient_nan(name, labelled, empty, network):
    torch.manual_seed(0)
    term, out = made(name, network), output(2)
    value = term(batch(labelled, empty), out)
    assert value.ndim == 0
    value.backward()
    assert bool(torch.isfinite(value))
    gradients = [*_gradients(out), *(p.grad for p in term.parameters() if p.grad is not None)]
    assert all(bool(torch.isfinite(g).all()) for g in gradients)
    # in distributed training every parameter of a term must have a gradient in every step
    assert all(p.grad is not None for p in term.parameters())


@pytest.mark.parametrize("name", ["cross_task", "joint_task", "distillation"])
def test_terms_that_learn_from_other_labels_are_zero_where_there_are_none(name, network):
    """Labels without a valid pixel, or teachers without confidence, teach nothing."""
    torch.manual_seed(0)
    term, out = made(name, network), output(2)
    value = term(batch(MASKS["a task without any label"], empty=True), out)
    value.backward()
    assert float(value) == 0.0
    assert all(torch.count_nonzero(gradient) == 0 for gradient in _gradients(out))


def test_geometry_without_a_valid_pixel_leaves_labelled_frames_alone(network):
    term, out = made("geometry", network), output(2)
    # depth labelled, nothing derived from it; normals labelled, none of it valid
    value = term(batch([[False, True, False], [False, False, True]], empty=True), out)
    value.backward()
    assert float(value) == 0.0
    assert all(torch.count_nonzero(gradient) == 0 for gradient in _gradients(out))


@pytest.mark.parametrize(
    "name", ["geometry", "surface", "answers", "distillation", "feature_distillation"]
)
def test_gradient_of_terms_on_maps_equals_finite_differences(name, network):
    term = made(name, network).double()
    out = output(2, torch.float64)
    frames = batch([[True, True, False], [False, False, True]], dtype=torch.float64)
    moved = {"feature_distillation": "features", "answers": "logits"}.get(name, "raw")
    names = list(getattr(out, moved))

    def value(*maps):
        return term(frames, replace(out, **{moved: dict(zip(names, maps))}))

    # fast mode: a random projection of the Jacobian, the maps have thousands of values
    inputs = tuple(getattr(out, moved).values())
    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)


def test_gradient_of_prototype_terms_equals_finite_differences():
    torch.manual_seed(0)
    prototypes = TaskPrototypes(3, 2, 8, 0.5).double()
    pooled = torch.randn(3, 3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: knowledge_embedding(x, prototypes), (pooled,))
    assert torch.autograd.gradcheck(lambda x: consistency(x, 0.5), (pooled,))
    logits = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: entropy_floor(x.softmax(-1), 1.0), (logits,))


def test_knowledge_embedding_against_plain_numpy():
    torch.manual_seed(0)
    prototypes = TaskPrototypes(3, 2, 8, 0.5)
    pooled = torch.randn(4, 3, 8)
    f, v = pooled.numpy(), prototypes.vectors.detach().numpy()
    unit_f = f / np.linalg.norm(f, axis=-1, keepdims=True)
    unit_v = v / np.linalg.norm(v, axis=-1, keepdims=True)
    best = np.einsum("btd,smd->btsm", unit_f, unit_v).max(-1) / 0.5
    probability = np.exp(best) / np.exp(best).sum(-1, keepdims=True)
    expected = -np.log([probability[b, t, t] for b in range(4) for t in range(3)]).mean()
    found = float(knowledge_embedding(pooled, prototypes).detach())
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_triplets_against_a_plain_loop():
    torch.manual_seed(0)
    pooled = torch.randn(3, 3, 8)
    unit = F.normalize(pooled, dim=-1).numpy()
    losses = []
    for b in range(3):
        for t in range(3):
            far = max(1 - unit[b, t] @ unit[o, t] for o in range(3) if o != b)
            near = min(1 - unit[b, t] @ unit[o, s] for o in range(3) for s in range(3) if s != t)
            losses.append(max(0.0, far - near + 0.3))
    assert float(consistency(pooled, 0.3)) == pytest.approx(float(np.mean(losses)), rel=1e-5)
    assert float(consistency(pooled[:1], 0.3)) == 0.0  # no second frame, no positive pair


def test_entropy_floor_pushes_up_below_it_and_rests_above():
    soft = torch.full((1, 2, 4, 3), 1 / 3)
    assert float(entropy_floor(soft, 0.9)) == 0.0
    hard = torch.eye(3)[None, :2, None].expand(1, 2, 4, 3)
    assert float(entropy_floor(hard, 0.7)) == pytest.approx(0.49, abs=1e-4)
    logits = torch.tensor([3.0, 0.0, 0.0], requires_grad=True)
    entropy_floor(logits.softmax(-1)[None, None, None], 0.9).backward()
    higher = entropy((logits - logits.grad).softmax(-1))  # type: ignore[operator]
    assert float(higher) > float(entropy(logits.softmax(-1)))
    assert float(higher) <= math.log(3)


def test_distillation_counts_missing_labels_only_and_by_confidence(network):
    term, out = made("distillation", network), output(1)
    frames = batch([[True, False, True]])
    raw = out.raw["depth"].detach()
    teacher = frames[f"{TEACHER}depth"].permute(0, 3, 1, 2)
    expected = 3 / 1 * ((raw - teacher[:, :1]).abs() * teacher[:, 1:]).mean()
    value = term(frames, out)
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-5)


def test_features_of_teachers_are_met_up_to_a_linear_map(network):
    """Adapters that undo the map leave no error; without any knowledge it is one per task."""
    term, frames = made("feature_distillation", network), batch([[False] * 3] * 8)
    out, generator = output(8), torch.Generator().manual_seed(3)
    blind = replace(out, features={k: v * 0 for k, v in out.features.items()})
    for name, adapter in term.adapters.items():
        mixing = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator)).Q
        student = frames[f"{TEACHER_FEATURES}{name}"] @ mixing
        out.features[name] = student.permute(0, 3, 1, 2)
        with torch.no_grad():
            adapter.weight.copy_(mixing[:, :, None, None])
            adapter.bias.zero_()
    assert float(term(frames, out).detach()) < 1e-8
    assert float(term(frames, blind).detach()) == pytest.approx(3.0, abs=0.3)


def test_a_teacher_of_frequent_classes_and_the_logit_adjustment_agree():
    """Adjusted logits that equal the teacher's posterior are a minimum, the plain ones are not."""
    counts = torch.tensor([10.0 ** (3 + index % 3) for index in range(13)])
    config = train_config(
        loss={"distillation": 1.0, "logit_adjustment": 1.0, "answers": 0, "depth": 0},
        distillation={"teachers": {"segmentation": "none.ckpt"}},
    )
    module = MultiTaskModule(config, 10, NYU13, counts)
    out, frames = output(1), batch([[False, True, True]])
    raw = out.raw["segmentation"]
    share = (counts / counts.sum()).log()[:, None, None]

    def slope(posterior: torch.Tensor) -> float:
        teacher = torch.cat([posterior, torch.ones_like(posterior[:, :1])], 1)
        frames[f"{TEACHER}segmentation"] = teacher.permute(0, 2, 3, 1)
        _, extra, _ = module.losses(frames, out)
        (gradient,) = torch.autograd.grad(extra, raw, retain_graph=True)
        return float(gradient.abs().max())

    assert slope((raw + share).softmax(1).detach()) < 1e-6
    assert slope(raw.softmax(1).detach()) > 1e-4


@settings(max_examples=30, deadline=None)
@given(
    tilt=st.floats(-60, 60), pan=st.floats(-60, 60), distance=st.floats(0.5, 5),
    fx=st.floats(20, 80), stretch=st.floats(0.8, 1.25), cx=st.floats(8, 24), cy=st.floats(8, 16),
)  # fmt: skip
def test_normals_of_predicted_planes_are_those_of_geometry(
    tilt, pan, distance, fx, stretch, cx, cy
):
    a, b = np.radians(tilt), np.radians(pan)
    normal = np.array([np.sin(b) * np.cos(a), np.sin(a), -np.cos(b) * np.cos(a)])
    camera = Camera(np.array([[fx, 0, cx], [0, fx * stretch, cy], [0, 0, 1]]), 32, 24)
    rays = camera.rays().astype(np.float64)
    facing = rays @ normal
    # a plane that this whole window of rays sees, not at a grazing angle
    if facing.max() > -0.1:
        return
    depth = -distance / facing
    intrinsics = torch.tensor([[fx, fx * stretch, cx, cy]], dtype=torch.float64)
    found = depth_normals(torch.from_numpy(depth)[None, None], intrinsics)[0].permute(1, 2, 0)
    inner = found.numpy()[1:-1, 1:-1]
    assert np.allclose(inner, normal, atol=1e-6)
    other = depth_to_normals(depth.astype(np.float32), camera, window=7)[1:-1, 1:-1]
    known = np.linalg.norm(other, axis=-1) > 0.5
    assert known.mean() > 0.5
    cosine = (inner * other).sum(-1)[known]
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 1.0


TOY = """
from proto_mtl_ros.training.auxiliary import AuxiliaryLoss, Options, auxiliary_loss


class FlatnessOptions(Options):
    power: float = 1.0


@auxiliary_loss("flatness")
class Flatness(AuxiliaryLoss):
    \"\"\"Depth that changes from pixel to pixel costs.\"\"\"

    title = "flat depth"
    Options = FlatnessOptions
    needs_tasks = frozenset({"depth"})

    def __init__(self, setup):
        super().__init__(setup)
        self.power = setup.options.power

    def forward(self, batch, out):
        depth = out.raw["depth"]
        return (depth[..., 1:] - depth[..., :-1]).abs().pow(self.power).mean()
"""


def test_an_auxiliary_loss_from_outside_is_one_file(tmp_path, monkeypatch):
    """Found by its entry point; it brings its name, its options and what it needs."""
    (tmp_path / "toy_flatness.py").write_text(TOY)
    info = tmp_path / "toy_flatness-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-flatness\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[proto_mtl_ros.plugins]\ntoy = toy_flatness\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "load", plugins.load.__wrapped__)  # as in a new process
    known = dict(AUXILIARY_LOSSES)
    try:
        config = train_config(loss={"flatness": {"weight": 0.5, "power": 2.0}, "answers": 0})
        out = output(1)
        _, extra, values = MultiTaskModule(config, 10).losses(batch([[True, True, True]]), out)
        depth = out.raw["depth"].detach()
        expected = (depth[..., 1:] - depth[..., :-1]).square().mean()
        assert float(values["flatness"]) == pytest.approx(float(expected), rel=1e-6)
        assert float(extra.detach()) == pytest.approx(0.5 * float(expected), rel=1e-6)
        assert type(config).model_validate(config.model_dump(mode="json")) == config
        with pytest.raises(ValueError, match="flatness.powr"):
            train_config(loss={"flatness": {"weight": 0.5, "powr": 2.0}})
        with pytest.raises(ValueError, match="'flat' is neither a task nor .*flatness"):
            train_config(loss={"flat": 0.1})
        with pytest.raises(ConfigError, match="loss.flatness needs the task depth"):
            train_config(loss={"flatness": 0.5}, tasks=["normals"]).check()
    finally:
        AUXILIARY_LOSSES.clear()
        AUXILIARY_LOSSES.update(known)
