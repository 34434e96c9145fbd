"""What the examples of monitoring share, as far as it needs no server."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

sys.path.append(str(Path(__file__).parents[2] / "examples"))
from watched import outside, picture, probability


def test_a_classifier_becomes_one_probability_also_where_inputs_are_missing() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=400) > 0).astype(int)
    x[rng.random(x.shape) < 0.2] = np.nan
    model = make_pipeline(SimpleImputer(strategy="median"), RandomForestClassifier(50, random_state=0)).fit(x, y)
    session = onnxruntime.InferenceSession(probability(model, 3).SerializeToString())
    (answers,) = session.run(None, {session.get_inputs()[0].name: x})
    assert [output.name for output in session.get_outputs()] == ["prediction"] and answers.shape == (400, 1)
    assert np.abs(answers[:, 0] - model.predict_proba(x)[:, 1]).max() < 1e-5
    assert answers.min() >= 0 and answers.max() <= 1 and np.ptp(answers) > 0.9


def test_windows_outside_of_their_band_are_those_with_both_figures() -> None:
    def figure(end: int, test: str, value: float, **more: object) -> dict[str, object]:
        return {"end": end, "test": test, "value": value, "slice": "", "lower": np.nan, "upper": np.nan} | more

    band = {"lower": 0.4, "upper": 0.6}
    figures = [figure(end, "estimated_mae", 0.5, **band) for end in (1, 2, 3)]
    figures += [
        figure(1, "mae", 0.55),
        figure(2, "mae", 0.9),
        figure(2, "mae", 0.5, slice="pen=7"),
        figure(4, "mae", 9.0),
    ]
    assert outside(pd.DataFrame(figures), "mae", "estimated_mae") == (1, 2)


def test_the_picture_is_the_first_chart_with_the_colours_of_the_page(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    chart = '<svg viewBox="0 0 9 9"><path d="M0 0"/></svg>'
    report.write_text(f"<html><style>path{{fill:red}}</style>{chart}<svg><text>second</text></svg></html>")
    picture(report, tmp_path / "chart.svg")
    drawn = (tmp_path / "chart.svg").read_text()
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert '<path d="M0 0"/>' in drawn and "path{fill:red}" in drawn and "second" not in drawn
