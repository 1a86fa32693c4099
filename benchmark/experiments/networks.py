# SPDX-License-Identifier: Apache-2.0
"""The shipped network with one candidate retrieval in place of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.experiments.answers import AnswerHead
from benchmark.experiments.rows import Row
from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.decoder import SeparableBlock, TaskDecoder
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.tasks import Task


class Added(nn.Module):
    """Base of what is retrieved on tokens and added to them; measured and switched off here.

    Attributes:
        flat: replace what is retrieved by its mean over the frame.
        seen: task to (what is retrieved, what the head reads), of the last forward pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flat = False
        self.seen: dict[str, Tensor] = {}

    def add(self, name: str, tokens: Tensor, retrieved: Tensor) -> Tensor:
        """Return tokens + retrieved, both [B, N, d]."""
        if self.flat:
            retrieved = retrieved.mean(1, keepdim=True).expand_as(tokens)
        if not torch.compiler.is_exporting():
            self.seen[name] = retrieved
        return tokens + retrieved


def _zero(inp: int, out: int) -> nn.Linear:
    layer = nn.Linear(inp, out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ClassMemory(Added):
    """B: means of labelled segmentation tokens, retrieved by class posterior and cosine.

    r[n] = sum_c p[n, c] sum_k softmax_k(cos(f, mu_ck) / tau) mu_ck;  x = f + W [f; r].
    The posterior p is of a linear classifier on the tokens.
    """

    slots, temperature, decay = 4, 0.1, 0.99

    def __init__(self, tasks: Sequence[Task], width: int) -> None:
        super().__init__()
        self.classes = next(t.channels for t in tasks if t.name == "segmentation")
        self.register_buffer(
            "means", F.normalize(torch.randn(self.classes, self.slots, width), dim=-1)
        )
        self.classify = nn.Linear(width, self.classes)
        self.write = _zero(2 * width, width)
        self.loss = torch.zeros(())

    def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        f = tokens["segmentation"]
        unit = F.normalize(f, dim=-1)
        posterior = self.classify(f).softmax(-1)
        means = self.means.clone()  # they move before the gradients are taken
        match = torch.einsum("bnd,ckd->bnck", unit, means) / self.temperature
        weights = posterior[..., None] * match.softmax(-1)
        read = torch.einsum("bnck,ckd->bnd", weights, means) * math.sqrt(f.shape[-1])
        out = self.add("segmentation", f, self.write(torch.cat([f, read], -1)))
        return {**tokens, "segmentation": out}

    def learn(self, tokens: Tensor, label: Tensor, has: Tensor) -> Tensor:
        """Move the means towards labelled tokens; return the classifier's loss.

        Args:
            tokens: [B, N, d] before retrieval.
            label: uint8 [B, H, W].
            has: bool [B].
        """
        if not bool(has.any()):
            return tokens.sum() * 0.0
        ids = label[has].long()
        one_hot = F.one_hot(ids.clamp_max(self.classes), self.classes + 1)[..., : self.classes]
        share = F.avg_pool2d(one_hot.permute(0, 3, 1, 2).float(), 16).flatten(2).transpose(1, 2)
        most, best = share.max(-1)
        sure = most > 0.5
        f, c = tokens[has][sure], best[sure]
        if not len(f):
            return tokens.sum() * 0.0
        with torch.no_grad():
            unit = F.normalize(f.detach(), dim=-1)
            slot = torch.einsum("nd,nkd->nk", unit, self.means[c]).argmax(1)
            place = c * self.slots + slot
            flat = self.means.view(-1, self.means.shape[-1])
            total = torch.zeros_like(flat).index_add_(0, place, unit)
            count = torch.zeros(len(flat)).index_add_(0, place, torch.ones(len(place)))
            hit = count > 0
            mean = total[hit] / count[hit, None]
            decay = self.decay ** count[hit, None].clamp_max(20)
            flat[hit] = F.normalize(decay * flat[hit] + (1 - decay) * mean, dim=-1)
        return F.cross_entropy(self.classify(f), c)


class SharedSlots(Added):
    """C: slots that read the image; each task writes its tokens and reads the others' out.

    b_t[n, m] = softmax_m(q_t f . k v_m / sqrt d);  s_m = v_m + sum_t sum_n b / sum_n b * W_t f;
    x_t = f + W_o sum_m b_t[n, m] s_m.
    """

    slots = 16

    def __init__(self, tasks: Sequence[Task], width: int) -> None:
        super().__init__()
        self.names = [t.name for t in tasks]
        self.vectors = nn.Parameter(torch.randn(self.slots, width))
        self.key = nn.Linear(width, width, bias=False)
        self.query = nn.ModuleList(nn.Linear(width, width) for _ in tasks)
        self.value = nn.ModuleList(nn.Linear(width, width) for _ in tasks)
        self.out = nn.ModuleList(_zero(width, width) for _ in tasks)
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in tasks)
        self.read = nn.LayerNorm(width)

    def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        keys = self.key(self.vectors).t() / math.sqrt(self.vectors.shape[1])
        slots = self.vectors[None]
        weights = {}
        for i, name in enumerate(self.names):
            f = self.norm[i](tokens[name])
            b = (self.query[i](f) @ keys).softmax(-1)
            weights[name] = b
            share = b / b.sum(1, keepdim=True).clamp_min(1e-4)
            slots = slots + share.transpose(1, 2) @ self.value[i](f)
        slots = self.read(slots)
        return {
            name: self.add(name, tokens[name], self.out[i](weights[name] @ slots))
            for i, name in enumerate(self.names)
        }


