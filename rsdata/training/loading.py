"""Batches of a dataset, epoch after epoch: shuffled by a seed, read ahead by threads or processes, into memory that is used again.

Fresh memory for every batch would cost more than reading it, so a batch's memory comes back when its caller has dropped the
tensor and every view of it, and not before.
"""

import math
import multiprocessing
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from ctypes import c_uint8
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rsdata.errors import TrainingError

Workers = Literal["threads", "fork", "spawn", "forkserver"]
_MOST_FREE = 16  # batches' worth of memory that are kept for later
_AHEAD = 2  # batches read ahead, for each worker
_SPARE = 3  # batches the caller may hold beside those before they are copied, where memory is shared with processes
_LINE_BYTES = 64
_Memory = npt.NDArray[np.uint8]
_Places = npt.NDArray[np.int64]
Batch = TypeVar("Batch")
_Batch = TypeVar("_Batch", covariant=True)


class BatchDataset(Protocol[_Batch]):
    """What a loader asks of a dataset: to write batches into memory that the loader keeps."""

    def __len__(self) -> int: ...

    def batch_bytes(self, count: int) -> int:
        """Memory that a batch of so many needs."""

    def fill(self, places: _Places, memory: _Memory, epoch: int) -> None:
        """Write a batch into memory of ``batch_bytes``; called in worker threads or processes."""

    def batch(self, memory: Tensor, places: _Places, epoch: int) -> _Batch:
        """What the caller of a loader gets of memory, (byte,) uint8, that ``fill`` wrote."""


