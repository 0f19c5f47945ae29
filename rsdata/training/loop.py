"""One run: a network trained on a shard with one seed, from the first step or from where it was stopped.

AdamW, a linear warm-up and a cosine down to zero; the weights of the epoch with the best validation figure of the task
are kept and meet the test split once, at the end. What a step depends on is saved now and then (weights, optimiser,
schedule, random numbers, place in the data), so a run that was killed ends as if it had not been.
"""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from rsdata.errors import TrainingError
from rsdata.recipe import Training
from rsdata.records import EpochLog, Scores
from rsdata.training.dataset import PatchDataset
from rsdata.training.inference import loader_workers, score_dataset
from rsdata.training.loading import PatchLoader
from rsdata.training.logs import RunLog
from rsdata.training.progress import TrainingProgress
from rsdata.training.ranks import Ranks
from rsdata.training.tasks import Task
from rsdata.writing import writing

STATE_NAME = "state.pt"  # what a stopped run goes on from; gone once it has ended
_WARM_UP = 0.1  # share of all steps over which the learning rate rises, if the options do not say
_Batch = tuple[Tensor, Tensor]


@dataclass
class Standing:
    """How far a run has come, beside weights and optimiser."""

    epoch: int = 1  # that is under way, from 1
    seconds: float = 0.0  # spent on it before the run was stopped
    loss: float = 0.0  # of it, summed over what it is the mean of
    weight: float = 0.0
    logs: list[EpochLog] = field(default_factory=list)
    best_epoch: int = 0
    best_rank: tuple[float, float] = (-math.inf, -math.inf)
    best_weights: dict[str, Tensor] = field(default_factory=dict)  # on the CPU

    def stopped_early(self, patience: int | None) -> bool:
        return patience is not None and len(self.logs) - self.best_epoch >= patience


