"""Processes that train together, for tests: each is started once, and none waits for ever."""

from __future__ import annotations

import atexit
import datetime
import io
import os
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from torch import distributed

#: How long a process waits for another one.
TIMEOUT = datetime.timedelta(seconds=30)
#: How long it waits for one that is not to come.
SOON = datetime.timedelta(seconds=3)
# How long a test waits for its processes, which have waited for each other by then.
_LONGEST = 120.0

_SPAWN = torch.multiprocessing.get_context("spawn")
_processes: list[tuple[Any, Connection]] = []
# Groups are kept: in PyTorch 2.4 the end of gloo's waits for its thread, which may wait for Python's lock to let go of a
# tensor.
_kept: list[Any] = []


def run(count: int, work: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """Calls `work(rank, *arguments)` in so many processes, which share a group by gloo; returns what each returned.

    An exception is returned in its place, so that it can be seen what each process made of a mistake.
    """
    while len(_processes) < count:
        here, there = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_serve, args=(there,), daemon=True)
        process.start()
        _processes.append((process, here))
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(count):
        _processes[rank][1].send((rank, count, work, str(folder / "store"), arguments))
    results = []
    for rank in range(count):
        here = _processes[rank][1]
        if not here.poll(_LONGEST):
            _end()
            raise TimeoutError(f"rank {rank} does not come to an end")
        results.append(torch.load(io.BytesIO(here.recv_bytes()), weights_only=False))
    return results


@atexit.register
def _end() -> None:
    for process, _ in _processes:
        process.kill()
        process.join()
    _processes.clear()


def _serve(there: Connection) -> None:
    # Gloo looks for an address of this machine's name, which need not have one.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    while True:
        rank, count, work, store, arguments = there.recv()
        torch.manual_seed(0)
        distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count, timeout=TIMEOUT)
        _kept.append(distributed.group.WORLD)
        try:
            result = work(rank, *arguments)
        except Exception as error:  # what went wrong is for the test to judge
            traceback.print_exc()
            result = error.with_traceback(None)
        written = io.BytesIO()
        torch.save(result, written)
        there.send_bytes(written.getvalue())
        distributed.destroy_process_group()
