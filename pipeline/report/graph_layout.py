"""Places the nodes of a graph without cycles in layers, from products down to their sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SWEEPS = 4


@dataclass(frozen=True)
class Place:
    """Where a node goes: its layer, and its column, centred around 0."""

    node: str
    layer: int
    column: float


def places(nodes: Sequence[str], edges: Iterable[tuple[str, str]]) -> list[Place]:
    """Places each node.

    The layer of a node is its longest path from a node that nothing points to. Within layers, nodes
    go near their neighbours (barycentres): Sugiyama, Tagawa and Toda, Methods for Visual
    Understanding of Hierarchical System Structures, 1981.

    Args:
      nodes: All nodes.
      edges: Pairs (product, source) of them.

    Raises:
      ValueError: The graph has a cycle.
    """
    below: dict[str, list[str]] = {node: [] for node in nodes}
    above: dict[str, list[str]] = {node: [] for node in nodes}
    for product, source in dict.fromkeys(edges):
        below[product].append(source)
        above[source].append(product)
    layers = _layers(below, above)
    order = {node: float(i) for layer in layers for i, node in enumerate(layer)}
    for sweep in range(_SWEEPS):
        near = above if sweep % 2 == 0 else below
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            layer.sort(key=lambda node: _mean([order[n] for n in near[node]], order[node]))
            middle = (len(layer) - 1) / 2
            order |= {node: i - middle for i, node in enumerate(layer)}
    return [Place(node, depth, order[node]) for depth, layer in enumerate(layers) for node in layer]


def _layers(below: dict[str, list[str]], above: dict[str, list[str]]) -> list[list[str]]:
    missing = {node: len(products) for node, products in above.items()}
    layer = [node for node, count in missing.items() if not count]
    depth: dict[str, int] = {}
    waiting = list(layer)
    for node in waiting:
        depth[node] = max((depth[product] + 1 for product in above[node]), default=0)
        for source in below[node]:
            missing[source] -= 1
            if not missing[source]:
                waiting.append(source)
    if len(depth) < len(below):
        raise ValueError(f"a cycle among {sorted(set(below) - set(depth))}")
    out: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node, level in depth.items():
        out[level].append(node)
    return out


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