class Run:
    """A network in training; ``fit`` does all that is left of it."""

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        training: PatchDataset,
        validation: PatchDataset,
        options: Training,
        seed: int,
        ranks: Ranks,
        folder: Path,
        key: str,
        save_every_s: float,
    ) -> None:
        """Args: key: digest of what decides the result; a state that was saved under another is not gone on from.

        Raises: TrainingError if the batches cannot be shared out.
        """
        self.task, self.network, self.validation, self.options, self.ranks = task, network, validation, options, ranks
        self.state_path, self._key, self._save_every_s = folder / STATE_NAME, key, save_every_s
        parts = options.accumulate * ranks.size
        if options.batch_size % parts:
            raise TrainingError(
                f"batches of {options.batch_size} cannot be shared out to {ranks.size} processes in {options.accumulate} parts each; "
                f"choose a multiple of {parts} as batch_size",
                batch_size=options.batch_size,
            )
        part, patches = options.batch_size // parts, -(-len(training) // ranks.size)
        self.loader = PatchLoader(
            training,
            part,
            shuffle=True,
            seed=seed,
            workers=loader_workers(ranks.device),
            rank=ranks.rank,
            world_size=ranks.size,
            # a last batch of one patch has no spread for batch normalisation; another order drops another patch
            drop_last=patches > part and patches % part == 1,
        )
        self.loader.epoch = 1
        self.steps_per_epoch = -(-len(self.loader) // options.accumulate)
        self.optimizer = AdamW(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
        steps = options.epochs * self.steps_per_epoch
        self.schedule = LambdaLR(self.optimizer, lambda step: learning_rate_factor(step, steps, options.warm_up_steps))
        self._type = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[options.precision]
        if options.precision == "float16" and ranks.device.type == "cpu":
            raise TrainingError("float16 is for GPUs, and there is none; choose bfloat16 or float32 as precision")
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=options.precision == "float16")
        self.at = Standing()
        # a quarter faster on a CPU than the default order; and before gradients are shared, which goes by the order in memory
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._trained: nn.Module = network
        if ranks.size > 1:
            self._trained = DistributedDataParallel(network, device_ids=[ranks.device] if ranks.device.type == "cuda" else None)

    def fit(self, log: RunLog, progress: TrainingProgress) -> Standing:
        """Train from where the run stands to its end.

        Raises: TrainingError if the loss stops being a number.
        """
        at, options = self.at, self.options
        self._saved_s = time.monotonic()
        with self.loader, progress.running(options.epochs, self.steps_per_epoch):
            while at.epoch <= options.epochs and not at.stopped_early(options.patience):
                self._started_s = time.perf_counter() - at.seconds
                self._train_epoch(progress)
                scores = score_dataset(self.task, self.network, self.validation) if len(self.validation) else None
                scores = self.ranks.from_first(scores)
                self._judge(scores)
                entry = EpochLog(
                    epoch=at.epoch,
                    train_loss=at.loss / max(at.weight, 1e-12),
                    validation=scores,
                    learning_rate=float(self.schedule.get_last_lr()[0]),
                    seconds=round(time.perf_counter() - self._started_s, 3),
                )
                at.logs.append(entry)
                at.epoch, at.seconds, at.loss, at.weight = at.epoch + 1, 0.0, 0.0, 0.0
                if self.ranks.first:
                    log.add(entry)
                progress.epoch(entry)
                self._save_now_and_then()
        return at

    def _train_epoch(self, progress: TrainingProgress) -> None:
        self._trained.train()
        step = self.loader.state_dict()["batches"] // self.options.accumulate
        batches = iter(self.loader)
        while parts := list(islice(batches, self.options.accumulate)):
            loss = self._step(parts)
            step += 1
            if not math.isfinite(loss):
                raise TrainingError(f"the loss became {loss} in batch {step}; choose a smaller learning_rate", batch=step, loss=loss)
            progress.batch(self.at.epoch, step, loss)
            if step < self.steps_per_epoch:
                self._save_now_and_then()
            parts.clear()  # gives their memory back to the loader

    def _step(self, parts: list[_Batch]) -> float:
        """One step of the optimiser on all parts of a batch, wherever they are; returns the mean loss.

        Each part's loss counts by what it is the mean of, so a batch in parts gives the gradient of the whole one.
        """
        device = self.ranks.device
        weights = [self.task.weight(targets) for _, targets in parts]
        total = max(self.ranks.total(sum(weights)), 1e-12)
        self.optimizer.zero_grad()
        summed = 0.0
        for number, (pixels, targets) in enumerate(parts):
            last = number == len(parts) - 1
            waits = isinstance(self._trained, DistributedDataParallel) and not last
            with self._trained.no_sync() if waits else nullcontext():  # type: ignore[operator]
                on_device = targets.to(device)
                with torch.autocast(device.type, self._type, enabled=self._type != torch.float32):
                    answer = self.task.answer(self._trained, pixels.to(device, memory_format=torch.channels_last), on_device)
                answer = answer.float() if isinstance(answer, Tensor) else answer
                loss = self.task.loss(answer, on_device)
                # gradients are averaged over processes, so the share is of one process's mean
                self.scaler.scale(loss * (weights[number] * self.ranks.size / total)).backward()
                summed += loss.item() * weights[number]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        summed = self.ranks.total(summed)
        self.at.loss, self.at.weight = self.at.loss + summed, self.at.weight + total
        return summed / total

    def _judge(self, scores: Scores | None) -> None:
        """Keep the weights if they are the best so far."""
        # without validation patches there is nothing to choose by, so the last epoch wins; equal figures go by loss
        rank = (float(self.at.epoch), 0.0) if scores is None else (next(iter(scores.figures().values())), -scores.loss)
        if rank > self.at.best_rank:
            self.at.best_epoch, self.at.best_rank = self.at.epoch, rank
            self.at.best_weights = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}

    # --- state ------------------------------------------------------------------------------------------------

    def _save_now_and_then(self) -> None:
        due = time.monotonic() - self._saved_s >= self._save_every_s
        if not self.ranks.from_first(due):
            return
        own = {"loader": self.loader.state_dict(), "cpu": torch.get_rng_state()}
        if self.ranks.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self.ranks.device)
        each = self.ranks.gathered(own)
        if self.ranks.first:
            at = self.at
            started = at.loss or at.weight
            state = {
                "key": self._key, "each": each, "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(), "scaler": self.scaler.state_dict(), "epoch": at.epoch,
                "seconds": time.perf_counter() - self._started_s if started else 0.0, "loss": at.loss, "weight": at.weight,
                "logs": [log.model_dump_json() for log in at.logs], "best_epoch": at.best_epoch, "best_rank": at.best_rank,
                "best_weights": at.best_weights,
            }  # fmt: skip
            with writing(self.state_path) as aside:
                torch.save(state, aside)
        self._saved_s = time.monotonic()

    def resume(self) -> str | None:
        """Go on from the saved state, if there is one of this run; say so, in words."""
        if not self.state_path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.state_path, map_location="cpu", weights_only=True)
            if state["key"] != self._key or len(state["each"]) != self.ranks.size:
                return f"{self.state_path.name} is of a run with other options, another shard or other processes: this one begins anew"
            own = state["each"][self.ranks.rank]
            self.loader.load_state_dict(own["loader"])
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.scaler.load_state_dict(state["scaler"])
            torch.set_rng_state(own["cpu"])
            if "cuda" in own:
                torch.cuda.set_rng_state(own["cuda"], self.ranks.device)
            self.at = Standing(
                state["epoch"], state["seconds"], state["loss"], state["weight"],
                [EpochLog.model_validate_json(log) for log in state["logs"]],
                state["best_epoch"], tuple(state["best_rank"]), state["best_weights"],
            )  # fmt: skip
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TrainingError(
                f"{self.state_path} cannot be gone on from: {reason}; delete it to begin anew", path=str(self.state_path)
            ) from error
        return f"goes on in epoch {self.at.epoch} after {own['loader']['batches']} batches"


def learning_rate_factor(step: int, steps: int, warm_up: int | None = None) -> float:
    """Share of the learning rate at a step: rises linearly over the first steps, a tenth if not said, then falls to zero as a cosine."""
    warm_up = max(1, round(steps * _WARM_UP)) if warm_up is None else warm_up
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
