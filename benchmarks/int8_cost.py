"""What an int8 network costs in time: the int8 files of several bundles, taking turns.

    python benchmarks/int8_cost.py plain best mixed --limits 1.03 1.10
    python benchmarks/int8_cost.py street8-lite0-320 nano --limits 0.4

The first bundle is what the others are compared with: in each round every file computes its golden input a
number of times, and a bundle's figure is the median over the rounds of its time divided by the first one's.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from conditions import Table, Target, add_json, measure_conditions, report, run_as_script
from fcos_edge.arguments import positive_float, positive_int
from fcos_edge.console import track
from fcos_edge.errors import UsageError
from fcos_edge.loading import LoadedArtifact
from int8_speed import WARM_UP_CALLS, golden_input, time_calls
from networks import open_networks


def run(args: argparse.Namespace) -> None:
    if args.limits and len(args.limits) != len(args.bundles) - 1:
        raise UsageError(f"--limits: {len(args.limits)} for {len(args.bundles) - 1} bundles after the first")
    networks: dict[tuple[str, Path], LoadedArtifact] = {}
    for bundle in args.bundles:
        for (runtime, _), network in open_networks(bundle, ("int8",), args.threads).items():
            networks[runtime, bundle] = network
    first, *others = args.bundles
    runtimes = [runtime for runtime, bundle in networks if bundle == first]
    conditions = measure_conditions(args.threads, {"rounds": args.rounds, "calls": args.calls})
    images = {key: golden_input(key[1], network.spec) for key, network in networks.items()}
    for key, network in networks.items():
        time_calls(network, images[key], WARM_UP_CALLS)
    rounds_ms: dict[tuple[str, Path], list[float]] = {key: [] for key in networks}
    for _ in track(range(args.rounds), "timing", args.rounds):
        for runtime in runtimes:
            for bundle in args.bundles:
                key = runtime, bundle
                rounds_ms[key].append(statistics.median(time_calls(networks[key], images[key], args.calls)))
    targets, rows = [], []
    for runtime in runtimes:
        own = rounds_ms[runtime, first]
        rows.append((runtime, first.name, statistics.median(own), 1.0, ""))
        for place, bundle in enumerate(others):
            ratios = [a / b for a, b in zip(rounds_ms[runtime, bundle], own, strict=True)]
            ratio = statistics.median(ratios)
            spread = f"{min(ratios):.2f} .. {max(ratios):.2f}"
            rows.append((runtime, bundle.name, statistics.median(rounds_ms[runtime, bundle]), ratio, spread))
            if args.limits:
                what = f"{runtime}: {bundle.name} / {first.name}"
                targets.append(Target(what, ratio, "<=", args.limits[place]))
    table = Table("int8, network alone", ("runtime", "bundle", "ms", "ratio", "of the rounds"), rows)
    figures = {f"{runtime} {bundle.name}": values for (runtime, bundle), values in rounds_ms.items()}
    report("int8_cost", conditions, targets, [table], figures, args.json)
    for network in networks.values():
        network.close()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What a way of making int8 costs in time.")
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument(
        "--limits", type=positive_float, nargs="+", default=[], metavar="X",
        help="the largest ratio that is promised, for each bundle after the first",
    )  # fmt: skip
    parser.add_argument("--rounds", type=positive_int, default=9, metavar="N", help="default: %(default)s")
    parser.add_argument("--calls", type=positive_int, default=50, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=positive_int, default=1, metavar="N", help="default: %(default)s")
    add_json(parser)
    return parser


if __name__ == "__main__":
    run_as_script(make_parser(), run)
