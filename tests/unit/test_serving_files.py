"""The files that a SavedModel has, and those that it only names."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from tfx_distill.components.serving_files import foreign_files, size_mib


class Reader(tf.Module):
    """Answers with the content of a file, which it knows by a constant, or as an asset."""

    def __init__(self, file: Path, *, asset: bool) -> None:
        super().__init__()
        self.asset = tf.saved_model.Asset(str(file)) if asset else None
        name = str(file)

        @tf.function(input_signature=[])
        def serve() -> dict[str, tf.Tensor]:
            where = name if self.asset is None else self.asset.asset_path
            return {"content": tf.io.read_file(where)}

        self.serve = serve


@pytest.mark.parametrize("asset", [True, False])
def test_a_file_that_was_not_saved_with_the_model_is_found(tmp_path: Path, asset: bool) -> None:
    vocabulary = tmp_path / "vocabulary.txt"
    vocabulary.write_text("phone\ntv\n")
    folder = str(tmp_path / "model")
    model = Reader(vocabulary, asset=asset)
    tf.saved_model.save(model, folder, signatures=model.serve)
    assert foreign_files(folder) == (() if asset else (str(vocabulary),))
    vocabulary.unlink()
    assert foreign_files(folder) == ()


def test_a_file_in_a_bucket_is_foreign_without_a_look(tmp_path: Path) -> None:
    file = "gs://bucket/vocabulary.txt"
    module = tf.Module()
    module.serve = tf.function(
        lambda: {"content": tf.strings.join([tf.constant(file), tf.constant("/no/such/file")])},
        input_signature=[],
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.serve)
    assert foreign_files(str(tmp_path)) == (file,)


def test_the_size_counts_every_file_in_every_folder(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables/data").write_bytes(b"x" * 3 * 2**20)
    (tmp_path / "saved_model.pb").write_bytes(b"x" * 2**19)
    assert size_mib(str(tmp_path)) == 3.5
