"""The label table: teacher labels as a Delta Lake table that students and other teams join by id.

Workers write one Parquet file per example shard (`shard`), the driver commits them in one
transaction (`commit`), and readers see one version of the table for ever (`snapshot`, `join`).
Nothing here knows of TFX, Beam or TensorFlow.
"""
