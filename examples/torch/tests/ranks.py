"""Processes that train together, for tests: each is started anew, and ends with an error rather than to wait for ever."""

from __future__ import annotations

import datetime
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from torch import distributed

#: How long a process waits for another one.
TIMEOUT = datetime.timedelta(seconds=20)


def run(ranks: int, work: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """Calls `work(rank, *arguments)` in so many processes, which share a group by gloo; returns what each returned.

    An exception is returned in its place, so that it can be seen what each process made of a mistake.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.multiprocessing.spawn(_work, (ranks, work, str(folder), arguments), nprocs=ranks)
    return [torch.load(folder / f"result-{rank}", weights_only=False) for rank in range(ranks)]


def _work(rank: int, ranks: int, work: Callable[..., Any], folder: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # Gloo looks for an address of this machine's name, which need not have one.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks, timeout=TIMEOUT)
    try:
        result = work(rank, *arguments)
    except Exception as error:  # what went wrong is for the test to judge
        traceback.print_exc()
        result = error
    torch.save(result, f"{folder}/result-{rank}")
    distributed.destroy_process_group()
