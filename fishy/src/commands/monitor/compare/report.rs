//! The report of a method comparison: its figures, its signature, and whether both hold.

use anyhow::{Context, Result, bail};
use fishy_audit::{Signer, Verifier, canonical_json};
use fishy_contracts::monitoring::ComparedPair;
use fishy_drift::{BlandAltman, BootstrapMethod, Interval, PassingBablok, bootstrap};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kind of document that is signed.
const FORMAT: &str = "fishy-method-comparison/1";
const CONFIDENCE: f64 = 0.95;
const RESAMPLES: usize = 2_000;
/// A report line is `{"report":…` then this, then key and note.
const SIGNED: &str = ",\"signed\":";
/// Bytes of a report: far more than 3000 pairs need.
const MAX_BYTES: usize = 4 << 20;

/// A comparison of automatic with manual values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// [`FORMAT`].
    pub format: String,
    /// Where the pairs come from.
    pub source: String,
    /// When, RFC 3339.
    pub made: String,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// What was found.
    pub figures: Figures,
    /// What it was found from.
    pub pairs: Vec<ComparedPair>,
}

/// The figures, in the unit of the values. First is automatic, second is manual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Bias and limits of agreement.
    pub bland_altman: BlandAltman,
    /// Bootstrap interval (BCa) of the bias.
    pub bias_bootstrap: Interval,
    /// Mean absolute difference.
    pub mean_absolute_difference: f64,
    /// Its bootstrap interval (BCa).
    pub mean_absolute_difference_bootstrap: Interval,
    /// The line `manual = intercept + slope * automatic`.
    pub passing_bablok: Option<PassingBablok>,
    /// Why there is none.
    pub passing_bablok_problem: Option<String>,
}

impl Figures {
    fn of(pairs: &[ComparedPair], seed: u64) -> Result<Self> {
        let (automatic, manual): (Vec<f64>, Vec<f64>) = pairs.iter().map(|pair| (pair.automatic, pair.manual)).unzip();
        let bland_altman = BlandAltman::of(&automatic, &manual, CONFIDENCE)?;
        let differences: Vec<f64> = automatic.iter().zip(&manual).map(|(first, second)| first - second).collect();
        let mean = |places: &[usize], part: fn(f64) -> f64| {
            places.iter().map(|place| part(differences[*place])).sum::<f64>() / places.len() as f64
        };
        let all: Vec<usize> = (0..differences.len()).collect();
        let interval = |part: fn(f64) -> f64| {
            let statistic = |places: &[usize]| mean(places, part);
            bootstrap(all.len(), statistic, RESAMPLES, seed, CONFIDENCE, BootstrapMethod::Bca)
        };
        let line = PassingBablok::of(&automatic, &manual, CONFIDENCE);
        Ok(Self {
            bland_altman,
            bias_bootstrap: interval(|difference| difference)?,
            mean_absolute_difference: mean(&all, f64::abs),
            mean_absolute_difference_bootstrap: interval(f64::abs)?,
            passing_bablok_problem: line.as_ref().err().map(ToString::to_string),
            passing_bablok: line.ok(),
        })
    }
}

impl Comparison {
    /// Compares the pairs.
    pub fn of(source: String, made: String, seed: u64, pairs: Vec<ComparedPair>) -> Result<Self> {
        let figures = Figures::of(&pairs, seed)?;
        Ok(Self { format: FORMAT.to_owned(), source, made, seed, figures, pairs })
    }

    /// The report as one line of JSON: `{"report":{…},"signed":{"key":"…","note":"…"}}`. The bytes of the report, as they
    /// stand there, are signed: it is not written anew to be verified.
    pub fn signed(&self, signer: &Signer) -> Result<String> {
        let report = canonical_json(&serde_json::to_value(self)?);
        let note = signer.sign_statement(FORMAT, report.as_bytes())?;
        let signed = json!({"key": signer.verifier().to_string(), "note": note});
        Ok(format!("{{\"report\":{report}{SIGNED}{signed}}}\n"))
    }
}

/// What the verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether the signature fits, and the figures follow from the pairs.
    pub is_ok: bool,
    /// What does not; empty where all does.
    pub problem: String,
    /// The key that signed.
    pub key: String,
    /// Where the pairs come from.
    pub source: String,
    /// When it was made.
    pub made: String,
    /// How many pairs.
    pub pairs: usize,
}

