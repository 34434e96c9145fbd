"""One peer on two Parquet files: `peers.py PEER REFERENCE CURRENT`. Prints what it took as one line of JSON.

The clock starts before the files are read and stops when the report is there; starting Python and importing the peer
is not counted.
"""

import json
import resource
import sys
import time
import warnings

import numpy as np
import pandas as pd

warnings.filterwarnings("ignore")


def evidently(before, now):
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    def run():
        reference, current = before(), now()
        numbers = [name for name in reference if pd.api.types.is_numeric_dtype(reference[name])]
        texts = [name for name in reference if name not in numbers]
        definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
        sides = [Dataset.from_pandas(side, data_definition=definition) for side in (current, reference)]
        report = Report([DataDriftPreset()]).run(sides[0], sides[1])
        return {"bytes": len(report.json())}

    return run


def nannyml(before, now):
    from nannyml import UnivariateDriftCalculator

    def run():
        reference, current = before(), now()
        calculator = UnivariateDriftCalculator(
            column_names=list(reference),
            continuous_methods=["kolmogorov_smirnov"],
            categorical_methods=["jensen_shannon"],
            chunk_number=10,
        )
        found = calculator.fit(reference).calculate(current).to_df()
        return {"rows": len(found)}

    return run


def alibi(before, now):
    from alibi_detect.cd import ChiSquareDrift, KSDrift

    def run():
        reference, current = before(), now()
        numbers = [name for name in reference if pd.api.types.is_numeric_dtype(reference[name])]
        texts = [name for name in reference if name not in numbers]
        ks = KSDrift(reference[numbers].to_numpy(), p_val=0.05).predict(current[numbers].to_numpy())
        codes = [pd.concat([reference[name], current[name]]).astype("category").cat.codes.to_numpy() for name in texts]
        codes = np.stack(codes, axis=1)
        chi = ChiSquareDrift(codes[: len(reference)], p_val=0.05).predict(codes[len(reference) :])
        distances = dict(zip(numbers, map(float, ks["data"]["distance"]), strict=True))
        return {"ks": distances, "chi": len(chi["data"]["distance"])}

    return run


def scipy(before, now):
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import ks_2samp, wasserstein_distance

    def shares(values, edges):
        counts = np.histogram(values, edges)[0]
        return counts / len(values)

    def psi(p, q):
        p, q = np.where(p > 0, p, 1e-4), np.where(q > 0, q, 1e-4)
        return float(((p - q) * np.log(p / q)).sum())

    def run():
        reference, current = before(), now()
        found = {}
        for name in reference:
            a, b = reference[name].to_numpy(), current[name].to_numpy()
            if not pd.api.types.is_numeric_dtype(reference[name]):
                p, q = (
                    reference[name]
                    .value_counts(normalize=True)
                    .align(current[name].value_counts(normalize=True), fill_value=0)
                )
                found[name] = {"psi": psi(p.to_numpy(), q.to_numpy()), "js": float(jensenshannon(p, q))}
                continue
            inner = np.unique(np.quantile(a, np.arange(1, 10) / 10))
            deciles = np.concatenate([[-np.inf], inner, [np.inf]])
            widths = np.histogram_bin_edges(np.concatenate([a, b]), "sturges")
            found[name] = {
                "psi": psi(shares(a, deciles), shares(b, deciles)),
                "ks": float(ks_2samp(a, b).statistic),
                "wasserstein": float(wasserstein_distance(a, b)),
                "js": float(jensenshannon(shares(a, widths), shares(b, widths))),
            }
        return found

    return run


def sorting(before, now):
    """No peer: NumPy's vectorised sort of all numeric columns, which every exact comparison by sorting must do."""

    def run():
        sides = [before(), now()]
        columns = [side[name].to_numpy() for side in sides for name in side if side[name].dtype == np.float64]
        started = time.perf_counter()
        for column in columns:
            np.sort(column)
        return {"sort_s": time.perf_counter() - started}

    return run


def main():
    peer, reference, current = sys.argv[1:]
    run = globals()[peer](lambda: pd.read_parquet(reference), lambda: pd.read_parquet(current))
    started, cpu = time.perf_counter(), time.process_time()
    found = run()
    took = {"seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(took | {"peak_bytes": peak_bytes, "found": found}))


if __name__ == "__main__":
    main()
