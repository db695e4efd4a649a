"""What a person reads while a model trains."""

import pytest

from tfx_distill.trainer import stopping
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


def test_an_early_end_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    best = stopping.Best(1, {"click": 0.5})
    for loss in (0.6, 0.5, 0.55):
        best.see({"val_click": loss}, lambda: None)
    progress = Progress("teacher, span 3", epochs=5, rows=10)
    progress.back(best.epoch, 3, best.why)
    assert capsys.readouterr().err == (
        "  teacher, span 3: stopped early: no lower eval loss for 1 epoch, each task's loss being "
        "divided by that of its constant prediction; back to epoch 2\n"
    )
    progress.back(1, 3, None)
    assert "the eval loss was lowest earlier; back to epoch 1" in capsys.readouterr().err
    progress.back(3, 3, None)
    Progress("teacher", epochs=5, rows=10, quiet=True).back(1, 3, best.why)
    assert capsys.readouterr().err == ""
