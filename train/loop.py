"""The training loop: AdamW, linear warm-up, cosine decay, EMA, one state file after every epoch."""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fcos_edge.errors import CheckpointError, DataError, FcosEdgeError
from fcos_edge.train.config import TrainConfig
from fcos_edge.train.dataset import LabelledPicture
from fcos_edge.train.ema import Ema
from fcos_edge.train.loader import TrainingPictures, collate
from fcos_edge.train.losses import Losses, detection_losses, flatten_maps
from fcos_edge.train.model import Fcos
from fcos_edge.train.targets import Truth, assign, make_locations
from fcos_edge.writing import append_line, naming

STATE_FILE = "state.pt"
METRICS_FILE = "metrics.jsonl"


def train(
    config: TrainConfig,
    network: Fcos,
    pictures: Sequence[LabelledPicture],
    out_dir: Path,
    *,
    after_epoch: Callable[[int, Fcos], dict[str, Any]] | None = None,
    log: Callable[[str], None] = print,
    workers: int = 1,
) -> Fcos:
    """Train `network` in place and return the averaged copy.

    after_epoch  called with the epoch's number (from 1) and the average; what it returns is logged
    out_dir      gets `metrics.jsonl` and the state from which an interrupted run goes on

    Raises DataError without pictures, and CheckpointError where `out_dir` holds another run's state.
    """
    if not pictures:
        raise DataError("no pictures to train on; give a data set with pictures")
    device = next(network.parameters()).device
    torch.manual_seed(config.seed)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.backbone.freeze(config.freeze_stages)
    optimizer = make_optimizer(config, network)
    ema = Ema(network, config.optimizer.ema_decay)
    dataset = TrainingPictures(pictures, config.augment, config.seed)
    steps_per_epoch = max(len(pictures) // config.batch_size, 1)
    first_epoch = _restore(out_dir, config, network, ema, optimizer)
    for epoch in range(first_epoch, config.epochs):
        dataset.epoch = epoch
        dataset.input_hw = config.epoch_input_hw(epoch)
        loader: DataLoader[Any] = DataLoader(
            dataset, config.batch_size, sampler=_shuffled(len(pictures), config.seed, epoch),
            num_workers=workers, collate_fn=collate, drop_last=len(pictures) >= config.batch_size,
        )  # fmt: skip
        locations = make_locations(dataset.input_hw, config.network.strides, config.assign, device)
        started, sums, seen = time.monotonic(), torch.zeros(3), 0
        set_train_mode(network)
        batch: tuple[Tensor, Truth]
        for index, batch in enumerate(_batches(loader)):
            images, truth = batch
            step = epoch * steps_per_epoch + index
            set_learning_rate(optimizer, config, step, steps_per_epoch * config.epochs)
            maps = network(images.to(device, torch.float32).contiguous(memory_format=torch.channels_last))
            truth = Truth(*(part.to(device) for part in truth))
            targets = assign(truth, locations, config.assign.center_radius)
            predictions = flatten_maps(maps, config.network.level_names)
            losses = detection_losses(predictions, targets, locations, config.loss)
            _step(network, optimizer, losses, config.optimizer.clip_norm)
            ema.update(network)
            sums += torch.stack(losses).detach().cpu()
            seen += 1
            if index % 50 == 49:
                mean = [round(float(value), 4) for value in sums / seen]
                rate = seen * config.batch_size / (time.monotonic() - started)
                log(
                    f"epoch {epoch + 1}/{config.epochs} step {index + 1}/{steps_per_epoch}"
                    f" class, box, center-ness loss {mean} {rate:.1f} pictures/s"
                )
        row: dict[str, Any] = {
            "epoch": epoch + 1, "input_hw": dataset.input_hw, "seconds": round(time.monotonic() - started, 1),
            **{f"loss_{name}": float(value) for name, value in zip(Losses._fields, sums / seen, strict=True)},
        }  # fmt: skip
        if after_epoch is not None:
            row.update(after_epoch(epoch + 1, ema_network(ema)))
        log(json.dumps(row))
        with naming(out_dir / METRICS_FILE, "move the run's folder, and give it with --out"):
            append_line(out_dir / METRICS_FILE, json.dumps(row))
        _store(out_dir, config, network, ema, optimizer, epoch + 1)
    return ema_network(ema)


def ema_network(ema: Ema) -> Fcos:
    """The averaged network, typed."""
    assert isinstance(ema.network, Fcos)
    return ema.network


def set_train_mode(network: Fcos) -> None:
    """Training mode, but the backbone keeps its ImageNet batch statistics: batches here are small."""
    network.train()
    for module in network.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def make_optimizer(config: TrainConfig, network: Fcos) -> torch.optim.AdamW:
    """AdamW; no weight decay on vectors, a smaller rate for the backbone."""
    groups = []
    in_backbone = {id(parameter) for parameter in network.backbone.parameters()}
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for is_backbone, factor in ((True, config.optimizer.backbone_factor), (False, 1.0)):
        for is_vector, decay in ((True, 0.0), (False, config.optimizer.weight_decay)):
            chosen = [
                parameter for parameter in trained
                if (id(parameter) in in_backbone) == is_backbone and (parameter.ndim <= 1) == is_vector
            ]  # fmt: skip
            groups.append({"params": chosen, "weight_decay": decay, "factor": factor})
    return torch.optim.AdamW(groups, lr=config.optimizer.learning_rate)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, steps: int) -> None:
    """Linear warm-up, then half a cosine down to 1 %."""
    warmup = min((step + 1) / config.optimizer.warmup_steps, 1.0)
    cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
    for group in optimizer.param_groups:
        group["lr"] = config.optimizer.learning_rate * group["factor"] * warmup * cosine


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, losses: Losses, clip_norm: float) -> None:
    total = torch.stack(losses).sum()
    if not torch.isfinite(total):
        raise FloatingPointError(
            f"loss is {[float(value.detach()) for value in losses]}; lower the learning rate"
        )
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    optimizer.step()


