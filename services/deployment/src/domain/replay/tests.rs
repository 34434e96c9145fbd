use super::*;

fn rules(kind: AnswerKind, thresholds: &[f64]) -> Rules {
    Rules { kind, tolerance: 0.1, thresholds: thresholds.to_vec() }
}

fn row(recorded: f64, candidate: f64, truth: Option<f64>) -> Replayed {
    Replayed { recorded: Some(recorded), candidate: Some(candidate), truth }
}

fn pen(value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("pen".to_owned(), value.to_owned())])
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a} is not {b}");
}

#[test]
fn differences_flips_and_errors_of_quantities() {
    let mut tallies = Tallies::new(rules(AnswerKind::Quantity, &[5.0, 9.0]), "");
    // Within 0.1 of a size below 1; within a tenth of a larger one; beyond.
    for (recorded, candidate, truth) in
        [(0.5, 0.6 - 1e-9, None), (8.0, 8.75, Some(9.0)), (4.0, 6.0, Some(4.0)), (5.0, 4.0, Some(6.0))]
    {
        tallies.add(&BTreeMap::new(), row(recorded, candidate, truth));
    }
    tallies.add(&BTreeMap::new(), Replayed { recorded: Some(1.0), candidate: None, truth: Some(1.0) });
    tallies.add(&BTreeMap::new(), Replayed { recorded: None, candidate: Some(1.0), truth: Some(1.0) });
    assert_eq!(tallies.rows(), 6);
    let (figures, slices, unsliced) = tallies.figures();
    assert_eq!((figures.rows, figures.compared, figures.failed, figures.changed), (6, 4, 1, 2));
    assert_eq!(figures.flips[0], Flips { threshold: 5.0, to_below: 1, to_above: 1 });
    assert_eq!(figures.flips[1], Flips { threshold: 9.0, to_below: 0, to_above: 0 });
    let difference = figures.difference.unwrap();
    near(difference.mean, (0.1 - 1e-9 + 0.75 + 2.0 - 1.0) / 4.0);
    near(difference.mean_abs, (0.1 - 1e-9 + 0.75 + 2.0 + 1.0) / 4.0);
    near(difference.max_abs, 2.0);
    near(difference.p50, f64::midpoint(0.1 - 1e-9, 0.75));
    near(difference.p95, 0.75 + 1.25 * 0.85);
    // Recorded: -1, 0, -1; candidate: -0.25, 2, -2; only where both answered.
    let (recorded, candidate) = (figures.recorded, figures.candidate);
    assert_eq!((recorded.labels, candidate.labels, recorded.wrong), (3, 3, None));
    near(recorded.mae.unwrap(), 2.0 / 3.0);
    near(recorded.bias.unwrap(), -2.0 / 3.0);
    near(recorded.rmse.unwrap(), (2.0_f64 / 3.0).sqrt());
    near(candidate.mae.unwrap(), 4.25 / 3.0);
    near(candidate.bias.unwrap(), -0.25 / 3.0);
    near(candidate.rmse.unwrap(), (8.0625_f64 / 3.0).sqrt());
    assert!(slices.is_empty() && unsliced == 0);
}

#[test]
fn classes_are_equal_or_not() {
    let mut tallies = Tallies::new(rules(AnswerKind::Class, &[]), "");
    for (recorded, candidate, truth) in [(1.0, 1.0, Some(1.0)), (1.0, 2.0, Some(2.0)), (0.0, 2.0, Some(1.0))] {
        tallies.add(&BTreeMap::new(), row(recorded, candidate, truth));
    }
    let (figures, ..) = tallies.figures();
    assert_eq!((figures.compared, figures.changed, figures.difference), (3, 2, None));
    assert_eq!((figures.recorded.wrong, figures.candidate.wrong), (Some(2), Some(1)));
    assert_eq!((figures.recorded.mae, figures.recorded.labels), (None, 3));
}

