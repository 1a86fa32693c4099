# SPDX-License-Identifier: Apache-2.0
"""Every row of the experiments can be built, gives its maps and learns."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from benchmark.experiments.answers import AnswerHead  # noqa: E402
from benchmark.experiments.networks import Candidate  # noqa: E402
from benchmark.experiments.rows import ROWS, TASKS  # noqa: E402
from proto_mtl_ros.tasks import NYU13, tasks_over  # noqa: E402


@pytest.mark.parametrize("name", [name for name in ROWS if not name.startswith("screen_")])
def test_the_network_of_a_row_gives_maps_and_gradients(name):
    row = ROWS[name]
    tasks = tasks_over(row.tasks or TASKS, NYU13)
    network = Candidate(tasks, row, blocks=row.blocks, **{"width": 32, **row.model})
    out = network(network.normalise(torch.zeros(2, 64, 64, 3, dtype=torch.uint8)))
    assert {n: tuple(raw.shape) for n, raw in out.raw.items()} == {
        task.name: (2, task.channels, 16, 16) for task in tasks
    }
    sum(raw.square().mean() for raw in out.raw.values()).backward()
    for head in network.heads:
        changed = head.keys if row.answers else head.predict.weight
        assert changed.grad.abs().sum() > 0


@pytest.mark.parametrize("task", tasks_over(TASKS, NYU13), ids=TASKS)
def test_answers_are_the_softmax_weighted_mean(task):
    torch.manual_seed(0)
    head = AnswerHead(task, (8, 8, 8, 8, 8), 16, 12).double()
    h = torch.randn(2, 12, 4, 5, dtype=torch.float64)
    unit = torch.nn.functional.normalize(h, dim=1)
    keys = torch.nn.functional.normalize(head.keys, dim=1)
    weights = torch.einsum("bdhw,md->bmhw", unit, keys).mul(head.log_scale.exp()).softmax(1)
    mean = torch.einsum("bmhw,mc->bchw", weights, head.answers)
    found = head.answer(h, head.match(h))
    if task.name == "segmentation":
        found = found.softmax(1)
    elif task.name == "depth":
        mean = mean.exp()
    torch.testing.assert_close(found, mean, rtol=1e-5, atol=1e-6)
