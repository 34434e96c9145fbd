use fishy_drift::{
    Alternative, CategoryCounts, CategoryTable, Correction, LogBase, benjamini_hochberg, chi_square, fisher_exact,
    g_test, kl_of_shares, proportions_z,
};
use serde_json::Value;

use super::{assert_near, assert_p, number};
use crate::it::shared::{cells, read};

fn table(reference: &str, current: &str, name: &str) -> CategoryTable {
    let counts = |text: &str| CategoryCounts::of(cells(text, name).into_iter().map(Some)).unwrap();
    CategoryTable::new(&counts(reference), &counts(current)).unwrap()
}

#[test]
fn tests_and_distances_are_scipys_and_evidentlys() {
    let Some(golden) = read("golden/uni_golden.json") else { return };
    let golden: Value = serde_json::from_str(&golden).unwrap();
    for (case, suffix) in [("n1500_1200", ""), ("n400_300", "_small")] {
        let reference = read(&format!("golden/uni_ref{suffix}.csv")).unwrap();
        let current = read(&format!("golden/uni_cur{suffix}.csv")).unwrap();
        for name in ["cat", "bin"] {
            let values = &golden["cases"][case][name];
            let (scipy, evidently) = (&values["scipy"], &values["evidently"]);
            let table = table(&reference, &current, name);
            for (correction, key) in [
                (Correction::None, "chi2_contingency_nocorr"),
                (Correction::Yates, "chi2_contingency_default(yates if dof=1)"),
            ] {
                let test = chi_square(&table, correction);
                assert_near(test.statistic, number(&scipy[key]["chi2"]));
                assert_p(test.p_value, number(&scipy[key]["p"]));
            }
            let test = g_test(&table, Correction::None);
            assert_near(test.statistic, number(&scipy["g_contingency"]["G"]));
            assert_p(test.p_value, number(&scipy["g_contingency"]["p"]));
            assert_near(table.total_variation(), number(&scipy["tvd"]));
            assert_near(table.l_infinity(), number(&scipy["l_inf"]));
            assert_near(table.hellinger(), number(&scipy["hellinger"]));
            assert_near(table.js_distance(LogBase::Natural), number(&scipy["js_distance_nat"]));
            assert_near(table.js_distance(LogBase::Two), number(&scipy["js_distance_base2"]));
            assert_near(table.psi(), number(&scipy["psi"]));
            assert_near(table.psi(), number(&evidently["psi"]["score"]));
            let (p, q) = table.shares();
            assert_near(kl_of_shares(&p, &q), number(&evidently["kl_div"]["score"]));
            if name == "bin" {
                let test = proportions_z(&table, "1", Alternative::TwoSided).unwrap();
                assert_p(test.p_value, number(&scipy["chi2_contingency_nocorr"]["p"]));
                assert_p(test.p_value, number(&evidently["z"]["score"]));
            }
        }
    }
}

#[test]
fn tests_are_nannymls_and_alibis() {
    let (Some(nannyml), Some(alibi)) = (read("golden/nannyml_golden.json"), read("golden/alibi_golden.json")) else {
        return;
    };
    let nannyml: Value = serde_json::from_str(&nannyml).unwrap();
    let alibi: Value = serde_json::from_str(&alibi).unwrap();
    let (reference, current) = (read("golden/uni_ref.csv").unwrap(), read("golden/uni_cur.csv").unwrap());
    // alibi-detect computes in single precision.
    let near_single =
        |got: f64, expected: &Value| assert!((got / number(expected) - 1.0).abs() < 2e-7, "{got} {expected}");
    for (place, name) in ["cat", "bin"].into_iter().enumerate() {
        let table = table(&reference, &current, name);
        let values = &nannyml["methods_whole_sample"][name];
        let test = chi_square(&table, Correction::Yates);
        assert_near(test.statistic, number(&values["chi2_auto"]));
        assert_p(test.p_value, number(&values["chi2_p"]));
        assert_near(table.js_distance(LogBase::Two), number(&values["jensen_shannon_auto"]));
        assert_near(table.l_infinity(), number(&values["l_infinity_auto"]));
        assert_near(table.hellinger(), number(&values["hellinger_auto"]));
        near_single(test.statistic, &alibi["ChiSquareDrift"]["distance"][place]);
        near_single(test.p_value, &alibi["ChiSquareDrift"]["p_val"][place]);
    }
    let test = fisher_exact(&table(&reference, &current, "bin"), Alternative::Higher).unwrap();
    near_single(test.statistic, &alibi["FETDrift_bin_greater"]["distance"][0]);
    near_single(test.p_value, &alibi["FETDrift_bin_greater"]["p_val"][0]);
}

#[test]
fn the_false_discovery_rate_decides_as_alibi_does() {
    let Some(alibi) = read("golden/alibi_golden.json") else { return };
    let alibi: Value = serde_json::from_str(&alibi).unwrap();
    let run = &alibi["KSDrift_fdr"];
    let p_values: Vec<f64> = run["p_val"].as_array().unwrap().iter().map(number).collect();
    let is_drift = benjamini_hochberg(&p_values).iter().any(|p_value| *p_value < 0.05);
    assert_eq!(u64::from(is_drift), run["is_drift"].as_u64().unwrap());
}
