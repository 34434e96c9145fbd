use fishy_drift::{
    Alternative, BinnedShares, Binning, KsMethod, LogBase, Reference, Sample, TestResult, anderson_darling,
    cramer_von_mises, energy_distance, epps_singleton, hellinger, js_distance, js_divergence, kl_of_shares, ks,
    ks_two_sample, mann_whitney, normed_wasserstein, psi, psi_of_shares, student_t, wasserstein, welch_t,
};
use serde_json::Value;

use super::{assert_near, assert_p, number, numbers};
use crate::it::shared::{column, read};

/// Runs `check` for every numeric column of both golden cases: its golden values, the reference, the current sample.
fn for_each_column(check: impl Fn(&Value, &[f64], &[f64])) {
    let Some(golden) = read("golden/uni_golden.json") else { return };
    let golden: Value = serde_json::from_str(&golden).unwrap();
    for (case, suffix) in [("n1500_1200", ""), ("n400_300", "_small")] {
        let reference = read(&format!("golden/uni_ref{suffix}.csv")).unwrap();
        let current = read(&format!("golden/uni_cur{suffix}.csv")).unwrap();
        for name in ["norm", "gamma", "ties", "few"] {
            let values = &golden["cases"][case][name];
            assert!(values["scipy"].is_object(), "{case} {name}");
            check(values, &column(&reference, name), &column(&current, name));
        }
    }
}

#[test]
fn ks_is_scipys() {
    for_each_column(|golden, reference, current| {
        let scipy = &golden["scipy"];
        for (key, method) in [
            ("ks_2samp_auto", KsMethod::Auto),
            ("ks_2samp_exact", KsMethod::Exact),
            ("ks_2samp_asymp", KsMethod::Asymptotic),
        ] {
            let test = ks_two_sample(reference, current, method).unwrap();
            assert_near(test.statistic, number(&scipy[key]["D"]));
            let expected = number(&scipy[key]["p"]);
            assert!((test.p_value / expected - 1.0).abs() < 1e-9, "{key}: {} instead of {expected}", test.p_value);
        }
    });
}

#[test]
fn psi_and_its_edges_are_the_classic_ones() {
    for_each_column(|golden, reference, current| {
        let scipy = &golden["scipy"];
        let psi_golden = &scipy["psi_classic_10q"];
        let built = Reference::from_sample(reference).unwrap();
        let edges = numbers(&psi_golden["inner_edges"]);
        assert_eq!(built.edges().len(), edges.len());
        for (got, expected) in built.edges().iter().zip(edges) {
            assert_near(*got, expected);
        }
        // The golden shares have 1e-4 where a bin is empty.
        for (got, expected) in built.shares().iter().zip(numbers(&psi_golden["p"])) {
            assert_near(if *got > 0.0 { *got } else { 1e-4 }, expected);
        }
        assert_near(built.psi(current).unwrap(), number(&psi_golden["value"]));
        assert_near(psi(reference, current).unwrap(), number(&psi_golden["value"]));
    });
}

#[test]
fn the_reference_gives_nearly_the_whole_ks() {
    for_each_column(|golden, reference, current| {
        let scipy = &golden["scipy"];
        let built = Reference::from_sample(reference).unwrap();
        let (test, expected) = (built.ks(current).unwrap(), number(&scipy["ks_2samp_auto"]["D"]));
        assert!(test.statistic <= expected + 1e-12 && test.statistic > expected - 1.0 / 999.0, "{test:?} {expected}");
        if built.is_lossless() {
            assert_near(test.p_value, number(&scipy["ks_2samp_auto"]["p"]));
        }
    });
}

fn samples(reference: &[f64], current: &[f64]) -> (Sample, Sample) {
    (Sample::new(reference).unwrap(), Sample::new(current).unwrap())
}

#[test]
fn distances_are_scipys_and_evidentlys() {
    for_each_column(|golden, reference, current| {
        let (a, b) = samples(reference, current);
        assert_near(wasserstein(&a, &b), number(&golden["scipy"]["wasserstein"]));
        assert_near(energy_distance(&a, &b), number(&golden["scipy"]["energy"]));
        assert_near(normed_wasserstein(&a, &b), number(&golden["evidently"]["wasserstein"]["score"]));
    });
}

