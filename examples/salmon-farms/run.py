"""Eight salmon farms, week by week: mortality, lice and gill disease of each cage, with many labels missing.

    fishy up &
    python examples/salmon-farms/run.py salmon_farm_welfare_weekly.csv

Three models say how probable it is that a cage will be beyond a limit: mortality of 0.2 % or more and three lice or
more a fish in a week, a gill score of 1 or more in two. They learn from what was known on 1 June 2019 and answer
from then on. What came true is known when the cage is sampled, if it is.
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

FEATURES = [
    "days_since_start", "biomass_density", "temperature", "waterSpeed", "windSpeed", "wksSinceAntiAGD", "wksSinceMech",
    "wksSinceMedi", "lice_total", "agd_score", "mortality",
]  # fmt: skip
# What is foreseen: the column, how many weeks ahead, and the limit.
FORESEEN = {"mortality": ("mortality", 1, 0.002), "lice": ("lice_total", 1, 3.0), "gills": ("agd_score", 2, 1.0)}
LEARNT_UNTIL, WATCHED_FROM, SECOND = "2019-06-01", "2019-09-01", "2019-09-15"
STEP = pd.Timedelta(weeks=4)


def prepare(file: Path, what: str) -> pd.DataFrame:
    """A row for each cage and week, with what was true some weeks later where somebody looked."""
    column, weeks, limit = FORESEEN[what]
    frame = pd.read_csv(file, parse_dates=["day"]).rename(columns={"day": "time"})
    frame["cage"] = frame["farm"].str.removeprefix("Farm ") + "-" + frame["cage"].astype(str)
    later = frame[["cage", "time", column]].rename(columns={column: "later"})
    later["time"] -= pd.Timedelta(weeks=weeks)
    frame = frame.merge(later, on=["cage", "time"], how="left")
    frame["truth"] = (frame["later"] >= limit).astype(float).where(frame["later"].notna())
    frame["known"] = (frame["time"] + pd.Timedelta(weeks=weeks)).where(frame["truth"].notna())
    return frame.sort_values(["time", "cage"])[["time", *FEATURES, "farm", "cage", "truth", "known"]]


def fit(rows: pd.DataFrame) -> Pipeline:
    rows = rows.dropna(subset=["truth"])
    forest = RandomForestClassifier(100, min_samples_leaf=10, random_state=0, n_jobs=-1)
    return make_pipeline(SimpleImputer(strategy="median"), forest).fit(
        rows[FEATURES].to_numpy(np.float32), rows["truth"].astype(int)
    )


def run(rows: pd.DataFrame, url: str, name: str) -> tuple[Watched, dict[str, object]]:
    """The rows of one model through a running fishy; answers what the monitor says."""
    watched = Watched(url, name, FEATURES, ["farm", "cage"])
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
    said["status"] = watched.send("GET", f"/api/v1/monitors/{name}")
    said["outside"] = outside(said["answers"], "accuracy", "estimated_accuracy")
    if rows["time"].max() > pd.Timestamp(SECOND):
        more = rows[rows["known"] < SECOND]
        said["replay"] = watched.replay(watched.register(probability(fit(more), len(FEATURES)), more), SECOND, "farm")
    return watched, said


def main() -> None:
    given = arguments(__doc__, "salmon")
    for what, (column, _, _) in FORESEEN.items():
        rows = prepare(given.data, what)
        watched, said = run(rows, given.url, f"{given.name}-{what}")
        status, lived = said["status"], said["lived"].dropna(subset=["truth"])
        print(f"\n{what}: {status['predictions']} predictions, {len(lived)} with a true value,", end=" ")
        print(f"{lived['truth'].mean():.1%} of these beyond")
        now = rows[rows["time"] >= LEARNT_UNTIL].dropna(subset=["truth"]).sort_values(["time", "cage"])
        same = now[column].fillna(rows.loc[rows["time"] < LEARNT_UNTIL, column].median())
        for who, truth, score in [
            ("model", lived["truth"], lived["output"]),
            ("this week's value", now["truth"], same),
        ]:
            auc, precision = roc_auc_score(truth, score), average_precision_score(truth, score)
            print(f"  {who}: area under the ROC curve {auc:.3f}, average precision {precision:.3f}")
        drift, answers = said["drift"], said["answers"]
        psi = drift[(drift["test"] == "psi") & (drift["slice"] == "")].groupby("feature")["value"]
        print("  PSI of the first and of the last twelve weeks")
        print(psi.agg(["first", "last"]).round(2).T.to_string())
        brier = answers[answers["test"] == "brier"].groupby("slice")["value"].mean().sort_values()
        print(f"  Brier score, mean of the windows: {brier['']:.3f}; slices, the best and the worst three")
        for label in ("farm", "cage"):
            of_label = brier[brier.index.str.startswith(f"{label}=")].round(3)
            print(f"    {len(of_label)} {label}s: {of_label.iloc[[0, -3, -2, -1]].to_dict()}")
        print("  windows whose accuracy lies outside of the band of its estimate: {} of {}".format(*said["outside"]))
        print(f"  alarms: {pd.Series([alarm['check'] for alarm in said['alarms']]).value_counts().to_dict()}")
        both = said["replay"]["overall"]
        print(f"  from {SECOND}, error of the probability (RMSE): {both['recorded']['rmse']:.3f} as answered,", end=" ")
        print(f"{both['candidate']['rmse']:.3f} by a model that learnt until then")
        report = given.report.with_stem(f"{given.report.stem}-{what}")
        watched.report(given.fishy, report, ("2019-06-01", "2020-04-01"))
        if given.picture:
            picture(report, given.picture.with_stem(f"{given.picture.stem}-{what}"))


if __name__ == "__main__":
    main()
