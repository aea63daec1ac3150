"""What a run writes down."""

import json
import logging
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segcore.engine import log
from segcore.engine.log import RunLog
from segcore.errors import ConfigError

CPU = torch.device("cpu")
LOSSES = {"loss_ce": 1.0, "loss_mask_0": 2.0, "grad_norm": 9.0}


@pytest.fixture(autouse=True)
def _handlers():
    """The root logger as it was."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:], root.level = before, level


def test_an_entry_has_what_curves_and_clocks_need(tmp_path):
    book = RunLog(tmp_path, stop=100)
    book.step(1, None, rate=0.1, data_time=0.5, device=CPU)
    book.step(2, LOSSES, rate=0.1, data_time=1.5, device=CPU)
    book.close()
    (entry,) = (json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines())
    assert entry["iteration"] == 2
    assert entry["total_loss"] == 3.0  # the norm of the gradients is no loss
    assert entry["loss_mask_0"] == 2.0
    assert entry["lr"] == 0.1
    assert entry["data_time"] == 1.0
    assert entry["time"] > 0
    assert entry["eta_seconds"] == pytest.approx(entry["time"] * 98)
    assert 50 < entry["max_mem_mb"] < 100_000
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert board.Scalars("total_loss")[0].value == 3.0
    assert board.Scalars("total_loss")[0].step == 2


def test_every_line_is_json_even_where_a_metric_is_no_number(tmp_path):
    book = RunLog(tmp_path, stop=9)
    book.write({"iteration": 1, "APs": float("nan")}, 1)
    book.close()
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"iteration": 1, "APs": None}


def test_half_a_line_of_a_killed_run_spoils_no_other(tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 1}\n{"iterat')
    book = RunLog(tmp_path, stop=9)
    book.write({"iteration": 2}, 2)
    book.close()
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert json.loads(lines[0]) == {"iteration": 1}
    assert json.loads(lines[2]) == {"iteration": 2}


def test_a_full_disk_costs_the_curve_and_not_the_run(tmp_path, caplog):
    book = RunLog(tmp_path, stop=9)
    book.file = tmp_path / "gone" / "metrics.json"  # a folder that is not there
    for i in range(3):
        book.write({"iteration": i}, i)
    book.close()
    assert caplog.text.count("training goes on") == 1


def test_rank_zero_writes_and_the_others_warn(tmp_path):
    log.set_up(tmp_path / "run", rank=0)
    logging.getLogger("x").info("hello %d", 1)
    assert "hello 1" in (tmp_path / "run" / "log.txt").read_text()
    log.set_up(tmp_path / "other", rank=1)
    logging.getLogger("x").info("hello")
    assert not (tmp_path / "other").exists()
    assert logging.getLogger().level == logging.WARNING


def test_an_output_that_is_no_folder_raises(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(ConfigError, match=f"OUTPUT_DIR {folder}: cannot be written"):
            log.set_up(folder)


def test_a_terminal_gets_lines_and_a_progress_line_that_share_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    log.console.cache_clear()
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    log.set_up(None)
    book = RunLog(tmp_path, stop=40)
    for i in range(1, 21):
        losses = LOSSES if i == 20 else None
        book.step(i, losses, rate=0.1, data_time=0.0, device=CPU)
    book.close()
    shown = capsys.readouterr().out
    log.console.cache_clear()
    assert "20/40" in shown
    assert "eta" in shown
    assert "[bold" not in shown
