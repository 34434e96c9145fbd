//! Multivariate drift on drawn data: columns that each stay the same while their relation changes.

use fishy_drift::{KsMethod, PcaReconstruction, domain_classifier, ks_two_sample, mmd};

use super::drawn::Drawn;

/// Three standard normal columns, the first two correlated.
fn correlated(rows: usize, correlation: f64, shift: f64, drawn: &mut Drawn) -> Vec<Vec<f64>> {
    let mut columns = vec![Vec::new(); 3];
    for _ in 0..rows {
        let (a, b, c) = (drawn.normal(), drawn.normal(), drawn.normal());
        columns[0].push(a + shift);
        columns[1].push(correlation * a + (1.0 - correlation * correlation).sqrt() * b);
        columns[2].push(c);
    }
    columns
}

#[test]
fn a_relation_that_changes_is_seen_by_all_three_and_by_no_column() {
    let mut drawn = Drawn::new(31);
    let reference = correlated(1_500, 0.9, 0.0, &mut drawn);
    let same = correlated(1_500, 0.9, 0.0, &mut drawn);
    let changed = correlated(1_500, -0.9, 0.0, &mut drawn);
    for (before, after) in reference.iter().zip(&changed) {
        assert!(ks_two_sample(before, after, KsMethod::Auto).unwrap().p_value > 0.01);
    }
    let fitted = PcaReconstruction::fit(&reference, 0.65).unwrap();
    let (stable, drifted) = (fitted.error(&same).unwrap(), fitted.error(&changed).unwrap());
    let usual = fitted.error(&reference).unwrap();
    assert!((stable.mean - usual.mean).abs() < 4.0 * stable.sampling_error, "{stable:?} {usual:?}");
    assert!((drifted.mean - usual.mean).abs() > 10.0 * drifted.sampling_error, "{drifted:?} {usual:?}");

    let stable = domain_classifier(&reference, &same, 1).unwrap();
    let drifted = domain_classifier(&reference, &changed, 1).unwrap();
    assert!((0.45..0.55).contains(&stable.roc_auc), "{stable:?}");
    assert!(drifted.roc_auc > 0.85, "{drifted:?}");
    // Either of the two that are related gives it away, the third does not.
    let lost: Vec<f64> = drifted.without_column.iter().map(|area| drifted.roc_auc - area).collect();
    assert!(lost[0] > 0.2 && lost[1] > 0.2 && lost[2].abs() < 0.05, "{lost:?}");

    let first = |columns: &[Vec<f64>]| columns.iter().map(|column| column[..200].to_vec()).collect::<Vec<_>>();
    let stable = mmd(&first(&reference), &first(&same), None, 199, 1).unwrap();
    let drifted = mmd(&first(&reference), &first(&changed), None, 199, 1).unwrap();
    assert!(stable.p_value > 0.05 && stable.statistic.abs() < 0.01, "{stable:?}");
    assert!(drifted.p_value <= 0.005 && drifted.statistic > 0.02, "{drifted:?}");
}

#[test]
fn mmd_cries_wolf_as_often_as_it_says() {
    let mut drawn = Drawn::new(5);
    let mut alarms = 0;
    for seed in 0..200 {
        let (a, b) = (correlated(25, 0.5, 0.0, &mut drawn), correlated(25, 0.5, 0.0, &mut drawn));
        alarms += u32::from(mmd(&a, &b, None, 39, seed).unwrap().p_value <= 0.1);
    }
    // 20 expected, standard deviation 4.2.
    assert!((6..36).contains(&alarms), "{alarms}");
}

#[test]
fn missing_values_are_taken_as_stated() {
    let mut drawn = Drawn::new(77);
    let reference = correlated(400, 0.5, 0.0, &mut drawn);
    let mut current = correlated(400, 0.5, 0.0, &mut drawn);
    for row in (0..400).step_by(2) {
        current[2][row] = f64::NAN;
    }
    // A column that has begun to miss values is a difference that the classifier learns.
    assert!(domain_classifier(&reference, &current, 2).unwrap().roc_auc > 0.7);
    assert!(PcaReconstruction::fit(&reference, 0.65).unwrap().error(&current).unwrap().mean.is_finite());
    let finite: Vec<Vec<f64>> =
        current.iter().map(|column| column.iter().skip(1).step_by(2).copied().collect()).collect();
    assert_eq!(mmd(&reference, &current, Some(1.0), 9, 3).unwrap(), mmd(&reference, &finite, Some(1.0), 9, 3).unwrap());
}

#[test]
fn data_that_does_not_fit_is_refused() {
    let columns = vec![vec![1.0, 2.0], vec![3.0, 4.0]];
    assert!(PcaReconstruction::fit(&[vec![1.0], vec![]], 0.65).is_err());
    assert!(PcaReconstruction::fit(&[vec![1.0, 1.0]], 0.65).unwrap_err().message().contains("constant"));
    assert!(PcaReconstruction::fit(&columns, 0.65).unwrap().error(&columns[..1]).is_err());
    assert!(mmd(&columns, &columns[..1], None, 1, 1).is_err() && mmd(&columns, &columns, Some(0.0), 1, 1).is_err());
    assert!(domain_classifier(&columns, &columns, 1).unwrap_err().message().contains("at least 50"));
}
