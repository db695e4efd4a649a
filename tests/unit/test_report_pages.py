"""The pages of a report: all are written, lead to each other, and say what is missing and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import reported_runs
from reported_runs import STUDENT, TRICKY

from tfx_distill.pipeline.report import page_cost, site
from tfx_distill.pipeline.report.render import data
from tfx_distill.schema import config as run_config

PAGES = ("index", "stream", "data", "labels", "tfma", "curves", "cost", "lineage")
VOID = {"meta", "link", "br", "img", "input"}


class Document(HTMLParser):
    """What a test asks of a page; refuses elements that are not closed in their order."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.json: list[Any] = []
        self.charts = 0
        self.text = ""
        self._open: list[str] = []
        self._script: dict[str, str | None] | None = None
        self.feed(file.read_text())
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.text += " "
        if tag not in VOID:
            self._open.append(tag)
        self.links += [str(found[name]) for name in ("href", "src") if name in found]
        self.ids += [str(found["id"])] if "id" in found else []
        self.charts += "data-chart" in found
        self._script = found if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self._script = None

    def handle_data(self, content: str) -> None:
        if self._script is None:
            self.text += content
        elif self._script.get("type") == "application/json":
            self.json.append(json.loads(content))

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def write(root: Path) -> dict[str, Document]:
    """Writes the report of the config in a folder; its pages by name."""
    first = site.write(run_config.load(reported_runs.config(root)), with_views=False)
    return {file.stem: Document(file) for file in first.parent.glob("*.html")}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    root = tmp_path_factory.mktemp("report")
    reported_runs.stream(root)
    return write(root)


