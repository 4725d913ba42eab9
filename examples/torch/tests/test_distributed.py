"""Two processes on this machine, by gloo: gradients are those of one process with both halves of the batch."""

from __future__ import annotations

import copy
import datetime
import os
import socket

import pytest
import torch
import torch.multiprocessing
from adaloss.torch import GradScaler, prepare
from conftest import Task, TwoTowers, assert_near, gradients
from torch import distributed, nn

RANKS = 2


def wrapped(model: nn.Module, how: str) -> nn.Module:
    if how != "sharded":
        return nn.parallel.DistributedDataParallel(model, static_graph=how == "static graph")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (RANKS,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def work(rank: int, port: int, how: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=RANKS, timeout=datetime.timedelta(seconds=60))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    task, model = Task(), TwoTowers()
    # Its statistics are those of half a batch.
    model.batch_norm = nn.Identity()
    reference = copy.deepcopy(model)
    sum(task.losses(reference, autocast=False)).backward()

    share = slice(rank * 32, rank * 32 + 32)
    task.images, task.labels, task.quantity = task.images[share], task.labels[share], task.quantity[share]
    model = wrapped(prepare(model), how)
    scaler, optimizer = GradScaler("cpu"), torch.optim.SGD(model.parameters(), lr=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale(sum(task.losses(model))).backward()
        scaler.unscale_(optimizer)
        found = {
            name.removeprefix("module."): p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad.clone()
            for name, p in model.named_parameters()
        }
        scaler.step(optimizer)
        scaler.update()
    assert_near(found, gradients(reference))
    assert scaler.report().uncovered == {} and scaler.report().overflowed == {}
    distributed.destroy_process_group()


@pytest.mark.parametrize("how", ["replicated", "static graph", "sharded"])
def test_two_processes(how):
    if how == "sharded":
        pytest.importorskip("torch.distributed.fsdp", reason="FSDP2")
        if not hasattr(torch.distributed.fsdp, "fully_shard"):
            pytest.skip("fully_shard is in PyTorch 2.6 and later")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, how), nprocs=RANKS)
