//! What comes to the monitor: predictions with 12 features and 5 labels.

use std::collections::BTreeMap;

use anyhow::Result;
use bytes::Bytes;
use fishy_contracts::deployment::PredictionRecord;
use fishy_core::time::DAY_MS;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde_json::{Value, json};

pub const DEPLOYMENT: &str = "oxygen";
/// The first midnight: 7 October 2024.
pub const START_MS: i64 = 20_003 * DAY_MS;
/// Records of a batch, as the deployment service sends them.
pub const BATCH: usize = 1_000;

pub const FEATURES: [&str; 12] = [
    "chlorophyll",
    "current",
    "depth",
    "light",
    "nitrate",
    "ph",
    "pressure",
    "salinity",
    "temperature",
    "tide",
    "turbidity",
    "wind",
];
/// Each label and how many values it has.
const LABELS: [(&str, u32); 5] = [("camera", 10), ("farm", 5), (SERIES, 20), ("sensor", 50), ("species", 4)];
/// The label that tells whose sensors a prediction is made from.
const SERIES: &str = "pen";

/// An id as the service makes them: UUIDv7, which grow with time.
pub fn id(number: u64) -> String {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 27;
    let at = 0x0192_6100_0000 + number / 20;
    format!(
        "{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x}",
        at >> 16,
        at & 0xffff,
        number % 20 * 200,
        mixed >> 52,
        mixed & 0xffff_ffff_ffff
    )
}

pub struct Farm(ChaCha8Rng);

impl Farm {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The features of one prediction.
    pub fn inputs(&mut self) -> BTreeMap<String, Value> {
        let value = |place: usize, normal: f64| json!(((10.0 + place as f64 + normal) * 1_000.0).round() / 1_000.0);
        FEATURES
            .iter()
            .enumerate()
            .map(|(place, name)| ((*name).to_owned(), value(place, self.0.sample(StandardNormal))))
            .collect()
    }

    /// The labels of the prediction with this number. Pens take turns, as loggers do that read at a fixed interval: were
    /// they drawn, every second reading would come after a gap, and the load would be one of data faults.
    pub fn labels(&mut self, number: u64) -> BTreeMap<String, String> {
        LABELS
            .iter()
            .map(|(name, values)| {
                let drawn = self.0.random_range(0..*values);
                let value = if *name == SERIES { (number % u64::from(*values)) as u32 } else { drawn };
                ((*name).to_owned(), format!("{name}-{value}"))
            })
            .collect()
    }

    /// Batches of records with the numbers `first` and following, whose event times go evenly over `span_ms`.
    pub fn batches(&mut self, first: u64, count: usize, span_ms: i64) -> Result<Vec<Bytes>> {
        let mut batches = Vec::with_capacity(count.div_ceil(BATCH));
        let mut lines = Vec::new();
        for place in 0..count {
            let time_ms = START_MS + (place as i64 * span_ms) / count as i64;
            let record = PredictionRecord {
                id: id(first + place as u64),
                deployment: DEPLOYMENT.to_owned(),
                revision: 1,
                version: "3".to_owned(),
                is_shadow: false,
                time_ms,
                received_ms: time_ms,
                latency_us: 60,
                inputs: self.inputs(),
                outputs: BTreeMap::from([("do_mgl".to_owned(), json!(7.0 + self.0.random::<f64>()))]),
                labels: self.labels(first + place as u64),
            };
            serde_json::to_writer(&mut lines, &record)?;
            lines.push(b'\n');
            if (place + 1) % BATCH == 0 || place + 1 == count {
                batches.push(Bytes::from(std::mem::take(&mut lines)));
            }
        }
        Ok(batches)
    }
}

/// A monitor of the twelve features with a check of each slice.
pub fn monitor() -> Value {
    json!({
        "name": DEPLOYMENT, "deployment": DEPLOYMENT, "features": FEATURES, "lateness_ms": 360 * DAY_MS,
        "series_label": SERIES,
        "checks": [{
            "name": "drift", "reference": {"kind": "rolling", "days": 1}, "slices": LABELS.map(|(name, _)| name),
            "tests": {"psi": {"alert": {"kind": "constant", "limit": 0.25}}},
        }],
    })
}
