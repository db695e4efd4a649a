"""The TensorFlow Metadata schema of the ingested examples, as the stock TFX components read it."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from tfx_distill.schema import columns
from tfx_distill.schema.config import RunConfig
from tfx_distill.schema.errors import ConfigError


def tfmd_schema(config: RunConfig, types: Mapping[str, pa.DataType]) -> schema_pb2.Schema:
    """Schema of the examples of a run.

    A feature may be missing in some examples but not in all; keys are always there, and so is the
    label of a task that always applies. No feature has a fixed shape, so Transform sees sparse
    tensors.

    `data.validation` sets how far features may drift from one span to the next. Chance moves them
    too, the more the fewer examples and users there are: over ten simulated spans, shares of a
    category moved by up to 0.09 and numbers by up to 0.11 at 20,000 trained and 4,000 evaluated
    examples a span; by up to 0.12 and 0.17 in 2,000 trained, 0.38 and 0.54 in 400 evaluated ones.

    Args:
      config: With `data.schema_file`, that file is used instead, its features brought into the
        order of the columns and what is not a column left out. Its drift comparators count, not
        the limits of `data.validation`.
      types: Canonical types of the ingested columns, in their order.

    Raises:
      ConfigError: `data.schema_file` cannot be read, lacks a column or has another type for it.
    """
    if config.data.schema_file is not None:
        return _from_file(Path(config.data.schema_file), types)
    learned = (*config.features.categorical, *config.features.multivalent)
    categorical = {feature.name for feature in learned}
    numeric = {feature.name for feature in config.features.numeric}
    schema = schema_pb2.Schema()
    for name, kind in types.items():
        feature = schema.feature.add(name=name, type=_type(kind))
        feature.presence.min_count = 1
        if pa.types.is_list(kind):
            feature.value_count.min = 0
        else:
            feature.value_count.min = feature.value_count.max = 1
        if name in columns.KEYS:
            feature.presence.min_fraction = 1.0
        limits = config.data.validation
        if name in categorical:
            if limits.drift is not None:
                feature.drift_comparator.infinity_norm.threshold = limits.drift
            if feature.type == schema_pb2.INT:
                feature.int_domain.is_categorical = True
        elif name in numeric and limits.numeric_drift is not None:
            feature.drift_comparator.jensen_shannon_divergence.threshold = limits.numeric_drift
    by_name = {feature.name: feature for feature in schema.feature}
    for task in config.tasks:
        label = by_name[task.label]
        if task.applies_when is None:
            label.presence.min_fraction = 1.0
        if task.kind == "binary":
            label.float_domain.min, label.float_domain.max = 0.0, 1.0
        elif task.transform == "log1p":
            label.float_domain.min = 0.0
    return schema


def write(schema: schema_pb2.Schema, folder: Path) -> Path:
    """Writes the schema in text form.

    Returns:
      A file named after its content: TFX's ImportSchemaGen caches by the path alone.
    """
    text = text_format.MessageToString(schema)
    path = folder / f"schema-{hashlib.sha256(text.encode()).hexdigest()[:16]}.pbtxt"
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(text)
    partial.replace(path)
    return path


def _from_file(path: Path, types: Mapping[str, pa.DataType]) -> schema_pb2.Schema:
    try:
        given = text_format.Parse(path.read_text(), schema_pb2.Schema())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ConfigError(
            f"data.schema_file: {path}",
            got=" ".join(str(error).split()),
            expected="a TensorFlow Metadata schema in text form",
            fix="Correct the file or the path, or remove the key to have a schema generated.",
        ) from error
    by_name = {feature.name: feature for feature in given.feature}
    for name, kind in types.items():
        if name not in by_name:
            close = difflib.get_close_matches(name, by_name, n=1, cutoff=0.5)
            raise ConfigError(
                f"data.schema_file: {path}",
                got=f"no feature {name!r}",
                expected=f"a feature for each of {list(types)}",
                fix=f"Add it{f', or rename {close[0]!r}' if close else ''}.",
            )
        held, wanted = by_name[name].type, _type(kind)
        if held != wanted:
            raise ConfigError(
                f"data.schema_file: {path}: feature {name!r}",
                got=f"type {schema_pb2.FeatureType.Name(held)}",
                expected=f"{schema_pb2.FeatureType.Name(wanted)}, since the log holds {kind}",
                fix="Correct the type.",
            )
    # tfx_bsl matches the columns of a file and the features of its schema by their order.
    ordered = schema_pb2.Schema()
    ordered.CopyFrom(given)
    del ordered.feature[:]
    for name, kind in types.items():
        feature = ordered.feature.add()
        feature.CopyFrom(by_name[name])
        if feature.HasField("shape"):
            # A fixed shape, as SchemaGen infers it, would make a dense tensor of the feature.
            feature.ClearField("shape")
            if not pa.types.is_list(kind):
                feature.value_count.min = feature.value_count.max = 1
    return ordered


def _type(kind: pa.DataType) -> int:
    value = kind.value_type if pa.types.is_list(kind) else kind
    if pa.types.is_floating(value):
        return int(schema_pb2.FLOAT)
    return int(schema_pb2.INT if pa.types.is_integer(value) else schema_pb2.BYTES)