def _batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """The loader's batches; an error about a picture comes as it was raised, without a worker's traceback."""
    try:
        yield from loader
    except FcosEdgeError as error:
        kind = type(error)
        *_, last_line = str(error).rstrip().splitlines()
        raise kind(last_line.removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")) from None


def _shuffled(count: int, seed: int, epoch: int) -> Sequence[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: Iterator[int] = iter(torch.randperm(count, generator=generator).tolist())
    return list(order)


def _store(
    out_dir: Path, config: TrainConfig, network: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer,
    epochs_done: int,
) -> None:  # fmt: skip
    """Write the training state; an older one is replaced only by a complete new one."""
    part = out_dir / f".{STATE_FILE}.part"
    state = {
        "config": json.dumps(config.to_dict()), "epochs_done": epochs_done, "ema_step": ema.step,
        "network": network.state_dict(), "ema": ema.network.state_dict(), "optimizer": optimizer.state_dict(),
    }  # fmt: skip
    # Through memory: torch does not say why it cannot write a file.
    content = io.BytesIO()
    torch.save(state, content)
    try:
        with naming(out_dir / STATE_FILE, "move the run's folder, and give it with --out"):
            part.write_bytes(content.getbuffer())
            os.replace(part, out_dir / STATE_FILE)
    finally:
        part.unlink(missing_ok=True)


def _restore(
    out_dir: Path, config: TrainConfig, network: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer
) -> int:
    """Load the state that `_store` wrote, if there is one; returns the epochs done."""
    path = out_dir / STATE_FILE
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = json.loads(state["config"])
    except Exception as error:  # torch raises many kinds for a broken file
        raise CheckpointError(
            f"{path}: not the state of a run ({type(error).__name__}); delete it to begin again"
        ) from None
    if found != json.loads(json.dumps(config.to_dict())):
        raise CheckpointError(f"{path}: the state of a run with another config; choose another --out")
    network.load_state_dict(state["network"])
    ema.network.load_state_dict(state["ema"])
    ema.step = state["ema_step"]
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epochs_done"])