@pytest.fixture(autouse=True)
def no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vega takes seconds to be bundled; only a browser needs it."""
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda: "// Vega")


@pytest.fixture(scope="module", autouse=True)
def no_bundle_in_module() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vl_convert.javascript_bundle", lambda: "// Vega")
        yield


def test_every_page_is_written_and_leads_to_all_others(pages: dict[str, Document]) -> None:
    assert set(pages) == set(PAGES)
    for page in pages.values():
        assert {f"{name}.html" for name in PAGES} <= set(page.links)


def test_no_link_leads_nowhere_or_to_a_network(pages: dict[str, Document], tmp_path: Path) -> None:
    folder = tmp_path
    reported_runs.stream(folder)
    first = site.write(run_config.load(reported_runs.config(folder)), with_views=False)
    for page in pages.values():
        for link in page.links:
            if link.startswith("#"):
                assert link[1:] in page.ids
            elif link != "data:,":
                assert (first.parent / link).exists(), link


def test_ids_are_not_repeated(pages: dict[str, Document]) -> None:
    for page in pages.values():
        assert len(page.ids) == len(set(page.ids))


def test_the_summary_says_what_was_decided_and_what_serves(pages: dict[str, Document]) -> None:
    words = pages["index"].words
    assert f"Student {STUDENT}: refused, compared with its twin." in words
    assert words.index("Worse on") < words.index("Better than the twin.")
    assert f"[device=tv] Worse on {TRICKY}" in words
    assert "not judged device=watch has 3 queries" in words
    assert "Answers in 3 ms." in words
    # 0.72 + 0.003 and its interval; in service since span 2, refused in 3.
    assert "0.7230 0.7030 to 0.7530" in words
    assert f"{STUDENT} 2 " in words
    assert "There are no intervals" not in words


def test_charts_hold_what_the_gate_computed(pages: dict[str, Document]) -> None:
    charts = [spec["data"]["values"] for spec in pages["index"].json if "layer" in spec]
    assert {"model": "twin", "value": 0.703, "low": 0.683, "high": 0.733} in charts[-2]
    # The lead of the student overall and on a slice; where it is undefined there is none.
    (leads,) = [rows for rows in charts if any("against" in row["model"] for row in rows)]
    assert [row["model"] for row in leads] == [
        "all, against baseline",
        "all, against twin",
        "device=tv, against baseline",
        "device=tv, against twin",
    ]


def test_a_stream_is_drawn_over_its_spans(pages: dict[str, Document]) -> None:
    # The first chart is of what the gate looks at.
    auc = pages["stream"].json[0]
    assert auc["layer"][1]["encoding"]["y"]["title"] == "auc"
    rows = [row for row in auc["data"]["values"] if row["model"] == "student"]
    assert [row["span"] for row in rows] == [1, 2, 3]
    assert [row["outcome"] for row in rows] == ["pushed", "pushed", "refused"]
    assert "values below 0" in pages["stream"].words


def test_the_other_pages_show_their_parts(pages: dict[str, Document]) -> None:
    assert "the labels are too old" in pages["labels"].words
    assert "device=tv click 100" in pages["labels"].words
    assert "largest change of a share" in pages["data"].words
    assert "train, </script><b>& values below 0" in pages["data"].words
    assert f"{STUDENT} (twin)" in pages["curves"].words
    assert f"{STUDENT} click 8.00 3.00 1.00 10.00 +0.0200 0.50" in pages["cost"].words
    assert pages["lineage"].charts == 2
    assert "It was left out" in pages["tfma"].words


def test_the_cost_page_says_where_the_seconds_went(pages: dict[str, Document]) -> None:
    chart = pages["cost"].json[0]
    assert chart["encoding"]["x"]["field"] == "seconds"
    rows = chart["data"]["values"]
    first = [
        (row["phase"], row["seconds"]) for row in rows if row["component"] == rows[0]["component"]
    ]
    assert first == [
        *(("imports", 0.5), ("bookkeeping", 0.0), ("Beam graph", 0.0)),
        *(("tracing", 1.0), ("SavedModels", 0.0), ("work", 0.5)),
    ]
    # Six seconds of training; 18 of all, of which a quarter is work.
    words = pages["cost"].words
    assert "TeacherTrainer 1.50 0.00 0.00 3.00 0.00 1.50 6.00 6.00 0%" in words
    assert "all 4.50 0.00 0.00 9.00 0.00 4.50 18.00 18.00" in words
    assert "Work is 25% of all" in words
    assert "TeacherTrainer teacher ran 6.00 6.00 100 150 600" in words


def test_phases_that_were_not_measured_are_missed_in_words(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    content = reported_runs.summary(1, "run", pushed=None)
    for step in content["steps"]:
        del step["phases"]
    (tmp_path / "music" / "summary.json").write_text(json.dumps(content))
    words = write(tmp_path)["cost"].words
    assert "This run did not measure its phases" in words
    assert "TeacherTrainer teacher ran 6.00 6.00 100 150 \u2013" in words


def test_pages_show_numbers_that_json_has(pages: dict[str, Document]) -> None:
    def numbers(tree: Any) -> Iterator[float]:
        if isinstance(tree, dict):
            tree = list(tree.values())
        if isinstance(tree, list):
            for part in tree:
                yield from numbers(part)
        elif isinstance(tree, float):
            yield tree

    everything = [n for page in pages.values() for part in page.json for n in numbers(part)]
    assert len(everything) > 20
    assert all(abs(n) < 1e9 for n in everything)


def test_no_text_can_end_a_script_element() -> None:
    escaped = str(data({"a": "</script><!--\u2028&"}))
    assert not set("<>&\u2028") & set(escaped)
    assert json.loads(escaped) == {"a": "</script><!--\u2028&"}


# What is missing


def test_a_folder_in_which_nothing_was_run_has_pages_that_say_so(tmp_path: Path) -> None:
    found = write(tmp_path)
    assert set(found) == set(PAGES)
    for name in set(PAGES) - {"lineage"}:
        assert "no run of this config yet" in found[name].words
    assert "There is no ML Metadata" in found["lineage"].words


def test_a_batch_has_no_stream(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    content = reported_runs.summary(1, "run", pushed=None)
    (tmp_path / "music" / "summary.json").write_text(json.dumps(content))
    found = write(tmp_path)
    assert "there is one run, of spans 0-1 together" in found["stream"].words
    assert "a batch" in found["index"].words
    # Nothing is in ML Metadata: no intervals, no predictions, no curves.
    assert "There are no intervals" in found["index"].words
    assert "kept no evaluation" in found["labels"].words
    assert "No training wrote event files" in found["curves"].words
    assert "No drift was measured" in found["data"].words


def test_a_run_that_failed_half_way_shows_how_far_it_came(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    content = {
        **reported_runs.summary(1, "run", pushed=None),
        "failed": "no space left",
        "teacher": None,
        "labels": None,
        "students": [],
    }
    (tmp_path / "music" / "summary.json").write_text(json.dumps(content))
    found = write(tmp_path)
    assert "This run failed: no space left" in found["index"].words
    assert "no verdict" in found["index"].words
    assert "none came to its labeler" in found["labels"].words
    assert "evaluated no model" in found["tfma"].words


def test_students_only_have_the_labels_of_another_pipeline(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    content = reported_runs.summary(1, "run", pushed=None)
    content |= {"teacher": None, "teacher_parameters": None}
    (tmp_path / "music" / "summary.json").write_text(json.dumps(content))
    words = write(tmp_path)["index"].words
    assert "another pipeline's, by the labels of c0ffee" in words
    assert "this one only reads its labels" in words


def test_a_page_that_cannot_be_made_says_why_and_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: object) -> None:
        raise OSError("the disk is gone")

    reported_runs.stream(tmp_path)
    monkeypatch.setattr(page_cost, "costs", broken)
    found = write(tmp_path)
    assert "It could not be made: OSError: the disk is gone" in found["cost"].words
    assert "refused" in found["index"].words


def test_a_span_in_which_a_student_failed_says_so(tmp_path: Path) -> None:
    record = reported_runs.stream(tmp_path) / "spans" / "000002.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"students": [], "failed": "StudentTrainer: no memory"}))
    found = write(tmp_path)
    assert "not evaluated" in found["stream"].words
    assert "with a failure" in found["stream"].words
