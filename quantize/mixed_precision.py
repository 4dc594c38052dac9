"""Mixed precision: the fewest layers to keep in float so that accuracy stays within a budget.

What is decided by measuring: how many layers, and which of them can be taken back. What is decided by the
sensitivity table: the order in which layers are tried. A layer in float no longer harms by its weights; its
output stops to harm only when all that reads it is in float too (`float_values.py`). So a step of the order
is one layer, or a value: a layer with all its readers, whichever gains most for its price. Gains are squares
of harms, since the errors of different layers are independent and add like that: for the embedded detector
with one weight scale per layer, the root of the sum of all squares is 0.18, the harm of all in int8 0.16.

A layer on a large map is slow in float, because its input and output have to be converted: a tenth of all
values that the network puts out counts as one layer more. Measured, such a tenth costs 2 to 14 % of the time
of all-int8, depending on layer and runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from fcos_edge.console import note
from fcos_edge.errors import UsageError
from fcos_edge.quantize.graph import Graph, Selecting
from fcos_edge.quantize.recipe import parse_recipe
from fcos_edge.quantize.record import Record
from fcos_edge.quantize.refinements import find_refinement
from fcos_edge.runtime import UInt8Array
from fcos_edge.sensitivity_table import SensitivityTable

MOST_TAKEN_BACK = 12  # measurements that are spent on taking layers back
# How small a gain may be against the largest of all to count as one, so that no order is left to rounding.
LEAST_GAIN = 1e-9
TENTHS = 10  # how many layers the conversion of all values counts as


@dataclass(frozen=True)
class FloatLayers:
    """What was chosen.

    names         in the network's order; empty where all layers in int8 are within the budget
    drop          what the record with these layers in float loses, in the unit of the budget
    int8_drop     what it loses without any
    measurements  how many records were measured
    """

    names: tuple[str, ...]
    drop: float
    int8_drop: float
    measurements: int


def choose_float_layers(
    graph: Graph,
    record: Record,
    table: SensitivityTable,
    measure_drop: Callable[[Record], float],
    budget: float,
) -> FloatLayers:
    """The fewest convolutions and additions to keep in float, besides those that the record keeps already.

    measure_drop  record -> what it loses against float; more is worse (`accuracy_drop.py`)
    budget        the largest drop that is accepted

    Drops need not fall with every layer: twice as many are tried until the budget is met, the least number
    between is looked for by halving, and then layers are taken back one by one, those that gain least first.

    Raises UsageError where not even all layers in float meet the budget.
    """
    search = _Search(record, measure_drop, budget)
    int8_drop = search.drop(())
    note(f"all layers in int8: {int8_drop:.2f} lost, {budget:g} allowed")
    order = list(layer_order(graph, table, record.float_nodes))
    prefixes = _prefixes(order)
    enough, too_few = 0, -1
    while not search.is_within(prefixes[enough]):
        if enough == len(prefixes) - 1:
            lost = search.drop(prefixes[enough])
            raise UsageError(
                f"--max-drop {budget:g}: with all layers in float {lost:.2f} are lost;"
                " allow more, or measure on more pictures with --data"
            )
        enough, too_few = min(max(1, 2 * enough), len(prefixes) - 1), enough
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if search.is_within(prefixes[middle]):
            enough = middle
        else:
            too_few = middle
    names = _taken_back(prefixes[enough], search)
    places = {node.name: place for place, node in enumerate(graph.nodes)}
    return FloatLayers(
        tuple(sorted(names, key=places.__getitem__)), search.drop(names), int8_drop, search.measurements
    )


def layer_order(
    graph: Graph, table: SensitivityTable, float_nodes: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Steps of one or more layers, best gain for its price first; together all that are not in float.

    float_nodes  layers that are in float already
    """
    readers, sources = _readers(graph)
    gain = _Gain(graph, table, readers, sources, set(float_nodes))
    left = [row.layer for row in table.rows if row.layer not in float_nodes]
    while left:
        of_values = [
            tuple(part for part in dict.fromkeys((name, *of_value)) if part not in gain.in_float)
            for name, of_value in readers.items()
        ]
        steps = [*((name,) for name in left), *filter(None, of_values)]
        best = max(steps, key=lambda step: gain.of(step) / gain.price(step))
        if gain.of(best) <= LEAST_GAIN * gain.total:
            # What gains nothing, in a fixed order.
            best = (left[0],)
        yield best
        gain.in_float.update(best)
        left = [name for name in left if name not in best]


