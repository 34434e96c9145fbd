use fishy_drift::{PcaReconstruction, mmd};
use serde_json::Value;

use super::{assert_near, number};
use crate::it::shared::{column, read};

fn columns(text: &str, names: &[&str], rows: std::ops::Range<usize>) -> Vec<Vec<f64>> {
    names.iter().map(|name| column(text, name)[rows.clone()].to_vec()).collect()
}

#[test]
fn reconstruction_errors_are_nannymls_chunk_by_chunk() {
    let Some(golden) = read("golden/nannyml_golden.json") else { return };
    let golden: Value = serde_json::from_str(&golden).unwrap();
    let table = golden["pca_reconstruction_chunk300(norm,gamma,ties)"]["data"].as_array().unwrap();
    let (reference, current) = (read("golden/uni_ref.csv").unwrap(), read("golden/uni_cur.csv").unwrap());
    let names = ["norm", "gamma", "ties"];
    let fitted = PcaReconstruction::fit(&columns(&reference, &names, 0..1500), 0.65).unwrap();
    assert_eq!((fitted.components(), table.len()), (2, 9));
    for row in table {
        let start = number(&row[2]) as usize;
        let text = if row[4] == "reference" { &reference } else { &current };
        let error = fitted.error(&columns(text, &names, start..start + 300)).unwrap();
        assert_near(error.mean, number(&row[5]));
        assert_near(error.sampling_error, number(&row[6]));
    }
}

#[test]
fn mmd_is_frouros() {
    let Some(golden) = read("golden/frouros_golden.json") else { return };
    let golden: Value = serde_json::from_str(&golden.replace("Infinity", "null")).unwrap();
    let expected = &golden["batch"]["MMD_norm_gamma_first300"]["distance"];
    let (reference, current) = (read("golden/uni_ref.csv").unwrap(), read("golden/uni_cur.csv").unwrap());
    let names = ["norm", "gamma"];
    let test = mmd(&columns(&reference, &names, 0..300), &columns(&current, &names, 0..300), Some(1.0), 0, 1).unwrap();
    assert_near(test.statistic, number(expected));
}
