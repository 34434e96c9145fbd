"""The calendar retrains when it should, on what had arrived."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from fishy.baselines import DAY_MS, main, month_starts
from fishy.train import main as train

JANUARY = 1_704_067_200_000


def rows(days: int) -> pd.DataFrame:
    time_ms = JANUARY + np.arange(days * 4) * DAY_MS // 4
    season = np.sin(2 * np.pi * (time_ms - JANUARY) / (365 * DAY_MS))
    x = np.random.default_rng(1).uniform(0, 1, days * 4)
    return pd.DataFrame(
        {
            "id": [str(place) for place in range(days * 4)],
            "time_ms": time_ms,
            "target": 3 * season + x,
            "is_flagged": False,
            "x": x,
        }
    )


def test_months_begin_on_the_first() -> None:
    starts = month_starts(JANUARY + DAY_MS, JANUARY + 70 * DAY_MS)
    assert [(start - JANUARY) // DAY_MS for start in starts] == [31, 60]


def test_a_calendar_follows_a_season_that_the_first_model_never_saw(tmp_path: Path) -> None:
    data, output = tmp_path / "rows.parquet", tmp_path / "out.json"
    rows(300).to_parquet(data)
    until = JANUARY + 60 * DAY_MS
    arguments = ["--rows", str(data), "--train-from-ms", str(JANUARY), "--train-until-ms", str(until)]
    assert main([*arguments, "--delay-ms", str(3 * DAY_MS), "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    assert report["calendar_retrains"] == 8
    assert report["rows"] == 240 * 4
    assert report["mae_calendar"] < 0.8 * report["mae_static"]


def test_training_refuses_rows_from_the_future(tmp_path: Path, monkeypatch: object, capsys: object) -> None:
    frame = rows(30).drop(columns="is_flagged")
    frame["arrived_ms"] = frame["time_ms"] + DAY_MS
    data = tmp_path / "train.parquet"
    frame.to_parquet(data)
    monkeypatch.setenv("FISHY_TRAIN_DATA", str(data))  # type: ignore[attr-defined]
    monkeypatch.setenv("FISHY_AS_OF_MS", str(int(frame["arrived_ms"].max()) - 1))  # type: ignore[attr-defined]
    monkeypatch.setenv("FISHY_OUTPUT", str(tmp_path / "output.json"))  # type: ignore[attr-defined]
    assert train([]) == 1
    assert "would see the future" in capsys.readouterr().err  # type: ignore[attr-defined]
    assert not (tmp_path / "output.json").exists()
