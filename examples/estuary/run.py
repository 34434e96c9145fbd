"""An estuary through two years: season, drift beyond the season, and an error that no estimate sees.

    fishy up &
    python examples/estuary/run.py estuary_wq_15min.parquet

A forest predicts dissolved oxygen (mg/L) at two stations from temperature, salinity, pH, turbidity, depth and the
hour. It learns from January to March 2012 and answers every second hour from then on; true values come a week late.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

sys.path.append(str(Path(__file__).parents[1]))
from watched import Watched, arguments, outside, picture

from fishy.learners import convert

PROBES = ["temp", "sal", "ph", "turb", "depth"]
FEATURES = [*PROBES, "hour_sin", "hour_cos"]
LATE = pd.Timedelta(days=7)
LEARNT_UNTIL, WATCHED_FROM, SECOND_YEAR = "2012-04-01", "2012-05-01", "2013-01-01"
STEP = pd.Timedelta(days=28)


def prepare(file: Path) -> pd.DataFrame:
    """A reading every two hours; oxygen that the quality control did not let pass is no true value."""
    frame = pd.read_parquet(file)
    frame["time"] = pd.to_datetime(frame["timestamp_utc"])
    frame = frame[(frame["time"].dt.minute == 0) & (frame["time"].dt.hour % 2 == 0)]
    angle = frame["time"].dt.hour * np.pi / 12
    passed = frame["f_do_mgl"] == 0
    return frame.assign(
        station=frame["station"].astype(str),
        hour_sin=np.sin(angle),
        hour_cos=np.cos(angle),
        truth=frame["do_mgl"].where(passed).astype(float),
        known=frame["time"] + LATE,
    ).dropna(subset=PROBES)[["time", *FEATURES, "station", "truth", "known"]]


def fit(rows: pd.DataFrame) -> RandomForestRegressor:
    rows = rows.dropna(subset=["truth"])
    forest = RandomForestRegressor(50, min_samples_leaf=5, random_state=0, n_jobs=-1)
    return forest.fit(rows[FEATURES].to_numpy(np.float32), rows["truth"])


def run(rows: pd.DataFrame, url: str, name: str) -> tuple[Watched, dict[str, object]]:
    """The rows through a running fishy; answers what the monitor says."""
    watched = Watched(url, name, FEATURES, ["station"])
    learnt = rows[rows["time"] < LEARNT_UNTIL]
    version = watched.register(convert(fit(learnt), len(FEATURES)), learnt)
    watched.deploy(version)
    # Estimates need to know how the model errs on rows that it did not learn from: the monitor is made when the model
    # has answered for a while, and its first true values have come.
    live = rows[rows["time"] >= LEARNT_UNTIL]
    watched.live(live[live["time"] < WATCHED_FROM], STEP)
    watched.watch(Path(__file__).with_name("monitor.toml"), learnt)
    watched.live(live[live["time"] >= WATCHED_FROM], STEP)
    error = watched.figures("error")
    said: dict[str, object] = {"outside": outside(error, "mae", "estimated_mae"), "error": error}
    said |= {check: watched.figures(check) for check in ("season", "year")}
    said["alarms"] = watched.alarms()
    # Would a model that has seen a whole year have done better in the second? It is asked what was asked live.
    if rows["time"].max() > pd.Timestamp(SECOND_YEAR):
        year = rows[rows["known"] < SECOND_YEAR]
        candidate = watched.register(convert(fit(year), len(FEATURES)), year)
        said["replay"] = watched.replay(candidate, SECOND_YEAR, "station")
    return watched, said


def mean_of(figures: pd.DataFrame, test: str, by: str) -> pd.DataFrame:
    """Means of two months of a figure of all rows, a column for each feature or slice."""
    of_test = figures[(figures["test"] == test) & ((figures["slice"] == "") | (by == "slice"))]
    months = of_test["end"].dt.to_period("M")
    pairs = months.dt.year.astype(str) + "-" + ((months.dt.month - 1) // 2 * 2 + 1).astype(str).str.zfill(2)
    return of_test.groupby([pairs, by])["value"].mean().unstack().round(2)


def main() -> None:
    given = arguments(__doc__, "estuary")
    watched, said = run(prepare(given.data), given.url, given.name)
    season, year, error = said["season"], said["year"], said["error"]
    print("PSI of a week against the training data, means of two months from the one named\n")
    print(mean_of(season, "psi", "feature").to_string())
    print("\nPSI of four weeks against the same season of the year before\n")
    print(mean_of(year, "psi", "feature").to_string())
    print("\nmean absolute error of a week in mg/L, realised and estimated\n")
    both = {name: mean_of(error, test, "slice") for name, test in [("realised", "mae"), ("estimated", "estimated_mae")]}
    print(pd.concat(both, axis=1).to_string())
    out, windows = said["outside"]
    print(f"\nweeks whose realised error lies outside of the band of its estimate: {out} of {windows}")
    print(f"alarms: {pd.Series([alarm['check'] for alarm in said['alarms']]).value_counts().to_dict()}")
    slices = [(one["value"], one["figures"]) for one in said["replay"]["slices"]]
    for station, figures in [("all", said["replay"]["overall"]), *slices]:
        mae = figures["recorded"]["mae"], figures["candidate"]["mae"]
        print(f"2013, {station}: mean absolute error {mae[0]:.3f} as answered, {mae[1]:.3f} by a model of 2012")
    watched.report(given.fishy, given.report, ("2012-04-01", "2013-12-31"))
    if given.picture:
        picture(given.report, given.picture)


if __name__ == "__main__":
    main()