#[test]
fn tests_of_two_samples_are_scipys() {
    for_each_column(|golden, reference, current| {
        let scipy = &golden["scipy"];
        let (a, b) = samples(reference, current);
        let check = |test: TestResult, key: &str, statistic: &str| {
            assert_near(test.statistic, number(&scipy[key][statistic]));
            assert_p(test.p_value, number(&scipy[key]["p"]));
            assert!(test.effect.value.is_finite() && test.effect.value != 0.0, "{key}: {:?}", test.effect);
        };
        check(mann_whitney(&a, &b, Alternative::TwoSided), "mannwhitneyu_asymp_cc", "U");
        check(student_t(&a, &b).unwrap(), "ttest_ind", "t");
        check(welch_t(&a, &b).unwrap(), "welch", "t");
        check(epps_singleton(&a, &b).unwrap(), "epps_singleton", "W");
        let test = cramer_von_mises(&a, &b);
        assert_near(test.statistic, number(&scipy["cvm_2samp"]["T"]));
        // SciPy ends its series early: its p-value is right to about 2e-10 in all (see the unit test of the limit).
        assert!((test.p_value - number(&scipy["cvm_2samp"]["p"])).abs() < 1e-9, "{test:?}");
        let test = anderson_darling(&a, &b).unwrap();
        assert_near(test.statistic, number(&scipy["anderson_ksamp_midrank"]["A2"]));
        assert_p(test.p_value, number(&scipy["anderson_ksamp_midrank"]["p_clamped_0.001_0.25"]));
        // Evidently asks whether the current values are the higher ones.
        let one_sided = mann_whitney(&a, &b, Alternative::Higher).p_value;
        assert_p(one_sided, number(&golden["evidently"]["mannw"]["score"]));
        assert_eq!(ks(&a, &b, KsMethod::Auto), ks_two_sample(reference, current, KsMethod::Auto).unwrap());
    });
}

#[test]
fn binned_distances_are_scipys_and_evidentlys() {
    for_each_column(|golden, reference, current| {
        let (scipy, evidently) = (&golden["scipy"], &golden["evidently"]);
        let (a, b) = samples(reference, current);
        let binned = BinnedShares::new(&a, &b, Binning::auto(&a));
        let (p, q) = (&binned.reference, &binned.current);
        assert_near(js_distance(p, q, LogBase::Natural), number(&evidently["jensenshannon"]["score"]));
        assert_near(kl_of_shares(p, q), number(&evidently["kl_div"]["score"]));
        assert_near(psi_of_shares(p, q), number(&evidently["psi"]["score"]));
        let deciles = BinnedShares::new(&a, &b, Binning::ReferenceDeciles);
        assert_near(psi_of_shares(&deciles.reference, &deciles.current), number(&scipy["psi_classic_10q"]["value"]));
        // Of whole numbers NumPy makes bins of at least width 1, which is no rule of Sturges: `few` is left out.
        if a.distinct_up_to(21) > 20 {
            let sturges = &scipy["pooled_sturges"];
            for (got, expected) in binned.edges.iter().zip(numbers(&sturges["edges"])) {
                assert_near(*got, expected);
            }
            assert_near(js_distance(p, q, LogBase::Natural), number(&sturges["js_distance_nat"]));
            assert_near(js_distance(p, q, LogBase::Two), number(&sturges["js_distance_base2"]));
            assert_near(js_divergence(p, q, LogBase::Two), number(&sturges["js_divergence_base2"]));
            // Evidently bins for Hellinger by the number of distinct values.
            let both = Sample::new(&[reference, current].concat()).unwrap();
            let bins = ((both.distinct_up_to(usize::MAX) as f64).log2() + 1.0).ceil() as usize;
            let binned = BinnedShares::new(&a, &b, Binning::PooledEqualWidth(bins));
            // It takes 1 minus the affinity, which loses digits: compare squares.
            let score = number(&evidently["hellinger"]["score"]);
            assert!((hellinger(&binned.reference, &binned.current).powi(2) - score * score).abs() < 1e-14);
        }
    });
}

#[test]
fn binned_distances_are_nannymls() {
    let Some(golden) = read("golden/nannyml_golden.json") else { return };
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let (reference, current) = (read("golden/uni_ref.csv").unwrap(), read("golden/uni_cur.csv").unwrap());
    for name in ["norm", "gamma", "ties", "few"] {
        let values = &golden["methods_whole_sample"][name];
        let (a, b) = samples(&column(&reference, name), &column(&current, name));
        let binned = BinnedShares::new(&a, &b, Binning::ReferenceDoane);
        let edges = numbers(&values["jensen_shannon_bins_doane_ref_only"]);
        assert_eq!(binned.edges.len(), edges.len());
        for (got, expected) in binned.edges.iter().zip(edges) {
            assert_near(*got, expected);
        }
        let (p, q) = (&binned.reference, &binned.current);
        assert_near(js_distance(p, q, LogBase::Two), number(&values["jensen_shannon_auto"]));
        assert_near(hellinger(p, q), number(&values["hellinger_auto"]));
        assert_near(ks(&a, &b, KsMethod::Auto).statistic, number(&values["kolmogorov_smirnov_auto"]));
        assert_near(wasserstein(&a, &b), number(&values["wasserstein_auto"]));
    }
}

