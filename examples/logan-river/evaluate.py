"""Sensor checks beside IsolationForest on labelled faults of six stations of the Logan River.

For each station and variable the first half of the readings is there to learn from, the second half is scored. The
checks learn nothing: they take the readings as they come. IsolationForest learns from the first half without labels,
from the value, its step, its distance from the median of the nine readings before, and the deviation of the last day.

    cargo build --release -p fishy-drift --example suspicion
    python examples/logan-river/evaluate.py DATA.parquet target/release/examples/suspicion
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score

QUANTITY = {"temp": "temperature", "cond": None, "ph": "ph", "do": "do"}
NO_DATA = -9998
TREES = 200


def suspicion(
    program: str, quantity: str | None, time_ms: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Score of each reading, and whether a finding covers it."""
    lines = "".join(f"{time},{reading}\n" for time, reading in zip(time_ms, value, strict=True))
    arguments = [program] + ([quantity] if quantity else [])
    answer = subprocess.run(arguments, input=lines, capture_output=True, text=True, check=True).stdout
    rows = np.array([line.split(",") for line in answer.splitlines()], dtype=float)
    return rows[:, 0], rows[:, 1].astype(bool)


def features(value: np.ndarray) -> np.ndarray:
    """What IsolationForest looks at."""
    series = pd.Series(value)
    before = series.rolling(9, min_periods=1).median().shift(1)
    day = series.rolling(96, min_periods=4).std()
    return np.column_stack([series, series.diff().abs(), (series - before).abs(), day]).astype(float)


def forest(value: np.ndarray, half: int) -> np.ndarray:
    """Score of each reading of the second half."""
    columns = np.nan_to_num(features(value))
    fitted = IsolationForest(n_estimators=TREES, random_state=0).fit(columns[:half])
    return -fitted.score_samples(columns[half:])


def main() -> None:
    data, program = sys.argv[1], sys.argv[2]
    frame = pd.read_parquet(data)
    frame["site"] = frame["site"].astype(str)
    print("variable  readings  faulty  checks AP  forest AP  findings: precision  recall")
    for variable, quantity in QUANTITY.items():
        truth, ours, theirs, found = [], [], [], []
        for _, station in frame.groupby("site"):
            station = station.sort_values("datetime")
            value = station[variable].to_numpy(float)
            is_there = ~np.isnan(value) & (value > NO_DATA)
            value = value[is_there]
            time_ms = station["datetime"].to_numpy()[is_there].astype("datetime64[ms]").astype(np.int64)
            label = station[f"{variable}_qual"].notna().to_numpy()[is_there]
            half = len(value) // 2
            score, is_found = suspicion(program, quantity, time_ms, value)
            truth.append(label[half:])
            ours.append(score[half:])
            found.append(is_found[half:])
            theirs.append(forest(value, half))
        label, is_found = np.concatenate(truth), np.concatenate(found)
        hits = (label & is_found).sum()
        print(
            f"{variable:8}  {len(label):8}  {label.sum():6}"
            f"  {average_precision_score(label, np.concatenate(ours)):9.3f}"
            f"  {average_precision_score(label, np.concatenate(theirs)):9.3f}"
            f"  {hits / max(is_found.sum(), 1):19.3f}  {hits / max(label.sum(), 1):6.3f}"
        )


if __name__ == "__main__":
    main()
