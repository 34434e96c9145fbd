use fishy_drift::{
    Alternative, BinCounts, BinnedShares, Binning, CheckSettings, ColumnDrift, FindingKind, KsMethod, LogBase,
    Reference, RegressionError, Sample, SensorChecks, TestResult, anderson_darling, benjamini_hochberg,
    cramer_von_mises, energy_distance, epps_singleton, hellinger, holm, js_distance, ks, ks_two_sample, mann_whitney,
    psi, student_t, total_variation, wasserstein, welch_t,
};
use proptest::prelude::*;

fn sample(longest: usize) -> impl Strategy<Value = Vec<f64>> {
    // Coarse values, so that ties are common.
    prop_oneof![
        prop::collection::vec(-50.0..50.0_f64, 1..longest),
        prop::collection::vec((-8..8_i32).prop_map(|step| f64::from(step) / 4.0), 1..longest),
    ]
}

/// P-value by walking over all lattice paths, for small samples without ties between them.
fn p_value_by_paths(n: usize, m: usize, widest: i64) -> f64 {
    // How many of the paths from here stay inside, times nothing: counts are small.
    let (mut inside, total) = (vec![vec![0_u64; m + 1]; n + 1], binomial(n + m, n));
    for i in 0..=n {
        for j in 0..=m {
            let is_outside = (i as i64 * m as i64 - j as i64 * n as i64).abs() >= widest;
            inside[i][j] = match (i, j) {
                (0, 0) => 1,
                _ if is_outside => 0,
                (0, _) => inside[0][j - 1],
                (_, 0) => inside[i - 1][0],
                _ => inside[i - 1][j] + inside[i][j - 1],
            };
        }
    }
    1.0 - inside[n][m] as f64 / total
}

fn binomial(n: usize, k: usize) -> f64 {
    (1..=k).map(|i| (n - k + i) as f64 / i as f64).product()
}