#[test]
fn windows_against_the_reference_are_nannymls() {
    let Some(golden) = read("golden/nannyml_golden.json") else { return };
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let golden = &golden["univariate_calculator_chunk_size_300"];
    let names: Vec<&str> = golden["columns"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let (reference, current) = (read("golden/uni_ref.csv").unwrap(), read("golden/uni_cur.csv").unwrap());
    let mut compared = 0;
    for row in golden["data"].as_array().unwrap() {
        let key = row[0].as_str().unwrap();
        let (start, _) = key.trim_matches(['[', ']']).split_once(':').unwrap();
        let start: usize = start.parse().unwrap();
        let text = if row[1] == "reference" { &reference } else { &current };
        for name in ["norm", "gamma", "ties", "few"] {
            let window = &column(text, name)[start..start + 300];
            let (a, b) = samples(&column(&reference, name), window);
            let binned = BinnedShares::new(&a, &b, Binning::ReferenceDoane);
            let (p, q) = (&binned.reference, &binned.current);
            for (method, got) in [
                ("kolmogorov_smirnov", ks(&a, &b, KsMethod::Auto).statistic),
                ("wasserstein", wasserstein(&a, &b)),
                ("jensen_shannon", js_distance(p, q, LogBase::Two)),
                ("hellinger", hellinger(p, q)),
            ] {
                let place = names.iter().position(|held| *held == format!("{name}|{method}|value"));
                let expected = number(&row[place.unwrap()]);
                // The table was written with 15 decimals.
                assert!((got - expected).abs() < 1e-12, "{key} {name} {method}: {got} instead of {expected}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 9 * 4 * 4);
}

#[test]
#[expect(clippy::unreadable_literal, reason = "the numbers stand as SciPy printed them")]
fn small_samples_are_scipys() {
    /// Samples, and the p-values of `mannwhitneyu`, `cramervonmises_2samp`, `epps_singleton_2samp` of SciPy 1.17.1.
    type Case<'a> = (&'a [f64], &'a [f64], f64, f64, Option<f64>);
    let cases: [Case; 7] = [
        (
            &[2.041, -2.556, 0.418, -0.568, -0.453],
            &[0.784, -1.02, 0.768, 0.135, 4.323, 1.226, 0.647],
            0.26767676767676774,
            0.2803030303030303,
            Some(0.74435368661504),
        ),
        (
            &[-0.281, -0.668, -1.055, -0.391, 0.482, -0.239, 0.958, -0.2],
            &[
                0.524, 2.046, 1.045, -0.005, 0.317, 1.041, 2.435, 0.23, 0.256, 1.502, -0.386, 0.208, 1.383, 1.08,
                0.592, 1.17, -2.328, 1.521, -0.46, -1.169,
            ],
            0.037520611433654906,
            0.030538865321474016,
            Some(0.09819557148799476),
        ),
        (
            &[0.276, 0.701, -0.445, -1.076, 0.026, -0.053, 1.406, 0.747, 0.194, 1.112, -0.206, -0.926],
            &[1.384, 1.383, 0.585, 0.017, 1.029, -1.694, 1.49, 1.291, -0.839],
            0.2706629953488259,
            0.2610009185860579,
            Some(0.3922985231116471),
        ),
        (
            &[
                0.061, -0.964, 0.757, -2.034, -0.914, 0.71, 1.156, -2.158, -0.498, 0.328, -0.609, 1.591, -1.191, 0.355,
                -1.048, 1.406, -0.022, -0.372, -1.718, 1.682,
            ],
            &[
                1.153, 1.154, 1.538, 0.749, -0.239, -0.4, -0.4, 1.77, -1.06, -0.196, 0.079, 0.625, 0.975, -0.849,
                -1.33, 0.396, 1.614, 1.157, 0.616, 0.083,
            ],
            0.14040110289033306,
            0.18122266443589652,
            Some(0.5456692834804617),
        ),
        (
            &[0.5, -0.0, 1.0, -1.0, 0.0, -0.0, 0.5, 0.0, 2.5, 1.5],
            &[2.0, -1.5, 0.0, -0.0, 1.0, -2.0, 1.5, 1.5, -1.0, -0.5, -0.5, 0.5, 1.0, 2.5],
            0.789927597374822,
            0.6965393604914402,
            Some(0.626821423739105),
        ),
        (&[-0.197, 0.768, 0.155], &[3.26, 2.242, 2.869, 0.422], 0.11428571428571428, 0.11428571428571428, None),
        (
            &[
                -0.192, -0.814, 1.505, 0.658, -0.305, -0.452, 0.485, -0.701, -0.931, 0.481, 2.463, -0.246, -0.556,
                -1.171, -1.335, 0.525, 0.851, 0.009, 0.333, 0.116, 0.139, -1.526, -0.458, 0.111,
            ],
            &[
                -0.483, -0.176, -0.519, -0.033, 1.153, -0.107, 0.146, 1.114, 0.945, 1.995, -1.79, 1.157, -0.182, 0.435,
                1.138, 1.383, 1.339, 0.455,
            ],
            0.0653741303117459,
            0.06677034716959651,
            Some(0.2910365043479742),
        ),
    ];
    for (a, b, rank_sum, cramer, epps) in cases {
        let (a, b) = samples(a, b);
        assert_p(mann_whitney(&a, &b, Alternative::TwoSided).p_value, rank_sum);
        assert_p(cramer_von_mises(&a, &b).p_value, cramer);
        match epps {
            Some(expected) => assert_p(epps_singleton(&a, &b).unwrap().p_value, expected),
            None => assert!(epps_singleton(&a, &b).is_err()),
        }
    }
}