/// Verifies a report: that the trusted key, or else the one it names, signed it as it is, and that its figures follow from
/// its pairs.
pub fn verify(text: &str, trusted: Option<Verifier>) -> Verdict {
    match checked(text, trusted) {
        Ok(verdict) => verdict,
        Err(error) => Verdict { problem: format!("{error:#}"), ..Verdict::default() },
    }
}

fn checked(text: &str, trusted: Option<Verifier>) -> Result<Verdict> {
    if text.len() > MAX_BYTES {
        bail!("a report has at most {MAX_BYTES} bytes");
    }
    let whole = text.trim_end().strip_prefix("{\"report\":").and_then(|rest| rest.strip_suffix('}'));
    let (report, signed) =
        whole.and_then(|rest| rest.rsplit_once(SIGNED)).context("this is no signed comparison: it has another form")?;
    let signed: Value = serde_json::from_str(signed).context("the signature cannot be read")?;
    let part = |name: &str| signed[name].as_str().with_context(|| format!("the signature has no {name:?}"));
    let verifier = match trusted {
        Some(trusted) => trusted,
        None => Verifier::parse(part("key")?)?,
    };
    verifier.check_statement(part("note")?, FORMAT, report.as_bytes())?;
    let comparison: Comparison = serde_json::from_str(report).context("the report cannot be read")?;
    let again = Figures::of(&comparison.pairs, comparison.seed)?;
    if !is_near(&serde_json::to_value(&again)?, &serde_json::to_value(&comparison.figures)?) {
        bail!("the figures do not follow from the pairs");
    }
    Ok(Verdict {
        is_ok: true,
        problem: String::new(),
        key: verifier.to_string(),
        pairs: comparison.pairs.len(),
        source: comparison.source,
        made: comparison.made,
    })
}

/// Whether two values are the same but for the last digits of their numbers, which reading may change.
fn is_near(first: &Value, second: &Value) -> bool {
    match (first, second) {
        (Value::Number(first), Value::Number(second)) => {
            let (first, second) = (first.as_f64().unwrap_or_default(), second.as_f64().unwrap_or_default());
            (first - second).abs() <= 1e-9 * first.abs().max(second.abs()).max(1e-3)
        }
        (Value::Object(first), Value::Object(second)) => {
            first.len() == second.len()
                && first.iter().all(|(name, value)| second.get(name).is_some_and(|other| is_near(value, other)))
        }
        _ => first == second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison() -> Comparison {
        let pairs = (0..30_u32).map(|place| {
            let manual = f64::from(place * 7 % 30) + 0.1;
            let automatic = manual * 1.05 + f64::from(place % 4) / 3.0;
            ComparedPair { id: place.to_string(), automatic, manual }
        });
        Comparison::of("file counts.csv".into(), "2012-05-01T00:00:00Z".into(), 1, pairs.collect()).unwrap()
    }

    #[test]
    fn a_report_verifies_as_it_was_signed_and_not_otherwise() {
        let signer = Signer::from_random("fish.example/audit", [7; 32]).unwrap();
        let text = comparison().signed(&signer).unwrap();
        let verdict = verify(&text, None);
        assert!(verdict.is_ok, "{verdict:?}");
        assert_eq!((verdict.pairs, verdict.source.as_str()), (30, "file counts.csv"));
        assert!(verify(&text, Some(signer.verifier())).is_ok);
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "it is JSON");

        let other = Signer::from_random("fish.example/audit", [6; 32]).unwrap();
        assert!(!verify(&text, Some(other.verifier())).is_ok, "another key is trusted");
        assert!(!verify(&text.replacen("counts.csv", "counts.xls", 1), None).is_ok);
        assert!(!verify(&text.replacen("\"id\":\"3\"", "\"id\":\"4\"", 1), None).is_ok);
        assert!(!verify(&text[..text.len() / 2], None).is_ok);
        assert!(!verify("{}", None).is_ok);
    }

    #[test]
    fn figures_that_do_not_follow_from_the_pairs_show_even_when_signed() {
        let signer = Signer::from_random("fish.example/audit", [7; 32]).unwrap();
        let mut comparison = comparison();
        comparison.figures.bland_altman.bias = 0.0;
        let verdict = verify(&comparison.signed(&signer).unwrap(), None);
        assert!(verdict.problem.contains("do not follow"), "{verdict:?}");
    }

    #[test]
    fn two_pairs_are_no_comparison() {
        let pairs = comparison().pairs[..2].to_vec();
        assert!(Comparison::of(String::new(), String::new(), 1, pairs).is_err());
    }
}
