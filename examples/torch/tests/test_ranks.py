"""Processes that decide together, by gloo on this machine."""

from __future__ import annotations

import pytest
import ranks
import torch
from adaloss.torch import GradScaler, prepare
from torch import distributed, nn


class Leaping(nn.Module):
    """Layers between which an operation enlarges the gradient, by as much as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.second = nn.Linear(16, 16)
        self.last = nn.Linear(16, 4)
        self.factor = 1.0

    def forward(self, x):
        return self.last(self.enlarged(torch.relu(self.second(torch.relu(self.first(x))))))

    def enlarged(self, h):
        """Returns h, whose gradient is `factor` times as large."""
        return h if self.factor == 1.0 else h * self.factor + (h - h * self.factor).detach()


def batch(step: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1000 * step + rank)
    return torch.randn(8, 16, generator=random), torch.randn(8, 4, generator=random)


def loss_of(model, input, target):
    with torch.autocast("cpu", dtype=torch.float16):
        return nn.functional.mse_loss(model(input).float(), target)


def overflow_on_one(rank, with_group):
    model = prepare(Leaping())
    parallel = nn.parallel.DistributedDataParallel(model)
    scaler = GradScaler("cpu", **({"process_group": distributed.group.WORLD} if with_group else {}))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seen = []
    for step in range(6):
        optimizer.zero_grad()
        model.factor = 1024.0 if step == 3 and rank == 1 else 1.0
        scaler.scale(loss_of(parallel, *batch(step, rank))).backward()
        before = model.last.weight.detach().clone()
        scaler.step(optimizer)
        scaler.update()
        seen.append((scaler.get_scale(), scaler.report().overflowed, bool((before == model.last.weight).all())))
    return seen, [p.detach() for p in model.parameters()]


def test_an_overflow_on_one_rank_lowers_the_own_scale_of_all_or_none(tmp_path):
    (first, weights), (second, others) = ranks.run(2, overflow_on_one, tmp_path, False)
    assert [skipped for *_, skipped in first] == [False, False, False, True, False, False]
    assert [scale for scale, *_ in first] == [scale for scale, *_ in second]
    assert all(a.equal(b) for a, b in zip(weights, others))
