"""The documentation agrees with the code: blocks, commands, links, config keys, names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import yaml
from doc_blocks import PAGES, REPOSITORY, Block, blocks, prose
from pydantic import TypeAdapter, ValidationError

from tfx_distill.kubeflow.cli import main
from tfx_distill.schema.config import (
    DistillLoss,
    DistillMode,
    Metric,
    ModelConfig,
    RunConfig,
    Section,
)

DOCS = REPOSITORY / "docs"


def text_of(page: str) -> str:
    return (DOCS / page).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_block_is_run_checked_or_left_out_for_a_reason(page):
    for block in blocks(page):
        assert block.treatment  # Raises for what no test would look at.


@pytest.mark.parametrize(
    ("language", "note", "content"),
    [
        ("sh", "", "distill check x.yaml\n"),
        ("bash", "skip", "distill check x.yaml\n"),
        ("bash", "no-run", "make demo\n"),
        ("bash", "no-run: takes long", "distill run x.yaml\n"),
        ("bash", "no-run: takes long", "make demo\ndistill run x.yaml\n"),
        ("python", "no-run: takes long", "import json\n"),
        ("json", "", "{}\n"),
    ],
)
def test_no_block_is_left_out_silently(language, note, content):
    with pytest.raises(ValueError, match=r"page\.md:1"):
        _ = Block(REPOSITORY / "page.md", 1, language, note, content).treatment


def test_an_output_follows_what_printed_it():
    for page in PAGES:
        printed = False
        for block in blocks(page):
            assert printed or block.treatment != "compare", f"{block}: output of what?"
            printed = block.treatment in ("run", "run to failure", "compare")


def test_yaml_blocks_are_valid_configs():
    for page in PAGES:
        for block in blocks(page):
            if block.language != "yaml":
                continue
            content = yaml.safe_load(block.content)
            try:
                if {"name", "data", "features"} <= set(content):
                    RunConfig.model_validate(content)
                    continue
                for key, value in content.items():
                    assert key in RunConfig.model_fields, f"{block}: no key {key!r}"
                    TypeAdapter(RunConfig.model_fields[key].annotation).validate_python(value)
            except ValidationError as error:
                pytest.fail(f"{block}: {error}")


# ---- commands ------------------------------------------------------------------------------------


def leaves(group: click.Group, path: tuple[str, ...] = ("distill",)) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= leaves(command, (*path, name))
        else:
            found[" ".join((*path, name))] = command
    return found


def test_commands_named_in_the_text_exist():
    for page in PAGES:
        for span in re.findall(r"`(distill [^`]+)`", prose(page)):
            where = f"{page.name}: `{span}`"
            _, *words = span.split()
            command: click.Command = main
            while isinstance(command, click.Group) and words and not words[0].startswith("-"):
                assert words[0] in command.commands, where
                command = command.commands[words.pop(0)]
            options = {option for parameter in command.params for option in parameter.opts}
            for word in words:
                if word.startswith("-"):
                    assert word.partition("=")[0] in {*options, "--help", "-h"}, where


def test_every_command_is_documented():
    everything = "\n".join(page.read_text() for page in PAGES)
    for name, command in leaves(main).items():
        assert name in everything, f"{name} is on no page"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert any(option in everything for option in parameter.opts), (
                    f"{name}: {parameter.opts} is on no page"
                )


# ---- links and names -----------------------------------------------------------------------------


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    bare = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", bare).strip().replace(" ", "-")


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            assert file.exists(), f"{page.name}: {target} does not exist"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", prose(file), re.MULTILINE)
                assert anchor in map(slug, headings), f"{page.name}: no heading for {target}"


def test_every_page_is_in_the_index():
    index = text_of("README.md")
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("distillation.md", [*get_args(DistillMode), *get_args(DistillLoss)]),
        ("evaluation.md", get_args(Metric)),
        ("config.md", get_args(ModelConfig.model_fields["architecture"].annotation)),
    ],
)
def test_every_choice_is_explained(page, names):
    for name in names:
        assert f"`{name}`" in text_of(page), f"{name} is not explained in {page}"


# ---- docs/config.md: every key with its type and default -----------------------------------------


NAME = RunConfig.model_json_schema()["properties"]["name"]["pattern"]
KEYED_BY = {
    "distill": "task",
    "max_p99_ms": "of some integers",
    "steps": "component",
    "env": "variable",
    "node_selector": "label",
    "options": "option",
}
"""What the keys of a mapping are."""


def sections(model: type[Section], path: str = "") -> dict[str, type[Section]]:
    """The sections of a config by path: `features.numeric[]`, `students[].distill.TASK`."""
    found = {path or "top level": model}
    for name, field in model.model_fields.items():
        inside = f"{path}.{name}" if path else name
        for kind, mark in _nested(field.annotation, KEYED_BY.get(name, "")):
            found |= sections(kind, inside + mark)
    return found


def _nested(annotation: Any, key: str) -> list[tuple[type[Section], str]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [(annotation, "")]
    marks = {tuple: "[]", dict: f".{key.upper()}"}
    mark = marks.get(getattr(annotation, "__origin__", None), "")
    return [
        (kind, mark + inner)
        for argument in get_args(annotation)
        for kind, inner in _nested(argument, key)
    ]


def type_in_words(schema: dict[str, Any], key: str = "") -> str:
    """`integer > 0`, `list of text`, `none, log1p` ...: a property of a JSON schema."""
    if "anyOf" in schema:
        kinds = [type_in_words(s, key) for s in schema["anyOf"] if s.get("type") != "null"]
        return " or ".join(kinds)
    if "$ref" in schema:
        return "section"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        if "prefixItems" in schema:
            schema = {"items": schema["prefixItems"][0]}
        inner = type_in_words(schema["items"])
        return "list of sections" if inner == "section" else f"list of {inner}"
    if schema["type"] == "object":
        of = type_in_words(schema["additionalProperties"])
        return f"section for each {key}" if of == "section" else f"{of}, for each {key}"
    text = "name" if schema.get("pattern") == NAME else "text"
    word = {"string": text}.get(schema["type"], schema["type"])
    bounds = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = ", ".join(f"{sign} {schema[key]}" for key, sign in bounds.items() if key in schema)
    return f"{word} {limits}".rstrip()


def default_in_words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Section):
        own = {k: v for k, v in value if v != type(value).model_fields[k].default}
        nested = {k: v for k, v in own.items() if isinstance(v, Section)}
        if nested or not own:
            return "its defaults"
        return f"`{yaml.safe_dump(own, default_flow_style=True, sort_keys=False).strip()}`"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}`"


def expected_rows(model: type[Section]) -> list[list[str]]:
    properties = model.model_json_schema()["properties"]
    return [
        [
            f"`{name}`",
            type_in_words(properties[name], KEYED_BY.get(name, "")),
            "required" if field.is_required() else default_in_words(field.default),
        ]
        for name, field in model.model_fields.items()
    ]


def test_the_config_page_has_every_key_with_its_type_and_default():
    known = sections(RunConfig)
    described: set[str] = set()
    for part in re.split(r"^## ", prose(Path(DOCS / "config.md")), flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        paths = [p for p in re.findall(r"`([^`]+)`", heading) if p in known]
        if not paths:
            continue
        described.update(paths)
        rows = [
            [cell.strip() for cell in line.strip("|").split(" | ")]
            for line in body.splitlines()
            if line.startswith("| `")
        ]
        for path in paths:
            assert [row[:3] for row in rows] == expected_rows(known[path]), f"section {path}"
        assert all(len(row) == 4 and row[3].endswith(".") for row in rows), f"section {heading}"
    assert described == set(known)
