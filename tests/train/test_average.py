"""The mean of checkpoints: its weights, what it says of itself, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcos_edge.bundle import sha256_of
from fcos_edge.errors import UsageError
from fcos_edge.train.average import average, main, mean_weights
from fcos_edge.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fcos_edge.train.model import Fcos
from fcos_edge.train.run import LICENSED
from tests.small_checkpoint import small_checkpoint


def _saved(path: Path, checkpoint: Checkpoint) -> Path:
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="module")
def run_paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs of one network, on two data sets."""
    folder, paths = tmp_path_factory.mktemp("runs"), []
    for seed, data in enumerate(("x", "y", "x")):
        one = small_checkpoint()
        torch.manual_seed(seed)
        spec = replace(one.spec, name=f"run{seed}", provenance={"data": [data], LICENSED: "some"})
        config = {"seed": seed, "made_from": [{"path": data}]}
        network = Fcos(one.network_config).eval()
        paths.append(
            _saved(folder / f"{seed}.safetensors", replace(one, network=network, spec=spec, config=config))
        )
    return paths


def test_average__each_tensor_is_the_mean(run_paths: list[Path]) -> None:
    states = [load_checkpoint(path).network.state_dict() for path in run_paths]
    for name, value in average(run_paths).network.state_dict().items():
        if value.is_floating_point():
            wanted = torch.stack([state[name].double() for state in states]).sum(0) / 3
            # One rounding to float32.
            torch.testing.assert_close(value.double(), wanted, rtol=1e-7, atol=1e-12)


def test_mean_weights__integers_are_the_firsts() -> None:
    states = [{"w": torch.tensor([1.0, 2.0]) * i, "n": torch.tensor(i)} for i in (1, 3)]
    found = mean_weights(states)
    assert found["w"].tolist() == [2.0, 4.0]
    assert (found["n"].item(), found["n"].dtype) == (1, torch.int64)


def test_average__says_what_it_is_of_and_nothing_that_held_of_the_runs(
    run_paths: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "mean.safetensors"
    assert main([*map(str, run_paths), "--out", str(out)]) == 0
    found, first = load_checkpoint(out), load_checkpoint(run_paths[0])
    assert (found.network_config, found.spec.name) == (first.network_config, "run0")
    assert found.operating_thresholds == (0.5, 0.5)
    assert (dict(found.metrics), found.record, found.sensitivity) == ({}, None, None)
    assert found.config["seed"] == 0
    assert found.config["made_from"] == [{"path": "x"}, {"path": "y"}]
    assert [row["file"] for row in found.config["averaged_from"]] == [path.name for path in run_paths]
    assert [row["sha256"] for row in found.config["averaged_from"]] == [sha256_of(p) for p in run_paths]
    assert found.spec.provenance["data"] == ["x", "y"]
    assert found.spec.provenance[LICENSED] == "some"
    assert str(tmp_path.parent).encode() not in out.read_bytes()  # no path of this machine


def test_average__a_run_with_other_pictures_takes_the_licence_away(
    run_paths: list[Path], tmp_path: Path
) -> None:
    free = load_checkpoint(run_paths[1])
    other = _saved(
        tmp_path / "x.safetensors", replace(free, spec=replace(free.spec, provenance={"data": ["z"]}))
    )
    for paths in ([run_paths[0], other], [other, run_paths[0]], [run_paths[0], other, run_paths[2]]):
        assert LICENSED not in average(paths).spec.provenance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: replace(c, spec=replace(c.spec, nms_iou=0.5)),
            "x.safetensors: its nms_iou is 0.5, that of 0.safetensors 0.6; give checkpoints of one network",
        ),
        (
            lambda c: replace(c, spec=replace(c.spec, classes=("b", "a"))),
            "its classes is ['b', 'a'], that of",
        ),
        (
            lambda c: replace(
                c,
                network_config=replace(c.network_config, tower_depth=2),
                network=Fcos(replace(c.network_config, tower_depth=2)),
            ),
            "its tower_depth is 2, that of 0.safetensors 1",
        ),
    ],
)
def test_average__of_another_network_or_spec(
    run_paths: list[Path], tmp_path: Path, change: Callable[[Checkpoint], Checkpoint], message: str
) -> None:
    other = _saved(tmp_path / "x.safetensors", change(load_checkpoint(run_paths[1])))
    with pytest.raises(UsageError, match=r"^[^\n]*$") as error:
        average([run_paths[0], other])
    assert message in str(error.value)


def test_average__wrong_arguments(
    run_paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_paths[0]), "--out", str(tmp_path / "out")]) == 2
    assert "one checkpoint has no mean; give two or more" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    there = tmp_path / "there"
    shutil.copy(run_paths[0], there)
    assert main([*map(str, run_paths), "--out", str(there)]) == 2
    assert "is there already; name another file" in capsys.readouterr().err
    assert there.read_bytes() == run_paths[0].read_bytes()
