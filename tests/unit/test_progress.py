"""What a person reads while a model trains."""

import pytest

from tfx_distill.trainer.progress import Progress


def test_a_span_is_one_line_with_its_losses(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("compact, span 7", 1, 200)
    progress.batch(0, 100)
    progress.epoch(0, {"loss": 0.5, "click": 0.4, "val_loss": 0.25})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("  compact, span 7: epoch 1/1, 100%, loss 0.5000, eval loss 0.2500, ")
    assert "left" not in line


def test_earlier_epochs_say_how_long_it_may_take(capsys: pytest.CaptureFixture[str]) -> None:
    Progress("compact, span 7", 3, 200).epoch(0, {"loss": 0.5})
    line = capsys.readouterr().err
    assert "epoch 1/3" in line
    assert "eval loss" not in line
    assert line.rstrip().endswith("s left")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    Progress("compact", 1, 2, quiet=True).epoch(0, {"loss": 0.5})
    assert capsys.readouterr().err == ""
