"""What networks that share the cores of a process cost each other, as the runtimes come and as we set them.

    python benchmarks/sharing_cores.py street8-lite0-320

waiting   ONNX Runtime, int8 alone, in turns with fp32, and after pauses of 30 ms, as many threads as cores:
          its threads wait for the next run spinning, on the cores that the other network is computing on.
          We limit that. "CPU" is what a picture costs of all cores, the pause included.
pauses    the same pauses in every runtime with one thread and with as many as cores, as we set it
pinning   OpenVINO, two networks of one thread that run at the same time: each pins its thread to the first
          core. We let them go where there is room.
turns     two detectors of as many threads as cores that run at the same time: their threads wait for each
          other. We let them take turns (fcos_edge/threads.py).

No targets: the reasons for three of our settings.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conditions import Table, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_int
from fcos_edge.bundle import read_manifest
from fcos_edge.errors import UsageError
from fcos_edge.loading import open_artifact
from fcos_edge.runtime import UInt8Array, find_runtime, installed_package
from fcos_edge.threads import SharedCores, default_threads
from networks import RUNTIME_OF
from timing import WARM_UP_CALLS, median_times

PAUSE_S = 0.03
Call = Callable[[], object]


def run(args: argparse.Namespace) -> None:
    cores = default_threads()
    if cores < 2:
        raise UsageError("one core has nothing to share; run it on a machine with two or more")
    spec = read_manifest(args.bundle).spec
    images = np.random.default_rng(0).integers(0, 256, (1, *spec.input_hw, 3), np.uint8)
    conditions = measure_conditions(cores, {"rounds": args.rounds, "seconds": args.seconds})
    figures: dict[str, Any] = {}
    rows: list[Sequence[object]] = []
    if _is_installed("onnxruntime"):
        for name, is_limited in (("as it comes", False), ("limited", True)):
            times_ms = _waiting(args.bundle, images, cores, is_limited, args.rounds)
            figures[f"waiting, {name}"] = times_ms
            rows += [("waiting", name, what, f"{value:.1f} ms") for what, value in times_ms.items()]
    if _is_installed("openvino"):  # before any network that is not pinned: it frees all others
        for name, is_pinned in (("as it comes", True), ("not pinned", False)):
            calls = [_openvino_call(args.bundle, images, is_pinned) for _ in range(2)]
            rate = _rate(calls, args.seconds)
            figures[f"pinning, {name}"] = rate
            rows.append(("pinning", name, "two networks of one thread", f"{rate:.0f} pictures/s"))
    for runtime in filter(_is_installed, RUNTIME_OF.values()):
        for threads in (1, cores):
            call = _shared_call(args.bundle, images, runtime, threads, SharedCores(cores))
            latency_ms, cpu_ms = _after_pauses(call, args.rounds)
            figures[f"pauses, {runtime}, {threads}"] = {"latency_ms": latency_ms, "cpu_ms": cpu_ms}
            what = f"{runtime}, threads: {threads}"
            rows.append(("pauses", "limited", what, f"{latency_ms:.1f} ms, {cpu_ms:.0f} ms of CPU"))
    for runtime in filter(_is_installed, RUNTIME_OF.values()):
        for name, shared in (("at once", SharedCores(2 * cores)), ("in turns", SharedCores(cores))):
            calls = [_shared_call(args.bundle, images, runtime, cores, shared) for _ in range(2)]
            rate = _rate(calls, args.seconds)
            figures[f"turns, {runtime}, {name}"] = rate
            rows.append(("turns", name, f"{runtime}, two of {cores} threads", f"{rate:.0f} pictures/s"))
    table = Table("int8", ("setting", "how", "what", "measured"), rows)
    report("sharing_cores", conditions, [], [table], figures, args.json)


def _waiting(bundle: Path, images: UInt8Array, cores: int, is_limited: bool, rounds: int) -> dict[str, float]:
    """Milliseconds of int8 alone, after pauses, and in turns with fp32."""
    int8 = _onnxruntime_call(bundle, "int8", images, cores, is_limited)
    alone_us = median_times({"int8": int8}, rounds, 20)["int8"]
    paused_ms, cpu_ms = _after_pauses(int8, rounds)
    fp32 = _onnxruntime_call(bundle, "fp32", images, cores, is_limited)
    in_turns_ms = []
    for _ in range(rounds * 20):
        fp32()
        start = time.perf_counter_ns()
        int8()
        in_turns_ms.append((time.perf_counter_ns() - start) / 1e6)
    return {
        "int8 alone": statistics.median(alone_us) / 1e3,
        "int8 after fp32": statistics.median(in_turns_ms),
        "int8 after a pause": paused_ms,
        "CPU of that": cpu_ms,
    }


def _after_pauses(call: Call, rounds: int) -> tuple[float, float]:
    """Milliseconds of a call after a pause, and of CPU for both."""
    for _ in range(WARM_UP_CALLS):
        call()
    times_ms = []
    cpu = time.process_time()
    for _ in range(rounds * 20):
        time.sleep(PAUSE_S)
        start = time.perf_counter_ns()
        call()
        times_ms.append((time.perf_counter_ns() - start) / 1e6)
    return statistics.median(times_ms), (time.process_time() - cpu) / len(times_ms) * 1e3


def _onnxruntime_call(bundle: Path, precision: str, images: UInt8Array, cores: int, is_limited: bool) -> Call:
    import onnxruntime

    from fcos_edge.runtimes.onnxruntime import LIMITED_SPINNING

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    for key, value in (LIMITED_SPINNING if is_limited else {}).items():
        options.add_session_config_entry(key, value)
    path = bundle / f"model.{precision}.onnx"
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})


def _openvino_call(bundle: Path, images: UInt8Array, is_pinned: bool) -> Call:
    import openvino

    from fcos_edge.runtimes.openvino import shared_core

    options = {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": is_pinned, "PERFORMANCE_HINT": "LATENCY"}
    compiled = shared_core().compile_model(bundle / "model.int8.xml", "CPU", options)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
    return lambda: request.infer()


def _shared_call(bundle: Path, images: UInt8Array, runtime: str, cores: int, shared: SharedCores) -> Call:
    loaded = open_artifact(bundle, runtime, "int8", threads=cores)

    def call() -> None:
        with shared.taken(cores):
            loaded.runtime.run(images)

    return call


def _rate(calls: Sequence[Call], seconds: float) -> float:
    """Calls a second of all, each called again and again from a thread of its own."""
    for call in calls:
        for _ in range(5):
            call()
    counts = [0] * len(calls)
    end = time.perf_counter() + seconds

    def work(index: int) -> None:
        while time.perf_counter() < end:
            calls[index]()
            counts[index] += 1

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(calls))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def _is_installed(runtime: str) -> bool:
    return installed_package(find_runtime(runtime)) is not None


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What networks that share the cores cost each other.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--rounds", type=positive_int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=positive_int, default=4, metavar="S", help="each rate (default: %(default)s)"
    )
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