class RepairedRetrieval(Added):
    """E: the paper's retrieval repaired: attention over the T M prototypes themselves.

    Tokens are normalised before the cosine; keys and values are separate; log A (the affinity to
    the tasks) is a bias of the attention; the projection starts at zero.
    """

    slots, temperature = 8, 0.1

    def __init__(self, tasks: Sequence[Task], width: int) -> None:
        super().__init__()
        self.names = [t.name for t in tasks]
        self.vectors = nn.Parameter(torch.randn(len(tasks), self.slots, width))
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in tasks)
        self.query = nn.ModuleList(nn.Linear(width, width) for _ in tasks)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.ModuleList(_zero(width, width) for _ in tasks)
        self.affinity: list[Tensor] = []

    def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        flat = self.vectors.flatten(0, 1)
        keys, values = self.key(flat), self.value(flat)
        unit = F.normalize(self.vectors, dim=-1)
        out, self.affinity = {}, []
        for i, name in enumerate(self.names):
            f = self.norm[i](tokens[name])
            cosine = torch.einsum("bnd,tmd->bntm", F.normalize(f, dim=-1), unit)
            bias = F.log_softmax(cosine.amax(-1) / self.temperature, -1)
            self.affinity.append(bias)
            match = self.query[i](f) @ keys.t() / math.sqrt(f.shape[-1])
            match = match + bias.repeat_interleave(self.slots, -1)
            out[name] = self.add(name, tokens[name], self.out[i](match.softmax(-1) @ values))
        return out

    def knowledge_loss(self) -> Tensor:
        """TKE on the mean affinity of the frame."""
        losses = [-b.exp().mean(1)[:, i].clamp_min(1e-6).log() for i, b in enumerate(self.affinity)]
        return torch.stack(losses).mean()


class SharedDecoders(nn.Module):
    """One decoder for all tasks, and a residual block of each task's own behind it."""

    def __init__(self, channels: Sequence[int], width: int, tasks: int) -> None:
        super().__init__()
        self.shared = TaskDecoder(channels, width)
        self.shared.refine = nn.Sequential(SeparableBlock(width, 5))
        self.own = nn.ModuleList(SeparableBlock(width, 3) for _ in range(tasks))

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        x = self.shared(taps)
        return [block(x) for block in self.own]


