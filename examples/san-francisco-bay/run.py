"""Twenty years of San Francisco Bay: will the next cruise find a bloom, and is a model of the eighties still good?

    FISHY__MONITORING__RETENTION_DAYS=8000 fishy up &
    python examples/san-francisco-bay/run.py sfbay_water_quality_1985_2004.csv

At six stations a ship samples the water every week or every month. From the surface now (chlorophyll, salinity,
temperature, suspended matter, how layered the water is) and the season the model says how probable it is that the
next cruise finds 10 micrograms of chlorophyll a litre or more. It learns from 1985 to 1989 and answers until 2004;
what was true is known at the next cruise.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline

sys.path.append(str(Path(__file__).parents[1]))
from watched import Watched, arguments, outside, picture, probability

FEATURES = ["chl", "chl_before", "sal", "temp", "spm", "layers", "season_sin", "season_cos"]
SURFACE_M, BLOOM = 3.0, 10.0
LEARNT_UNTIL, WATCHED_FROM, SECOND = "1990-01-01", "1992-01-01", "1997-01-01"
STEP = pd.Timedelta(days=365)
# A cruise after more than two months says nothing of what was to come.
LONGEST = pd.Timedelta(days=62)


def prepare(file: Path) -> pd.DataFrame:
    """A row for each cruise and station."""
    frame = pd.read_csv(file, parse_dates=["date"]).drop(columns="time").rename(columns={"date": "time"})
    frame["station"] = frame["stn"].astype(int).astype(str)
    by = ["station", "time"]
    surface = frame[frame["depth"] <= SURFACE_M].groupby(by)[["chl", "sal", "temp", "spm"]].mean()
    deep = frame[frame["depth"] > SURFACE_M].groupby(by)["sal"].mean().rename("deep")
    rows = surface.join(deep).reset_index().sort_values(by)
    rows["layers"] = rows["deep"] - rows["sal"]
    of_station = rows.groupby("station")
    rows["chl_before"] = of_station["chl"].shift(1)
    later, known = of_station["chl"].shift(-1), of_station["time"].shift(-1)
    is_known = later.notna() & (known - rows["time"] <= LONGEST)
    rows["truth"], rows["known"] = (later >= BLOOM).astype(float).where(is_known), known.where(is_known)
    angle = rows["time"].dt.day_of_year * 2 * np.pi / 365.25
    rows = rows.assign(season_sin=np.sin(angle), season_cos=np.cos(angle)).sort_values(["time", "station"])
    return rows[["time", *FEATURES, "station", "truth", "known"]]


def fit(rows: pd.DataFrame) -> Pipeline:
    rows = rows.dropna(subset=["truth"])
    forest = RandomForestClassifier(100, min_samples_leaf=10, random_state=0, n_jobs=-1)
    return make_pipeline(SimpleImputer(strategy="median"), forest).fit(
        rows[FEATURES].to_numpy(np.float32), rows["truth"].astype(int)
    )


def run(rows: pd.DataFrame, url: str, name: str) -> tuple[Watched, dict[str, object]]:
    """The rows through a running fishy; answers what the monitor says."""
    watched = Watched(url, name, FEATURES, ["station"])
    learnt = rows[rows["known"] < LEARNT_UNTIL]
    version = watched.register(probability(fit(learnt), len(FEATURES)), learnt)
    watched.deploy(version)
    # Estimates need to know how the model errs on rows that it did not learn from: the monitor is made when the model
    # has answered for a while, and its first true values have come.
    live = rows[rows["time"] >= LEARNT_UNTIL]
    watched.live(live[live["time"] < WATCHED_FROM], STEP)
    watched.watch(Path(__file__).with_name("monitor.toml"), learnt)
    watched.live(live[live["time"] >= WATCHED_FROM], STEP)
    said: dict[str, object] = {check: watched.figures(check) for check in ("drift", "answers")}
    said |= {"alarms": watched.alarms(), "lived": watched.answers()}
    said["outside"] = outside(said["answers"], "roc_auc", "estimated_roc_auc")
    if rows["time"].max() > pd.Timestamp(SECOND):
        more = rows[rows["known"] < SECOND]
        candidate = watched.register(probability(fit(more), len(FEATURES)), more)
        said["replay"] = watched.replay(candidate, SECOND, "station")
    return watched, said


def main() -> None:
    given = arguments(__doc__, "bloom")
    rows = prepare(given.data)
    watched, said = run(rows, given.url, given.name)
    lived = said["lived"].dropna(subset=["truth"]).merge(rows[["time", "station", "chl"]], on=["time", "station"])
    decade = (lived["time"].dt.year // 10 * 10).astype(str) + "s"
    table = []
    for name, part in [("all", lived), *lived.groupby(decade)]:
        row = {"decade": name, "rows": len(part), "blooms": part["truth"].mean()}
        for who, score in [("model", part["output"]), ("chlorophyll now", part["chl"].fillna(part["chl"].median()))]:
            row[f"ROC AUC, {who}"] = roc_auc_score(part["truth"], score)
            row[f"average precision, {who}"] = average_precision_score(part["truth"], score)
        table.append(row)
    print(pd.DataFrame(table).set_index("decade").T.round(3).to_string())
    drift = said["drift"]
    psi = drift[(drift["test"] == "psi") & (drift["slice"] == "")]
    span = (psi["end"] - pd.Timedelta(days=183)).dt.year
    print("\nPSI of a year against 1985 to 1989, means of five years from the one named\n")
    print(psi.groupby([span // 5 * 5, "feature"])["value"].mean().unstack().round(2).to_string())
    answers = said["answers"]
    by_station = answers[answers["test"] == "brier"].groupby("slice")["value"].mean().round(3)
    print(f"\nBrier score, means of the years: {by_station.to_dict()}")
    print("years whose ROC AUC lies outside of the band of its estimate: {} of {}".format(*said["outside"]))
    print(f"alarms: {pd.Series([alarm['check'] for alarm in said['alarms']]).value_counts().to_dict()}")
    both = said["replay"]["overall"]
    print(f"from {SECOND}, error of the probability (RMSE): {both['recorded']['rmse']:.3f} as answered,")
    print(f"  {both['candidate']['rmse']:.3f} by a model that learnt until then")
    watched.report(given.fishy, given.report, ("1995-01-01", "2005-01-01"))
    if given.picture:
        picture(given.report, given.picture)


if __name__ == "__main__":
    main()