#[test]
fn the_worst_slice_is_first_and_slices_are_bounded() {
    let mut tallies = Tallies::new(rules(AnswerKind::Quantity, &[]), "pen");
    tallies.add(&pen("better"), row(1.0, 3.0, Some(3.0)));
    tallies.add(&pen("worse"), row(3.0, 1.0, Some(3.0)));
    tallies.add(&pen("changed"), row(3.0, 1.0, None));
    tallies.add(&pen("same"), row(3.0, 3.0, None));
    tallies.add(&BTreeMap::new(), row(3.0, 2.0, Some(3.0)));
    let (_, slices, _) = tallies.figures();
    let order: Vec<_> = slices.iter().map(|slice| slice.value.as_deref()).collect();
    assert_eq!(order, [Some("worse"), None, Some("better"), Some("changed"), Some("same")]);

    let mut tallies = Tallies::new(rules(AnswerKind::Quantity, &[]), "pen");
    for number in 0..MAX_SLICES + 7 {
        tallies.add(&pen(&number.to_string()), row(1.0, 1.0, None));
    }
    let (figures, slices, unsliced) = tallies.figures();
    assert_eq!((figures.rows, slices.len(), unsliced), (MAX_SLICES as u64 + 7, MAX_SLICES, 7));
}

#[test]
fn a_candidate_that_answers_the_same_float_changes_nothing() {
    let answer = Tensor::new("y", [2], TensorData::Fp32(vec![0.7, f32::NAN]));
    assert_eq!(answers(Some(&answer), 2).unwrap(), [Some(0.7), None]);
    assert!(answers(Some(&answer), 3).is_err());
    assert!(answers(None, 1).is_err());
    let texts = Tensor::new("y", [1], TensorData::Bytes(vec!["a".into()]));
    assert!(answers(Some(&texts), 1).is_err());
}

#[test]
fn the_output_is_the_named_one_or_the_first_number() {
    let spec =
        |name: &str, datatype: Datatype, shape: &[i64]| TensorSpec { name: name.into(), datatype, shape: shape.into() };
    let outputs = [
        spec("probabilities", Datatype::Fp32, &[-1, 3]),
        spec("label", Datatype::Int64, &[-1]),
        spec("depth", Datatype::Fp32, &[-1, 1]),
        spec("a_name", Datatype::Bytes, &[-1]),
    ];
    assert_eq!(compared_output(&outputs, "").unwrap(), 2);
    assert_eq!(compared_output(&outputs, "label").unwrap(), 1);
    assert_eq!((kind_of(&outputs[1]), kind_of(&outputs[2])), (AnswerKind::Class, AnswerKind::Quantity));
    for unfit in ["probabilities", "a_name", "other"] {
        assert!(compared_output(&outputs, unfit).unwrap_err().message().contains(unfit));
    }
    assert!(compared_output(&outputs[..1], "").is_err());
}

#[test]
fn latencies_have_quantiles_and_requests_have_bounds() {
    assert_eq!(latency(Vec::new()), None);
    let measured = latency((0..=100).rev().map(f64::from).collect()).unwrap();
    assert_eq!((measured.rows, measured.p50_us.round() as u64, measured.p99_us.round() as u64), (101, 50, 99));
    let request = ReplayRequest::new("2", 0, 1);
    assert!(check(&request).is_ok());
    let wrong = [
        ReplayRequest { to_ms: 0, ..request.clone() },
        ReplayRequest { tolerance: -1.0, ..request.clone() },
        ReplayRequest { tolerance: f64::NAN, ..request.clone() },
        ReplayRequest { thresholds: vec![f64::INFINITY], ..request.clone() },
        ReplayRequest { thresholds: vec![1.0; 21], ..request.clone() },
        ReplayRequest { max_rows: 0, ..request.clone() },
        ReplayRequest { max_rows: MAX_ROWS + 1, ..request },
    ];
    for request in wrong {
        assert!(check(&request).is_err(), "{request:?}");
    }
}
