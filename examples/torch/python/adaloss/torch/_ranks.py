"""Processes that share a step: what each brings to it goes in one message, merged by the greatest of the bytes at each place.

    looks --> Cells.look --> own part + Cells.pack --> [ all_reduce, uint8, MAX ] --> Cells.unpack --> one decision

The message is the part below, then core's (`core/src/scaler/share.rs` has its layout), then zeros up to `_FIRST` bytes.  A
number that has to be the same in all processes stands beside its complement: merged, the two are complements of each
other only where it is.  So the same reduction that merges compares, and nothing that is not an integer is reduced.

    bytes of the part
    0, 1        version
    2, 3        what was called: `STEP`, `UPDATE`
    4, 5        how often in this step, modulo 256
    6           1 where gradients of parameters are infinite or NaN
    7           1 where any were looked at
    8           1 where this process has names that the message has no place for yet
    9..16       zero
    16..32      digest of the names of the cells
    32..48      digest of the scaler's options
    48..64      the scaler's own scale, and for how many steps it has been
    64..80      digest of what it has to say of names
    80..88      how many bytes that is: merged, at least as many as the most
    88..96      zero
"""

from __future__ import annotations

import collections
import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

from .. import _core

_VERSION = 1
_PART = 96
_HEADER = _PART + 80
# Messages are at least so long.  Two of different lengths cannot be reduced, and so ranks that differ in their cells find it
# out by messages of one length; of more than 650 cells by the first part, which is reduced by itself where cells can differ.
_FIRST = 4096

STEP, UPDATE = 1, 2

# What a look is, as `Cells.look` takes it.
_Entry = tuple[str, float, int, bool]

# The last tensors that an engine was given.  Its thread may come to let go of one when nobody else has it any more; then it
# waits for Python's lock, which gloo's end holds in PyTorch 2.4 while it waits for the thread.
_recent: collections.deque[Tensor | list[Tensor]] = collections.deque(maxlen=8)

_T = TypeVar("_T")

# Where the part has a number beside its complement.
_PLACES = (
    ("package", slice(0, 2)),
    ("call", slice(2, 4)),
    ("call", slice(4, 6)),
    ("names", slice(16, 32)),
    ("options", slice(32, 48)),
    ("scale", slice(48, 64)),
)

# In what processes can differ, in the order in which it is asked; what `Cells.differs` returns is among them.
_DIFFERENCES = {
    "package": "the version of this package",
    "version": "the version of this library",
    "call": "what it called: `step` of as many optimizers and `update`, in one order, are called by every process",
    "cells": "the number of its cells, which it has of gradients: did all load one state?",
    "names": "the names of its cells: did all load one state?",
    "config": "its configuration",
    "options": "growth_factor, backoff_factor or growth_interval",
    "step": "the number of those steps",
    "scale": "the scaler's own scale, or for how many steps it has been",
    "digest": "its cells",
}


class RanksDiffer(RuntimeError):
    """A process is not like the others, so that they cannot share a step; every process of the group raises it.

    The run cannot go on but from a checkpoint that all processes load.
    """

    #: The rank of the process, among all processes.
    rank: int
    #: How many steps it finished.
    step: int
    #: What differs.
    what: str

    def __init__(self, rank: int, step: int, what: str) -> None:
        super().__init__(rank, step, what)
        self.rank, self.step, self.what = rank, step, what

    def __str__(self) -> str:
        return f"rank {self.rank}, after {self.step} finished steps, differs from the others in {self.what}"


@dataclass(frozen=True)
class Own:
    """What a process brings to an agreement beside what its layers showed."""

    #: `STEP` or `UPDATE`.
    call: int
    #: Whether gradients of parameters are infinite or NaN, and whether any were looked at.
    is_infinite: bool
    is_checked: bool
    #: The scaler's factors and its interval.
    options: tuple[float, float, int]
    #: The scaler's own scale, and its growth tracker.
    scale: tuple[float, int]