@dataclass
class _Gain:
    """What a step gains by the table, squared, given the layers that are in float."""

    graph: Graph
    table: SensitivityTable
    readers: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, tuple[str, ...]]
    in_float: set[str]

    def __post_init__(self) -> None:
        self.rows = {row.layer: row for row in self.table.rows}
        self.total = sum(row.harm**2 for row in self.table.rows)
        self.values = {name: prod(shape) for name, shape in self.graph.shapes.items()}
        self.inputs = {node.name: node.inputs for node in self.graph.nodes}
        self.all_values = sum(self.values[name] for name in self.rows)

    def of(self, step: tuple[str, ...]) -> float:
        weights = sum(self.rows[name].weights_harm ** 2 for name in step)
        return weights + sum(self.rows[name].activation_harm ** 2 for name in self._freed(step))

    def price(self, step: tuple[str, ...]) -> float:
        """In layers: how many, and more for the values that have to be converted around them."""
        converted = sum(
            self.values[name] + sum(self.values[source] for source in self.inputs[name]) for name in step
        )
        # What stays float is converted neither where it is made nor where it is read.
        converted -= sum(self.values[name] * (1 + len(self.readers[name])) for name in self._freed(step))
        return len(step) + TENTHS * max(0, converted) / self.all_values

    def _freed(self, step: tuple[str, ...]) -> list[str]:
        """Values that stay float once these layers are in float."""
        after = self.in_float.union(step)
        values = dict.fromkeys((*step, *(source for name in step for source in self.sources[name])))
        # A value that was float before has no layer of this step among its readers, nor is it of one.
        return [name for name in values if name in after and after.issuperset(self.readers[name])]


def _readers(graph: Graph) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Layer -> layers that read its value, also enlarged; and layer -> the layers that it reads."""
    behind: dict[str, str] = {}  # a Resize or MaxPool, or a layer itself -> the layer whose value it gives
    readers: dict[str, tuple[str, ...]] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes[1:]:
        read = tuple(behind[name] for name in node.inputs if name in behind)
        if isinstance(node, Selecting):
            behind.update((node.name, name) for name in read)
            continue
        behind[node.name] = node.name
        readers[node.name], sources[node.name] = (), read
        for name in read:
            readers[name] += (node.name,)
    return readers, sources


class _Search:
    """Measures each set of layers once."""

    def __init__(self, record: Record, measure_drop: Callable[[Record], float], budget: float) -> None:
        self._record = record
        self._measure_drop = measure_drop
        self._budget = budget
        self._drops: dict[frozenset[str], float] = {}

    @property
    def measurements(self) -> int:
        return len(self._drops)

    def drop(self, names: tuple[str, ...]) -> float:
        key = frozenset(names)
        if key not in self._drops:
            self._drops[key] = self._measure_drop(with_float_layers(self._record, names))
            if names:
                note(f"{len(names)} of them in float: {self._drops[key]:.2f} lost")
        return self._drops[key]

    def is_within(self, names: tuple[str, ...]) -> bool:
        return self.drop(names) <= self._budget


def with_float_layers(record: Record, names: tuple[str, ...]) -> Record:
    """The record that keeps these layers in float too."""
    return replace(record, float_nodes=tuple(sorted({*record.float_nodes, *names})))


def corrected_again(graph: Graph, record: Record, inputs: UInt8Array) -> Record:
    """The record with bias corrections made anew, where its recipe has any.

    Those of an all-integer network make up for errors that layers in float no longer make: for the embedded
    detector with its first two convolutions in float, logits are off by 0.035 with those, by 0.031 with new
    ones.

    inputs  (N, H, W, 3) uint8 RGB, letterboxed: those calibrated on
    """
    if "bc" not in parse_recipe(record.recipe).refinements:
        return record
    corrected: Record = find_refinement("bc").refine(graph, replace(record, bias_corrections={}), inputs)
    return corrected


def _prefixes(order: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """No step, the first one, the first two, ..."""
    prefixes: list[tuple[str, ...]] = [()]
    for step in order:
        prefixes.append((*prefixes[-1], *step))
    return prefixes


def _taken_back(names: tuple[str, ...], search: _Search) -> tuple[str, ...]:
    """`names` without those that are not needed; the last ones were thought to gain least."""
    if len(names) > 1:
        for name in names[: -1 - MOST_TAKEN_BACK : -1]:
            fewer = tuple(other for other in names if other != name)
            if search.is_within(fewer):
                names = fewer
    return names
