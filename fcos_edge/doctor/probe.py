"""The process that tries one runtime on the tiny models.

    python -m fcos_edge.doctor.probe

Each line on stdin is a request, `{"op": "run", ...}`, each line on stdout its answer, `{"ok": ...}` or
`{"error": one line}`; what libraries print goes to stderr. Operations are the methods of `Probe` whose
name begins with `do_`. No measurement is judged here (trial.py does).
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcos_edge.errors import FcosEdgeError

if TYPE_CHECKING:
    from fcos_edge.loading import LoadedArtifact

# Long against the clock and a call's own cost, short against what else the computer does.
_ROUND_MS = 8.0
_LEAST_ROUNDS = 3
_WARM_UP_CALLS = 3


class Probe:
    """One runtime, from `do_choose` on."""

    def __init__(self) -> None:
        self._runtime = ""
        self._package = ""
        self._networks: dict[str, LoadedArtifact] = {}

    def do_choose(self, runtime: str, package: str) -> dict[str, Any]:
        """Take `package` for `runtime`, also where that would take another one first."""
        from fcos_edge.runtime import find_runtime

        for other in find_runtime(runtime).PACKAGES:
            if other != package:
                sys.modules[other] = None  # type: ignore[assignment]  # Python's own way to say: not here
        self._runtime, self._package = runtime, package
        return {}

    def do_run(self, precision: str) -> dict[str, Any]:
        """The tiny network, in `fp32` or `int8`, against what it must put out.

        Answers with the difference of the worst branch: the largest of fp32 / the largest value there is, the
        mean of int8 in steps. Single integers differ where a runtime fuses a convolution with what follows.
        """
        from fcos_edge.doctor import samples

        self._networks[precision] = self._open(samples.NETWORK, precision)
        steps, parts = self._differences(samples.NETWORK, self._networks[precision])
        if precision == "int8":
            return {"difference": max(float(abs(values).mean()) for values in steps.values())}
        return {"difference": max(parts.values())}

    def do_saturate(self) -> dict[str, Any]:
        """The model whose sums saturate in 16 bits.

        loss     how much smaller sums come out, as a part of what they are: the worst branch's mean
        control  the largest difference of sums that fit, in steps
        """
        from fcos_edge.doctor import samples

        loaded = self._open(samples.SATURATION, "int8")
        steps, _ = self._differences(samples.SATURATION, loaded)
        loaded.close()
        expected = samples.load_expected(samples.FOLDER / samples.SATURATION)
        control = float(abs(steps.pop("centerness")).max())
        losses = [-float(values.sum()) / float(expected.int8[name].sum()) for name, values in steps.items()]
        return {"loss": max(losses), "control": control}

    def do_time(self, seconds: float) -> dict[str, Any]:
        """fp32 and int8 in turns, for about so long; both were run before.

        Answers with the medians of the rounds' medians, and with the median, the quarter and the
        three-quarter point of the rounds' ratios.
        """
        from fcos_edge.doctor import samples

        spec = self._networks["fp32"].spec
        images = samples.picture(spec.input_hw)
        pair = (self._networks["fp32"].runtime, self._networks["int8"].runtime)

        def milliseconds(index: int, calls: int) -> float:
            times_ns = []
            for _ in range(calls):
                start = time.perf_counter_ns()
                pair[index].run(images)
                times_ns.append(time.perf_counter_ns() - start)
            return statistics.median(times_ns) / 1e6

        once_ms = max(milliseconds(index, _WARM_UP_CALLS) for index in (0, 1))
        calls = max(1, round(_ROUND_MS / once_ms))
        fp32_ms: list[float] = []
        int8_ms: list[float] = []
        end = time.monotonic() + seconds
        while len(fp32_ms) < _LEAST_ROUNDS or time.monotonic() < end:
            fp32_ms.append(milliseconds(0, calls))
            int8_ms.append(milliseconds(1, calls))
        ratios = [slow / fast for slow, fast in zip(fp32_ms, int8_ms, strict=True)]
        lower, ratio, upper = statistics.quantiles(ratios, n=4)
        return {
            "fp32_ms": statistics.median(fp32_ms),
            "int8_ms": statistics.median(int8_ms),
            "ratio": ratio,
            "ratio_quartiles": [lower, upper],
            "rounds": len(ratios),
            "calls_per_round": calls,
        }

    def do_describe(self) -> dict[str, Any]:
        """The devices and the version that the package tells."""
        from fcos_edge.runtime import find_runtime

        devices = list(find_runtime(self._runtime).devices())
        return {
            "devices": devices,
            "version": str(getattr(sys.modules.get(self._package), "__version__", "")),
        }

    def _open(self, model: str, precision: str) -> LoadedArtifact:
        from fcos_edge.doctor import samples
        from fcos_edge.loading import open_artifact

        path = samples.model_path(model, precision, self._runtime)
        return open_artifact(path, self._runtime, threads=1)

    def _differences(self, model: str, loaded: LoadedArtifact) -> tuple[dict[str, Any], dict[str, float]]:
        """Branch -> (L, C) differences in int8 steps; branch -> largest difference / largest fp32 value."""
        import numpy as np

        from fcos_edge.doctor import samples
        from fcos_edge.workers.raw_values import real_values

        expected = samples.load_expected(samples.FOLDER / model)
        images = samples.picture(loaded.spec.input_hw, is_bright=model == samples.SATURATION)
        sizes = [height * width for height, width in loaded.spec.level_hw]
        steps, parts = {}, {}
        for name, values in real_values(loaded.runtime.run(images), loaded.spec).items():
            if not np.isfinite(values).all():
                raise ArithmeticError(f"{name} holds values that are no numbers")
            scale, zero_point = np.repeat(np.array(expected.points[name], np.float32), sizes, axis=0).T
            steps[name] = values[0] / scale[:, None] + zero_point[:, None] - expected.int8[name]
            largest = float(abs(expected.fp32[name]).max())
            parts[name] = float(abs(values[0] - expected.fp32[name]).max()) / largest
        return steps, parts


def answer(probe: Probe, request: dict[str, Any]) -> dict[str, Any]:
    """What an operation says, or what went wrong in it: a runtime's exceptions are of any class."""
    try:
        return {"ok": getattr(probe, f"do_{request.pop('op')}")(**request)}
    except FcosEdgeError as error:
        text = str(error)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    # Without the way to our own files.
    text = " ".join(text.replace(f"{Path(__file__).parent}{os.sep}", "").split())
    return {"error": text[:400]}


def main() -> None:
    # Ctrl-C goes to the whole group; whoever started this ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries print to descriptor 1, also from C++: answers go through a copy that they do not know.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # Nothing of tiny models belongs into a cache that has room for a few.
    os.environ["FCOS_EDGE_CACHE"] = ""
    probe = Probe()
    for line in sys.stdin:
        print(json.dumps(answer(probe, json.loads(line)), allow_nan=False), file=answers, flush=True)


if __name__ == "__main__":
    main()