proptest! {
    #[test]
    fn psi_of_a_sample_with_itself_is_nothing(values in sample(200)) {
        prop_assert!(psi(&values, &values).unwrap().abs() < 1e-12);
    }

    #[test]
    fn psi_is_never_negative(a in sample(100), b in sample(100)) {
        prop_assert!(psi(&a, &b).unwrap() >= 0.0);
    }

    #[test]
    fn ks_is_symmetric_and_a_probability(a in sample(120), b in sample(120)) {
        for method in [KsMethod::Auto, KsMethod::Asymptotic] {
            let (ab, ba) = (ks_two_sample(&a, &b, method).unwrap(), ks_two_sample(&b, &a, method).unwrap());
            prop_assert!((ab.statistic - ba.statistic).abs() < 1e-15);
            prop_assert!((ab.p_value - ba.p_value).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&ab.p_value) && (0.0..=1.0).contains(&ab.statistic));
        }
    }

    #[test]
    fn the_exact_p_value_is_the_share_of_paths(a in prop::collection::vec(-9.0..9.0_f64, 1..18), b in prop::collection::vec(-9.0..9.0_f64, 1..18)) {
        let test = ks_two_sample(&a, &b, KsMethod::Exact).unwrap();
        let widest = (test.statistic * (a.len() * b.len()) as f64).round() as i64;
        let expected = p_value_by_paths(a.len(), b.len(), widest);
        prop_assert!((test.p_value - expected).abs() < 1e-12, "{:?} instead of {}", test, expected);
    }

    #[test]
    fn ks_does_not_see_monotone_maps(a in sample(100), b in sample(100)) {
        let map = |values: &[f64]| values.iter().map(|value| (value / 25.0).exp() * 3.0 - 1.0).collect::<Vec<_>>();
        let plain = ks_two_sample(&a, &b, KsMethod::Auto).unwrap();
        prop_assert_eq!(plain, ks_two_sample(&map(&a), &map(&b), KsMethod::Auto).unwrap());
        prop_assert_eq!(Reference::from_sample(&a).unwrap().ks(&b), Reference::from_sample(&map(&a)).unwrap().ks(&map(&b)));
    }

    #[test]
    fn psi_does_not_see_scaling(a in sample(100), b in sample(100)) {
        // By a power of two, which is exact: readings on an edge stay on it.
        let map = |values: &[f64]| values.iter().map(|value| value * 8.0).collect::<Vec<_>>();
        prop_assert_eq!(psi(&a, &b), psi(&map(&a), &map(&b)));
    }

    #[test]
    fn a_small_reference_gives_the_whole_ks(a in sample(300), b in sample(100)) {
        prop_assert_eq!(Reference::from_sample(&a).unwrap().ks(&b), ks_two_sample(&a, &b, KsMethod::Auto));
    }

    #[test]
    fn counts_of_parts_are_the_count_of_the_whole(reference in sample(100), values in sample(100), cut in 0..100_usize) {
        let reference = Reference::from_sample(&reference).unwrap();
        let (first, second) = values.split_at(cut.min(values.len()));
        let mut merged = BinCounts::default();
        merged.merge(&reference.bin_counts(first));
        merged.merge(&reference.bin_counts(second));
        prop_assert_eq!(&merged, &reference.bin_counts(&values));
        prop_assert_eq!(reference.psi_of_counts(&merged), reference.psi(&values));
    }

    #[test]
    fn errors_of_parts_are_the_errors_of_the_whole(pairs in prop::collection::vec((-9.0..9.0_f64, -9.0..9.0_f64), 1..80), cut in 0..80_usize) {
        let (first, second) = pairs.split_at(cut.min(pairs.len()));
        let mut merged = RegressionError::from_pairs(first.iter().copied());
        merged.merge(&RegressionError::from_pairs(second.iter().copied()));
        let whole = RegressionError::from_pairs(pairs.iter().copied());
        prop_assert_eq!(merged.count(), whole.count());
        for figure in [RegressionError::mae, RegressionError::rmse, RegressionError::bias] {
            prop_assert!((figure(&merged).unwrap() - figure(&whole).unwrap()).abs() < 1e-12);
        }
        prop_assert!(whole.mae().unwrap() <= whole.rmse().unwrap() + 1e-12);
        prop_assert!(whole.bias().unwrap().abs() <= whole.mae().unwrap() + 1e-12);
    }

    #[test]
    fn distances_are_distances(a in sample(80), b in sample(80), c in sample(80)) {
        let [a, b, c] = [a, b, c].map(|values| Sample::new(&values).unwrap());
        for distance in [wasserstein, energy_distance] {
            prop_assert!(distance(&a, &a).abs() < 1e-12);
            prop_assert!((distance(&a, &b) - distance(&b, &a)).abs() < 1e-9);
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c) + 1e-9);
        }
        // Moving everything by one moves it by one.
        let moved = Sample::from_vec(a.values().iter().map(|value| value + 1.0).collect()).unwrap();
        prop_assert!((wasserstein(&a, &moved) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn binned_shares_sum_to_one_and_divergences_stay_within_their_bounds(a in sample(120), b in sample(120)) {
        let (a, b) = (Sample::new(&a).unwrap(), Sample::new(&b).unwrap());
        for binning in [
            Binning::ReferenceDeciles, Binning::PooledSturges, Binning::ReferenceDoane, Binning::PooledEqualWidth(7),
            Binning::Distinct, Binning::auto(&a),
        ] {
            let BinnedShares { reference: p, current: q, .. } = BinnedShares::new(&a, &b, binning);
            prop_assert_eq!(p.len(), q.len());
            prop_assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && (q.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let js = js_distance(&p, &q, LogBase::Two);
            prop_assert!((js_distance(&p, &p, LogBase::Two)).abs() < 1e-7 && (0.0..=1.0 + 1e-12).contains(&js));
            // Half the squared distance of Hellinger's kind and the total variation enclose each other.
            let (h, tv) = (hellinger(&p, &q), total_variation(&p, &q));
            prop_assert!(h * h <= tv + 1e-12 && tv <= h * std::f64::consts::SQRT_2 + 1e-12);
        }
    }

    #[test]
    fn tests_give_probabilities_whatever_the_samples(a in sample(60), b in sample(60)) {
        let (a, b) = (Sample::new(&a).unwrap(), Sample::new(&b).unwrap());
        let mut tests: Vec<TestResult> = vec![
            cramer_von_mises(&a, &b),
            mann_whitney(&a, &b, Alternative::TwoSided),
            mann_whitney(&a, &b, Alternative::Higher),
            ks(&a, &b, KsMethod::Auto).into(),
        ];
        tests.extend(anderson_darling(&a, &b));
        tests.extend(student_t(&a, &b));
        tests.extend(welch_t(&a, &b));
        tests.extend(epps_singleton(&a, &b));
        for test in tests {
            prop_assert!((0.0..=1.0).contains(&test.p_value), "{:?}", test);
            prop_assert!(test.statistic.is_finite() && test.effect.value.is_finite(), "{:?}", test);
        }
    }

    #[test]
    fn four_figures_in_one_pass_are_the_single_ones(a in sample(150), b in sample(150)) {
        let (of_a, of_b) = (Sample::new(&a).unwrap(), Sample::new(&b).unwrap());
        let drift = ColumnDrift::of(&of_a, &of_b);
        prop_assert_eq!(drift.ks, ks(&of_a, &of_b, KsMethod::Auto));
        prop_assert!((drift.psi - psi(&a, &b).unwrap()).abs() < 1e-12);
        prop_assert!((drift.wasserstein - wasserstein(&of_a, &of_b)).abs() < 1e-9);
    }

    #[test]
    fn adjusted_p_values_keep_their_order_and_only_grow(p_values in prop::collection::vec(0.0..=1.0_f64, 1..30)) {
        for adjusted in [holm(&p_values), benjamini_hochberg(&p_values)] {
            for (i, p) in p_values.iter().enumerate() {
                prop_assert!(adjusted[i] >= *p - 1e-15 && adjusted[i] <= 1.0);
                for (j, q) in p_values.iter().enumerate() {
                    prop_assert!(p > q || adjusted[i] <= adjusted[j] + 1e-12);
                }
            }
        }
    }

    #[test]
    fn every_finding_that_ends_was_noticed(readings in prop::collection::vec((1..5_i64, prop::option::weighted(0.9, 0..4_i32)), 0..300)) {
        let mut settings = CheckSettings { max: Some(2.5), ..CheckSettings::default() };
        (settings.stuck.readings, settings.stuck.hours) = (4, 3.0);
        let mut checks = SensorChecks::new(settings);
        let (mut time_ms, mut open) = (0, Vec::new());
        for (hours, value) in readings {
            time_ms += hours * 3_600_000;
            for finding in checks.push(time_ms, value.map(f64::from)) {
                match finding.until_ms {
                    None => {
                        prop_assert!(!open.contains(&finding.kind));
                        open.push(finding.kind);
                    }
                    Some(until_ms) => {
                        prop_assert!(finding.since_ms <= until_ms && until_ms < time_ms && finding.readings > 0);
                        let was_open = open.contains(&finding.kind);
                        prop_assert!(was_open || matches!(finding.kind, FindingKind::Spike | FindingKind::Missing));
                        open.retain(|kind| *kind != finding.kind);
                    }
                }
            }
            let mut now_open: Vec<_> = checks.open().iter().map(|finding| finding.kind).collect();
            now_open.sort_unstable();
            open.sort_unstable();
            prop_assert_eq!(&now_open, &open);
        }
    }
}