class Ranks:
    """The processes of a group, seen from one of them."""

    def __init__(self, group: distributed.ProcessGroup) -> None:
        if not distributed.is_available() or not isinstance(group, distributed.ProcessGroup):
            raise TypeError(
                f"process_group is {group!r}: pass a ProcessGroup that this process belongs to, such as "
                "torch.distributed.group.WORLD behind init_process_group"
            )
        self.group = group
        self.size = distributed.get_world_size(group)
        self._device = _device_of(group)
        # How often was agreed in this step.
        self.agreements = 0
        # Whether the cells are known to be alike.
        self._has_met = False
        # A digest of the names of so many cells.
        self._names: tuple[int, bytes] = (-1, b"")
        # Of which model the layer of a name is, as all ranks know it, and what this one has yet to tell.
        self._models: dict[str, tuple[int, int]] = {}
        self._new_models: dict[str, tuple[int, int]] = {}

    def saw(self, name: str, model: tuple[int, int]) -> None:
        """Takes note that a prepared layer of this name is used, and how many its model has, with a digest of them."""
        if self._models.get(name) != model:
            self._new_models[name] = model

    def begin(self) -> None:
        """Takes note that cells were loaded, which are to be compared before messages of their length are reduced."""
        self._has_met, self.agreements, self._names = False, 0, (-1, b"")

    def end_step(self) -> None:
        """Takes note that the step is over."""
        self.agreements = 0

    def agree(self, cells: _core.Cells, entries: list[_Entry], own: Own) -> tuple[bool, bool]:
        """Takes note of looks, and of what other ranks looked at; returns whether gradients are infinite anywhere, and
        whether any were looked at.

        Raises `RanksDiffer`, on every rank, or the engine's error, at its deadline.
        """
        names = sorted({name for name, _, _, is_scaled in entries if is_scaled and not cells.has(name)})
        news = b""
        if names or self._new_models:
            news = json.dumps([names, self._new_models], sort_keys=True).encode()
        if not names:
            cells.look(entries)
        merged = self._merged(cells, own, news)
        if merged[8]:
            cells.add(self._told(cells, news, merged))
            if names:
                cells.look(entries)
            merged = self._merged(cells, own, b"")
        cells.unpack(merged[_PART : _HEADER + 6 * len(cells)])
        self.agreements += 1
        return bool(merged[6]), bool(merged[7])

    def _merged(self, cells: _core.Cells, own: Own, news: bytes) -> bytes:
        """Returns the message of all ranks."""
        part = bytearray(_PART)
        part[0:2] = _beside(bytes([_VERSION]))
        part[2:4] = _beside(bytes([own.call]))
        part[4:6] = _beside(bytes([self.agreements % 256]))
        part[6], part[7], part[8] = own.is_infinite, own.is_checked, bool(news)
        numbers = {
            "package": _number(_VERSION),
            "call": bytes([own.call, self.agreements % 256]).ljust(8, b"\0"),
            "names": self._digest_of_names(cells),
            "options": _digest(struct.pack("<ddq", *own.options)),
            "scale": struct.pack("<fi", *own.scale),
        }
        part[16:64] = b"".join(_beside(numbers[what]) for what in ("names", "options", "scale"))
        part[64:80] = _beside(_digest(news))
        part[80:88] = _number(len(news))
        message = (bytes(part) + cells.pack()).ljust(_FIRST, b"\0")
        if len(message) > _FIRST and not self._has_met:
            self._check(cells, self._greatest(message[:_FIRST]), numbers)
        merged = self._greatest(message)
        self._check(cells, merged, numbers)
        self._has_met = True
        return merged

    def _digest_of_names(self, cells: _core.Cells) -> bytes:
        """Returns a digest of the names of the cells, of which there are only ever more."""
        count, digest = self._names
        if count != len(cells):
            digest = _digest("\0".join(cells.names()).encode())
            self._names = len(cells), digest
        return digest

    def _check(self, cells: _core.Cells, merged: bytes, numbers: dict[str, bytes]) -> None:
        """Raises where ranks differ, on all of them, since they have the same message; together they find out which does."""
        differs = {what for what, place in _PLACES if not _is_common(merged[place])}
        # Of another version, what is behind may be anything.
        in_cells = None if "package" in differs else cells.differs(merged[_PART:])
        if in_cells == "damaged":
            raise RuntimeError("the message of the processes was damaged on its way")
        if in_cells is not None:
            differs.add(in_cells)
        what = next((what for what in _DIFFERENCES if what in differs), None)
        if what is None:
            return
        text = _DIFFERENCES[what]
        if what == "digest":
            text, number = self._odd_cell(cells)
        elif what == "version":
            number = cells.pack()[:1].ljust(8, b"\0")
        else:
            counts = {"cells": len(cells), "config": cells.configuration(), "step": cells.steps}
            number = numbers[what] if what in numbers else _number(counts[what])
        told = self._gathered(number + _number(cells.steps))
        values = [of[:8] for of in told]
        odd = _odd(values)
        if what == "cells":
            here, there = (int.from_bytes(of, "little") for of in (values[odd], _another(values, odd)))
            text = f"the number of its cells, {here} where another one has {there}: did all load one state?"
        raise self._error(odd, told[odd][8:], text)

    def _odd_cell(self, cells: _core.Cells) -> tuple[str, bytes]:
        """Returns what the first difference is in, and this rank's digest of it."""
        parts = cells.parts()
        both = b"".join(_beside(digest.to_bytes(8, "little")) for _, digest in parts)
        greatest = self._greatest(both)
        for index, (name, digest) in enumerate(parts):
            if not _is_common(greatest[16 * index : 16 * index + 16]):
                text = "how many of them it skipped in a row" if name is None else f"the cell of {name!r}"
                return text, digest.to_bytes(8, "little")
        return _DIFFERENCES["digest"], bytes(8)

    def _error(self, rank: int, steps: bytes, what: str) -> RanksDiffer:
        return RanksDiffer(distributed.get_global_rank(self.group, rank), int.from_bytes(steps, "little"), what)

    def _told(self, cells: _core.Cells, news: bytes, merged: bytes) -> list[str]:
        """Returns the names that are new on any rank, and takes note of the models that layers are of."""
        everybodys = [news]
        if not _is_common(merged[64:80]):
            room = int.from_bytes(merged[80:88], "little")
            everybodys = [of.rstrip(b"\0") for of in self._gathered(news.ljust(room, b"\0"))]
        names: set[str] = set()
        models: list[dict[str, tuple[int, int]]] = []
        for told in everybodys:
            told_names, told_models = json.loads(told) if told else ([], {})
            names.update(told_names)
            models.append({name: (layers, digest) for name, (layers, digest) in told_models.items()})
        for name in sorted(set().union(*models)):
            self._check_model(cells, name, models)
        self._new_models.clear()
        return sorted(name for name in names if not cells.has(name))

    def _check_model(self, cells: _core.Cells, name: str, models: list[dict[str, tuple[int, int]]]) -> None:
        """Takes note of the model of a layer; raises where it is not the same on all ranks that use the layer."""
        ranks = [rank for rank, of in enumerate(models) if name in of]
        values, known = [models[rank][name] for rank in ranks], self._models.get(name)
        # All may have prepared their model anew.
        odd, other = _odd(values), known
        if len(set(values)) > 1:
            other = _another(values, odd)
        elif known is None or len(ranks) == len(models):
            other = values[odd]
        assert other is not None
        if values[odd] != other:
            steps = self._gathered(_number(cells.steps))
            text = f"its model: {name!r} is one of {values[odd][0]} prepared layers there, and of {other[0]} elsewhere"
            raise self._error(ranks[odd], steps[ranks[odd]], text)
        self._models[name] = other

    # The engine.

    def _greatest(self, message: bytes) -> bytes:
        """Returns the greatest of the bytes at each place."""
        merged = bytearray(message)
        on_host = torch.frombuffer(merged, dtype=torch.uint8)
        there = on_host.to(self._device)
        _recent.append(there)
        distributed.all_reduce(there, op=distributed.ReduceOp.MAX, group=self.group)
        if there is not on_host:
            on_host.copy_(there)
        return bytes(merged)

    def _gathered(self, message: bytes) -> list[bytes]:
        """Returns what each rank has to say, of one length."""
        mine = torch.frombuffer(bytearray(message), dtype=torch.uint8).to(self._device)
        told: list[Tensor] = [torch.empty_like(mine) for _ in range(self.size)]
        _recent.extend((mine, told))
        distributed.all_gather(told, mine, group=self.group)
        return [bytes(of.tolist()) for of in told]


def _device_of(group: distributed.ProcessGroup) -> torch.device:
    """Returns where a group takes tensors: on the host, if it does."""
    types = [torch.device(device).type for device in getattr(group, "_device_types", [])]
    return torch.device("cpu" if "cpu" in types or not types else types[0])


def _odd(values: Sequence[object]) -> int:
    """Returns which is not as the others: the first where most differ from it, else the first that differs from that."""
    differs = [value != values[0] for value in values]
    return 0 if 2 * sum(differs) > len(values) or not any(differs) else differs.index(True)


def _another(values: Sequence[_T], odd: int) -> _T:
    """Returns one that is not as that."""
    return next(value for value in values if value != values[odd])


def _number(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _digest(of: bytes) -> bytes:
    return hashlib.blake2b(of, digest_size=8).digest()


def _beside(number: bytes) -> bytes:
    """Returns a number and its complement."""
    return number + bytes(255 - byte for byte in number)


def _is_common(merged: bytes) -> bool:
    """Tells whether a number and its complement, merged, are those of every rank.

    The greatest of each byte and the greatest of its complement are complements only where the greatest is the least.
    """
    half = len(merged) // 2
    return all(byte + other == 255 for byte, other in zip(merged[:half], merged[half:]))
