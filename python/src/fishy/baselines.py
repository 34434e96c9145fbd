"""What a loop is compared with: the same learner never retrained, and retrained by the calendar.

``python -m fishy.baselines --help`` lists its arguments; ``fishy replay`` calls it with the rows it has replayed.

The calendar retrains at midnight UTC on the first of every month, on the last 90 days of rows whose true value had
arrived by then. A month in which no new true value arrived keeps the model it has.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from fishy.learners import Array, load_learner

DAY_MS = 86_400_000
NOT_FEATURES = {"id", "time_ms", "target", "is_flagged"}


def main(argv: list[str] | None = None) -> int:
    """Computes the baselines and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", required=True, type=Path)
    parser.add_argument("--learner", default="fishy.learners:PlainForest")
    parser.add_argument("--train-from-ms", required=True, type=int)
    parser.add_argument("--train-until-ms", required=True, type=int)
    parser.add_argument("--delay-ms", required=True, type=int)
    parser.add_argument("--window-days", default=90, type=int)
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args(argv)

    frame = pd.read_parquet(args.rows).sort_values("time_ms", kind="stable")
    features = [name for name in frame.columns if name not in NOT_FEATURES]
    frame = frame.dropna(subset=[*features, "target"])
    time_ms = frame["time_ms"].to_numpy(dtype=np.int64)
    x = frame[features].to_numpy(dtype=np.float32)
    y = frame["target"].to_numpy(dtype=np.float32)
    make = load_learner(args.learner)

    def fitted(rows: np.ndarray) -> object:
        learner = make(features, args.seed)
        learner.fit(x[rows], y[rows])
        return learner

    initial = (time_ms >= args.train_from_ms) & (time_ms < args.train_until_ms)
    scored = time_ms >= args.train_until_ms
    first = fitted(initial)
    static = predict(first, x)

    calendar = static.copy()
    current, retrains, newest_label = first, 0, -1
    starts = month_starts(args.train_until_ms, int(time_ms[-1]))
    for start, end in zip(starts, [*starts[1:], int(time_ms[-1]) + 1], strict=True):
        arrived = time_ms + args.delay_ms <= start
        recent = arrived & (time_ms > start - args.window_days * DAY_MS - args.delay_ms)
        if recent.sum() >= 40 and int(time_ms[recent][-1]) > newest_label:
            current = fitted(recent)
            retrains += 1
            newest_label = int(time_ms[recent][-1])
        span = (time_ms >= start) & (time_ms < end)
        if span.any():
            calendar[span] = predict(current, x[span])

    flagged = frame["is_flagged"].to_numpy(dtype=bool)
    report = {
        "rows": int(scored.sum()),
        "rows_unflagged": int((scored & ~flagged).sum()),
        "mae_static": mae(static, y, scored),
        "mae_static_unflagged": mae(static, y, scored & ~flagged),
        "mae_calendar": mae(calendar, y, scored),
        "mae_calendar_unflagged": mae(calendar, y, scored & ~flagged),
        "calendar_retrains": retrains,
    }
    args.output.write_text(json.dumps(report), encoding="utf-8")
    ids = frame.loc[scored, "id"].to_numpy()
    pd.DataFrame({"id": ids, "static": static[scored], "calendar": calendar[scored]}).to_parquet(
        args.output.with_suffix(".parquet")
    )
    return 0


def predict(learner: object, x: Array) -> Array:
    """The learner's answers."""
    return np.asarray(learner.predict(x), dtype=np.float32)  # type: ignore[attr-defined]


def mae(answers: Array, truth: Array, rows: np.ndarray) -> float | None:
    """Mean absolute error over some rows; nothing where there are none."""
    return float(np.mean(np.abs(answers[rows] - truth[rows]))) if rows.any() else None


def month_starts(from_ms: int, until_ms: int) -> list[int]:
    """Midnight UTC of the first of each month, from the one at or after ``from_ms`` on."""
    moment = datetime.fromtimestamp(from_ms / 1000, UTC)
    year, month = moment.year, moment.month
    starts: list[int] = []
    while True:
        start = int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)
        if start > until_ms:
            return starts
        if start >= from_ms:
            starts.append(start)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)


if __name__ == "__main__":
    sys.exit(main())