class _Given(nn.Module):
    """Stands for the backbone where its features are known."""

    def __init__(self, taps: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.taps = taps

    def forward(self, _image: object) -> tuple[Tensor, ...]:
        return self.taps


HEAD_WIDTH = 48

ADDED = {"memory": ClassMemory, "slots": SharedSlots, "repaired": RepairedRetrieval}


class Candidate(ProtoMTL):
    """The network of a row. ``flat`` and ``share`` serve the measurements of its retrieval."""

    def __init__(self, tasks: Sequence[Task], row: Row, **options: object) -> None:
        self.has_prototypes = row.retrieval == "prototypes"
        super().__init__(tasks, **options)  # type: ignore[arg-type]
        self.row = row
        self.added = ADDED[row.added](self.tasks, self.width) if row.added else None
        if row.decoder == "shared":
            self.decoders = SharedDecoders(self.channels, self.width, len(self.tasks))
        if row.answers:
            self.heads = nn.ModuleList(
                AnswerHead(task, self.channels, self.width, HEAD_WIDTH) for task in self.tasks
            )
        self.crossed = None
        if row.crossed:
            sizes = [len(head.answers) for head in self.heads]  # type: ignore[arg-type]
            self.crossed = nn.ModuleList(
                nn.Conv2d(sum(sizes) - own, own, 1, bias=False) for own in sizes
            )
            for layer in self.crossed:
                nn.init.zeros_(layer.weight)
        self.flat_shipped = False
        for blocks in self.krt:
            for block in blocks:  # type: ignore[attr-defined]
                if block.cross:
                    block.cross_attention.register_forward_hook(self._shipped)

    def _shipped(self, _module: nn.Module, _arguments: object, out: Tensor) -> Tensor | None:
        if not torch.compiler.is_exporting():
            self.shipped_out.append(out)
        if self.flat_shipped:
            return out.mean(1, keepdim=True).expand_as(out)
        return None

    def forward(self, image: Tensor | tuple[Tensor, ...]) -> NetworkOutput:  # type: ignore[override]
        if not torch.compiler.is_exporting():
            self.shipped_out: list[Tensor] = []
        if not (self.row.answers or self.row.added or self.row.decoder):
            return self._plain(image) if isinstance(image, tuple) else super().forward(image)
        taps = self._taps(image)
        if isinstance(self.decoders, SharedDecoders):
            maps = dict(zip(self.names, self.decoders(taps)))
        else:
            maps = {name: self.decoders[i](taps) for i, name in enumerate(self.names)}
        size = next(iter(maps.values())).shape[-2:]
        tokens = {name: x.flatten(2).transpose(1, 2) for name, x in maps.items()}
        if not torch.compiler.is_exporting():
            self.tokens = tokens
        if self.added is not None:
            tokens = self.added(tokens)
        read: dict[str, Tensor] = {}
        for i, name in enumerate(self.names):
            x = tokens[name].transpose(1, 2).unflatten(2, size)
            for block in self.krt[i]:  # type: ignore[attr-defined]
                x = block(x, None)
            read[name] = x
        raw: dict[str, Tensor] = {}
        if self.crossed is None:
            raw = {name: self.heads[i](read[name], taps) for i, name in enumerate(self.names)}
        else:
            heads: list[AnswerHead] = list(self.heads)  # type: ignore[arg-type]
            hs = [head.features(read[name], taps) for head, name in zip(heads, self.names)]
            first = [head.match(h) for head, h in zip(heads, hs)]
            weights = [logits.detach().softmax(1) for logits in first]
            for i, name in enumerate(self.names):
                others = torch.cat([w for k, w in enumerate(weights) if k != i], 1)
                # weights are small numbers: at the scale of their count
                logits = first[i] + self.crossed[i](others * 8.0)
                raw[name] = heads[i].answer(hs[i], logits)
        pooled = torch.stack([x.mean((2, 3)) for x in maps.values()], 1)
        return NetworkOutput(raw, pooled, None, taps, read)

    def _taps(self, image: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the backbone's features; of a backbone that is frozen they may be given."""
        return image if isinstance(image, tuple) else tuple(self.backbone(image))

    def _plain(self, taps: tuple[Tensor, ...]) -> NetworkOutput:
        backbone = self.backbone
        self._modules["backbone"] = _Given(taps)
        try:
            return super().forward(taps)  # type: ignore[arg-type]
        finally:
            self._modules["backbone"] = backbone

    def set_flat(self, flat: bool) -> None:
        """Replace what is retrieved by its mean over the frame, or not."""
        self.flat_shipped = flat
        if self.added is not None:
            self.added.flat = flat
        for head in self.heads:
            if isinstance(head, AnswerHead):
                head.flat = flat

    def retrievals(self, out: NetworkOutput) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (what is retrieved, what it is part of) of the last pass by task, [B, C, ...]."""
        if isinstance(self.heads[0], AnswerHead):
            return {
                name: (head.retrieved, head.total)  # type: ignore[union-attr, misc]
                for name, head in zip(self.names, self.heads)
            }
        if self.added is not None:
            return {
                name: (r.transpose(1, 2), out.features[name]) for name, r in self.added.seen.items()
            }
        return {
            name: (r.transpose(1, 2), out.features[name])
            for name, r in zip(self.names, self.shipped_out)
        }
