"""Spoilt documents by the thousand: each is read, or refused by an error of ours on one short line.

A usual run has the same cases everywhere. FCOS_EDGE_FUZZ_CASES sets how many each test has, and they are
new ones each time; 100000 checkpoints take half an hour. What a failing test notes last is its case:
`Random("<seed> <index>")` makes it again.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from fcos_edge.artifact import dump_document, parse_document
from fcos_edge.bundle import MANIFEST_NAME, dump_manifest, parse_manifest, read_manifest
from fcos_edge.errors import FcosEdgeError
from fcos_edge.spec import ModelSpec
from fcos_edge.train.checkpoint import HEADER_KEY, load_checkpoint, save_checkpoint
from tests.bad_input.mutations import mutate
from tests.small_checkpoint import small_checkpoint
from tests.test_artifact import DOCUMENT
from tests.test_bundle import MANIFEST

LONGEST_MESSAGE = 600
# Of this process, so that a busy machine does not count.
MOST_SECONDS = 2.0
MOST_BYTES = 2 << 30
# Hypothesis takes longer to choose a seed than a document takes to be read.
BATCH = 20

MANIFEST_DOCUMENT = json.loads(dump_manifest(MANIFEST))
seeds = st.integers(0, 2**64 - 1)


def cases(usual: int) -> settings:
    """As many cases as FCOS_EDGE_FUZZ_CASES says; there is no simpler seed to look for."""
    wanted = os.environ.get("FCOS_EDGE_FUZZ_CASES")
    return settings(
        deadline=None,
        database=None,
        derandomize=wanted is None,
        max_examples=-(-int(wanted or usual) // BATCH),
        phases=[Phase.generate],
    )


def randoms(seed: int) -> Iterator[Random]:
    """What decides the cases of one example."""
    for index in range(BATCH):
        note(f"{seed} {index}")
        yield Random(f"{seed} {index}")


@pytest.fixture(autouse=True, scope="module")
def _little_memory() -> Iterator[None]:
    """A document that claims gigabytes ends in a MemoryError here, and not in a machine that swaps."""
    status = Path("/proc/self/statm")
    if not status.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(status.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MOST_BYTES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def read_or_refused(read: Callable[[Any], Any], spoilt: Any) -> Any:
    """What `read` makes of something spoilt, or None where it refuses as it should."""
    began = time.process_time()
    try:
        return read(spoilt)
    except FcosEdgeError as error:
        message = str(error)
        assert len(message.splitlines()) == 1
        assert len(message) <= LONGEST_MESSAGE
        return None
    finally:
        assert time.process_time() - began < MOST_SECONDS


@pytest.mark.slow
@given(seed=seeds)
@cases(40_000)
def test_fuzz__spec_and_artifact_document(seed: int) -> None:
    for random in randoms(seed):
        content = mutate(DOCUMENT, random)
        found = read_or_refused(parse_document, content)
        if found is not None:
            assert parse_document(dump_document(*found)) == found


@pytest.mark.slow
@given(seed=seeds)
@cases(19_000)
def test_fuzz__spec_alone(seed: int) -> None:
    for random in randoms(seed):
        try:
            document = json.loads(mutate(DOCUMENT["spec"], random))
        except (ValueError, RecursionError):
            continue
        spec = read_or_refused(ModelSpec.from_dict, document)
        if spec is not None:
            assert ModelSpec.from_dict(spec.to_dict()) == spec
            assert spec.num_locations > 0


@pytest.mark.slow
@given(seed=seeds)
@cases(40_000)
def test_fuzz__manifest(seed: int) -> None:
    for random in randoms(seed):
        content = mutate(MANIFEST_DOCUMENT, random)
        found = read_or_refused(parse_manifest, content)
        if found is not None:
            assert parse_manifest(dump_manifest(found)) == found


@given(seed=seeds)
@cases(1_000)
def test_fuzz__manifest_file(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz-manifest"
    folder.mkdir(exist_ok=True)
    for random in randoms(seed):
        (folder / MANIFEST_NAME).write_bytes(mutate(MANIFEST_DOCUMENT, random))
        read_or_refused(read_manifest, folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz") / "small.safetensors"
    save_checkpoint(path, small_checkpoint())
    return path


@pytest.mark.slow
@given(seed=seeds)
@cases(1_000)
def test_fuzz__checkpoint_header(seed: int, checkpoint: Path) -> None:
    spoilt = checkpoint.with_name("spoilt.safetensors")
    for random in randoms(seed):
        _spoil_checkpoint(checkpoint, spoilt, random)
        found = read_or_refused(load_checkpoint, spoilt)
        if found is not None:
            # What was accepted can be written, and shown by `inspect --json`.
            for part in (found.metrics, found.config, found.record):
                json.dumps(part, allow_nan=False)


def _spoil_checkpoint(checkpoint: Path, spoilt: Path, random: Random) -> None:
    """Our header, safetensors' own, or the eight bytes in front of it; the weights are zeros."""
    content = checkpoint.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    framing = json.loads(content[8 : 8 + length])
    if random.random() < 0.7:
        ours = mutate(json.loads(framing["__metadata__"][HEADER_KEY]), random)
        framing["__metadata__"][HEADER_KEY] = ours.decode("utf-8", "replace")
        header = json.dumps(framing).encode()
    else:
        header = mutate(framing, random)
    length, tail = len(header), len(content) - 8 - length
    if random.random() < 0.1:
        length = random.choice(
            (0, 1, length - 1, length + 1, length * 2, 2**27, 2**31, 2**40, 2**63, 2**64 - 1)
        )
    if random.random() < 0.1:
        tail = random.choice((0, 1, tail - 1, tail + 1, tail // 2))
    with spoilt.open("wb") as file:
        file.write(struct.pack("<Q", length) + header)
        # A hole takes no time to write, and no room on the disk.
        file.truncate(8 + len(header) + tail)
