"""Where a pushed model comes from, and how its ancestors are laid out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import reported_runs
from hypothesis import given
from hypothesis import strategies as st
from reported_runs import STUDENT, TRICKY, Store

from tfx_distill.pipeline.report.gather_lineage import Ancestry, ancestries
from tfx_distill.pipeline.report.gather_metadata import metadata
from tfx_distill.pipeline.report.graph_layout import places


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Ancestry]:
    folder = reported_runs.stream(tmp_path_factory.mktemp("lineage"))
    return ancestries(metadata(folder), 10)


def titled(found: Ancestry) -> set[tuple[str, bool]]:
    """Kinds of the nodes, and whether each ends its branch."""
    return {(node.kind, node.ends) for node in found.nodes}


def test_the_newest_push_comes_first_and_refused_models_not_at_all(models: list[Ancestry]) -> None:
    assert [(model.student, model.span) for model in models] == [(STUDENT, 2), (STUDENT, 1)]
    assert Path(models[0].path).name == "2"


def test_a_model_is_traced_to_everything_it_was_made_from(models: list[Ancestry]) -> None:
    first = models[1]
    assert titled(first) == {
        ("PushedModel", False),
        ("ModelBlessing", False),
        ("ModelEvaluation", False),
        ("Student", False),
        ("Twin", True),
        ("Teacher", False),
        ("TeacherLabels", False),
        ("Features", False),
        ("Examples", False),
        ("TransformGraph", False),
        ("Schema", False),
        ("Config", False),
        ("Code", False),
    }


def test_the_model_before_ends_its_branch(models: list[Ancestry]) -> None:
    later = models[0]
    assert ("Student", True) in titled(later)
    assert ("Teacher", True) in titled(later)
    spans = {n.properties["span"] for n in later.nodes if n.kind in ("Student", "Teacher")}
    assert spans == {"1", "2"}
    # Nothing of span 1 but the two models.
    assert not [n for n in later.nodes if n.kind == "Features" and n.properties["span"] == "1"]


def test_the_config_of_the_training_is_taken_apart(models: list[Ancestry]) -> None:
    (config,) = [node for node in models[0].nodes if node.kind == "Config"]
    expected = {"custom_config.job.title": TRICKY, "custom_config.job.rate": "0.1"}
    assert config.properties == expected


def test_what_a_resolver_or_the_cache_found_was_made_by_its_maker(tmp_path: Path) -> None:
    store = Store(tmp_path / "metadata.sqlite")
    model = store.artifact("Model", "there")
    made = store.execution("run-1", "TeacherTrainer", {}, {"model": [model]})
    store.execution("run-2", "TeacherTrainer", {}, {"model": [model]}, cached=True)
    store.execution("run-2", "TeacherResolver", {}, {"model": [model]}, found=True)
    found = metadata(tmp_path)
    assert found.makers[model].id == made
    cached = found.output("run-2", "TeacherTrainer", "model")
    assert cached is not None
    assert cached.id == model
    assert found.output("run-2", "TeacherResolver", "model") is None


def test_refreshed_graphs_lead_straight_to_the_first(tmp_path: Path) -> None:
    store = Store(tmp_path / "metadata.sqlite")
    graphs = [store.artifact("TransformGraph", f"graph-{i}") for i in range(4)]
    store.execution("run-0", "Transform", {}, {"transform_graph": [graphs[0]]})
    for before, after in pairwise(graphs):
        sources = {"transform_graph": [before]}
        store.execution(f"run-{after}", "VocabularyRefresher", sources, {"refreshed": [after]})
    push = store.artifact("PushedModel", "pushed", pushed=1)
    model = store.artifact("Model", "model")
    store.execution("run", "StudentTrainer.s", {"transform_graph": [graphs[3]]}, {"model": [model]})
    store.execution("run", "Pusher.s", {"model": [model]}, {"pushed_model": [push]})
    (found,) = ancestries(metadata(tmp_path), 10)
    assert (str(graphs[3]), str(graphs[0])) in found.edges
    assert str(graphs[1]) not in {node.id for node in found.nodes}


def test_only_so_many_models_are_traced(tmp_path: Path) -> None:
    folder = reported_runs.stream(tmp_path)
    assert [model.span for model in ancestries(metadata(folder), 1)] == [2]


# Layout


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    count = draw(st.integers(1, 12))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=25)) if pairs else []
    # An order that says nothing of the edges.
    names = draw(st.permutations([f"n{i}" for i in range(count)]))
    return sorted(names), [(names[a], names[b]) for a, b in chosen]


@given(graphs())
def test_sources_are_below_their_products_and_no_two_boxes_meet(
    graph: tuple[list[str], list[tuple[str, str]]],
) -> None:
    nodes, edges = graph
    at = {place.node: place for place in places(nodes, edges)}
    assert sorted(at) == nodes
    assert all(at[source].layer > at[product].layer for product, source in edges)
    for layer in {place.layer for place in at.values()}:
        columns = sorted(p.column for p in at.values() if p.layer == layer)
        assert all(b - a >= 1 for a, b in pairwise(columns))
        assert sum(columns) == pytest.approx(0)


def test_layers_are_longest_paths() -> None:
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("a", "c")]
    assert {p.node: p.layer for p in places(["a", "b", "c"], edges)} == {"a": 0, "b": 1, "c": 2}


def test_neighbours_are_placed_near() -> None:
    # Two chains that would cross if each layer were sorted by name.
    edges = [("top", "a"), ("top", "b"), ("a", "z"), ("b", "y")]
    at = {p.node: p.column for p in places(["top", "a", "b", "y", "z"], edges)}
    assert (at["a"] - at["b"]) * (at["z"] - at["y"]) > 0


def test_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        places(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "b")])