class BufferPool:
    """Memory that is lent as tensors and comes back by itself once nothing refers to it.

    A tensor keeps the array it was made from alive, and so does everything that shares its memory: views, slices, numpy
    arrays made from it. When that array dies, its memory is free.
    """

    def __init__(self, fixed: list[_Memory] | None = None) -> None:
        """Args: fixed: all the memory there is; without it, memory is made whenever none is free."""
        self._free: deque[_Memory] = deque(fixed or [])
        self._grows = fixed is None
        self._lent: dict[int, weakref.ref[npt.NDArray[Any]]] = {}

    def __len__(self) -> int:
        """How many are free."""
        return len(self._free)

    def take(self, size: int) -> _Memory | None:
        """Memory of at least ``size`` bytes, None if there is none and no more is made."""
        while self._free:
            memory = self._free.popleft()
            if memory.nbytes >= size:
                return memory
        return _new(size) if self._grows else None

    def put(self, memory: _Memory) -> None:
        self._free.append(memory)

    def lend(self, memory: _Memory, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """The beginning of some memory as a tensor; it is free again when the tensor and all that shares it are gone."""
        lease = _shaped(memory, shape, dtype)
        number = id(lease)

        def back(_: object) -> None:
            del self._lent[number]
            if not self._grows or len(self._free) < _MOST_FREE:
                self._free.append(memory)

        self._lent[number] = weakref.ref(lease, back)
        return torch.from_numpy(lease)


def _new(size: int) -> _Memory:
    """Memory that begins where a cache line does, so that compiled code may write past the cache."""
    room = np.empty(size + _LINE_BYTES, np.uint8)
    return room[-room.ctypes.data % _LINE_BYTES :][:size]


def _shaped(memory: _Memory, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return memory[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


class PatchLoader(Generic[Batch]):
    """Batches of a dataset, on the CPU: of patches (pixels, targets), (patch, band, y, x) and (patch, class); of series ``CubeBatch``.

    Each pass is one epoch and raises ``epoch`` by one when it ends; a pass that is broken off is begun anew by the next.
    The order depends on seed and epoch alone, not on workers.

    With several ranks each takes every so-manieth patch of one common order, which begins again from its start where it does
    not divide evenly, so all ranks have as many batches.

    Memory is used again when a batch is dropped. Copies to a GPU with ``non_blocking=True`` are safe, as the memory is not pinned.
    """

    def __init__(
        self,
        dataset: BatchDataset[Batch],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        workers: int = 0,
        kind: Workers = "threads",
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """Args:
            workers: how many read ahead; with none, each batch is read when it is asked for.
            kind: of workers; threads share everything and need no copies, as reading runs without Python's lock.
            rank, world_size: which share of the patches; those of ``torch.distributed`` if it runs, else all.

        Raises: TrainingError if a number is out of range.
        """
        if world_size is None:
            running = torch.distributed.is_available() and torch.distributed.is_initialized()
            rank, world_size = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if running else (0, 1)
        if batch_size < 1 or workers < 0 or rank is None or not 0 <= rank < world_size:
            raise TrainingError(f"no loader has batches of {batch_size}, {workers} workers and rank {rank} of {world_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.epoch = 0
        self._shuffle, self._seed, self._rank, self._world_size = shuffle, seed, rank, world_size
        self._workers, self._kind = workers, kind
        self._given = 0  # batches of this epoch that the caller has got
        self._resume_at = 0
        self._executor: Executor | None = None
        self._slots: dict[int, int] = {}  # address of shared memory to its number
        self._pool = BufferPool()

    def __len__(self) -> int:
        """Batches in an epoch."""
        patches = -(-len(self.dataset) // self._world_size)
        return patches // self.batch_size if self.drop_last else -(-patches // self.batch_size)

    def __enter__(self) -> "PatchLoader[Batch]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers; batches that were handed out stay good."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def state_dict(self) -> dict[str, int | bool]:
        """Where the loader stands, after the batch that was handed out last."""
        return self._settings() | {"epoch": self.epoch, "batches": self._given}

    def load_state_dict(self, state: dict[str, int | bool]) -> None:
        """Go on where another loader stood: the next pass gives what was left of its epoch.

        Raises: TrainingError if that loader had other patches, order or batches.
        """
        differing = [name for name, value in self._settings().items() if state.get(name) != value]
        if differing:
            raise TrainingError(f"the state is of a loader with another {', '.join(differing)}; make this one alike", differing=differing)
        self.epoch, self._resume_at = int(state["epoch"]), int(state["batches"])
        self._given = self._resume_at

    def _settings(self) -> dict[str, int | bool]:
        return {
            "patches": len(self.dataset), "batch_size": self.batch_size, "drop_last": self.drop_last, "shuffle": self._shuffle,
            "seed": self._seed, "rank": self._rank, "world_size": self._world_size,
        }  # fmt: skip

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """This rank's patches in an epoch, as places in the dataset."""
        count = len(self.dataset)
        order = np.random.default_rng((self._seed, epoch)).permutation(count) if self._shuffle else np.arange(count)
        return np.resize(order, -(-count // self._world_size) * self._world_size)[self._rank :: self._world_size]

    def __iter__(self) -> Iterator[Batch]:
        epoch, order, first = self.epoch, self.order(self.epoch), self._resume_at
        self._resume_at, self._given = 0, first
        waiting = deque(order[at * self.batch_size : (at + 1) * self.batch_size] for at in range(first, len(self)))
        size = self.dataset.batch_bytes(self.batch_size)
        self._start(size)
        ahead = max(1, self._workers * _AHEAD)
        pending: deque[tuple[Future[None] | None, _Memory, npt.NDArray[np.int64]]] = deque()
        try:
            while waiting or pending:
                while waiting and len(pending) < ahead and (memory := self._pool.take(size)) is not None:
                    places = waiting.popleft()
                    pending.append((self._submit(places, memory, epoch), memory, places))
                if not pending:
                    raise TrainingError("two passes over one loader with worker processes run at once; make a loader for each")
                future, memory, places = pending.popleft()
                try:
                    if future is not None:
                        future.result()
                except BaseException as error:
                    self._pool.put(memory)
                    if isinstance(error, BrokenExecutor):
                        raise TrainingError("a worker process of the loader died, perhaps for want of memory; use fewer workers") from error
                    raise
                self._given += 1
                if not waiting and not pending:
                    self.epoch, self._given = epoch + 1, 0
                # not kept in a variable, which would keep the memory from coming back
                yield self.dataset.batch(self._hand_out(memory, len(places), ahead - len(pending)), places, epoch)
        finally:
            for future, memory, _ in pending:  # a pass that was broken off: its memory is free only when nobody writes to it any more
                if future is not None and not future.cancel():
                    future.exception()
                self._pool.put(memory)

    def _submit(self, places: _Places, memory: _Memory, epoch: int) -> Future[None] | None:
        if self._executor is None:
            self.dataset.fill(places, memory, epoch)
            return None
        if self._kind == "threads":
            return self._executor.submit(self.dataset.fill, places, memory, epoch)
        return self._executor.submit(_read_in_process, places, self._slots[memory.ctypes.data], epoch)

    def _hand_out(self, memory: _Memory, count: int, needed: int) -> Tensor:
        """A batch's memory as a tensor; a copy of it if the caller holds so many that workers would find no shared memory free."""
        size = self.dataset.batch_bytes(count)
        if self._slots and len(self._pool) < needed:
            copy = torch.from_numpy(memory[:size].copy())
            self._pool.put(memory)
            return copy
        return self._pool.lend(memory, (size,), np.dtype(np.uint8))

    def _start(self, size: int) -> None:
        if self._executor is not None or not self._workers:
            return
        if self._kind == "threads":
            self._executor = ThreadPoolExecutor(self._workers, "rsdata-loader")
            return
        context = multiprocessing.get_context(self._kind)
        shared = [context.RawArray(c_uint8, size) for _ in range(self._workers * _AHEAD + _SPARE)]
        memory = [np.frombuffer(memoryview(each), np.uint8) for each in shared]
        self._slots = {each.ctypes.data: number for number, each in enumerate(memory)}
        self._pool = BufferPool(memory)
        self._executor = ProcessPoolExecutor(self._workers, context, initializer=_begin_process, initargs=(self.dataset, shared))


_OF_PROCESS: list[tuple[BatchDataset[Any], list[_Memory]]] = []  # what a worker process was given


def _begin_process(dataset: BatchDataset[Any], shared: list[Any]) -> None:
    torch.set_num_threads(1)
    _OF_PROCESS[:] = [(dataset, [np.frombuffer(memoryview(each), np.uint8) for each in shared])]


def _read_in_process(places: npt.NDArray[np.int64], slot: int, epoch: int) -> None:
    dataset, memory = _OF_PROCESS[0]
    dataset.fill(places, memory[slot], epoch)
