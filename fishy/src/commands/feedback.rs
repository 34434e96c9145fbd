mod truth_file;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use fishy_contracts::monitoring::{Degree, GroundTruth, Judgement, NewOpinion, Opinion, OpinionQuery, Opinions};
use fishy_core::time::rfc3339;

use super::OutputArguments;
use super::client::Server;
use crate::output::{Output, json, table};

/// Items of one request: far below the server's bound.
const CHUNK: usize = 5000;

/// `fishy feedback …`
#[derive(Debug, Subcommand)]
pub enum What {
    /// Sends true values from a file of JSON lines, CSV (`.csv`) or Parquet (`.parquet`), with `prediction_id`, `value`
    /// and, where it is known, `time_ms` or `time`: when the value became known.
    GroundTruth {
        /// The file; `-` for JSON lines on standard input.
        file: PathBuf,
        #[command(flatten)]
        server: Server,
    },
    /// Says whether an answer was helpful, or what an expert says it should have been.
    Opinion {
        /// The answer.
        prediction_id: String,
        /// It was helpful.
        #[arg(long, group = "says")]
        helpful: bool,
        /// It was not helpful.
        #[arg(long, group = "says")]
        not_helpful: bool,
        /// As an expert: what it should have been.
        #[arg(long, group = "says")]
        label: Option<String>,
        /// As an expert: none, mild, moderate or severe.
        #[arg(long, requires = "label")]
        severity: Option<String>,
        /// Why it was not helpful, in a word: wrong, late, unclear.
        #[arg(long, default_value = "", conflicts_with = "label")]
        reason: String,
        /// Further words.
        #[arg(long, default_value = "")]
        text: String,
        #[command(flatten)]
        server: Server,
    },
    /// Opinions of answers, newest first.
    List {
        /// Of the answers of this deployment.
        #[arg(long, default_value = "")]
        deployment: String,
        /// Of this answer.
        #[arg(long, default_value = "")]
        prediction_id: String,
        /// `user` or `expert`.
        #[arg(long, default_value = "")]
        by: String,
        /// How many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
}

impl What {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::GroundTruth { file, server } => {
                let monitoring = server.monitoring()?;
                let (mut accepted, mut duplicates) = (0, 0);
                let mut items = truth_file::open(&file)?.peekable();
                while items.peek().is_some() {
                    let items = items.by_ref().take(CHUNK).collect::<Result<Vec<_>>>()?;
                    let receipt = monitoring.ground_truth(&GroundTruth { items }).await?;
                    accepted += receipt.accepted;
                    duplicates += receipt.duplicates;
                }
                println!("{accepted} accepted, {duplicates} known already");
                Ok(())
            }
            Self::Opinion { prediction_id, helpful, not_helpful, label, severity, reason, text, server } => {
                let opinion = match (label, helpful || not_helpful) {
                    (Some(label), _) => {
                        Judgement::Expert { label, severity: severity.as_deref().map(degree).transpose()? }
                    }
                    (None, true) => Judgement::User { is_helpful: helpful, reason },
                    (None, false) => bail!("say --helpful, --not-helpful or --label"),
                };
                let item = NewOpinion { id: None, prediction_id, opinion, text, time_ms: None };
                server.monitoring()?.give_opinions(&Opinions { items: vec![item] }).await?;
                println!("kept");
                Ok(())
            }
            Self::List { deployment, prediction_id, by, limit, server, output } => {
                let mut query = OpinionQuery { deployment, prediction_id, by, limit: None, page_token: String::new() };
                let monitoring = server.monitoring()?;
                let mut found: Vec<Opinion> = Vec::new();
                while found.len() < limit as usize {
                    query.limit = Some((limit - found.len() as u32).min(1_000));
                    let page = monitoring.opinions(&query).await?;
                    found.extend(page.items);
                    let Some(token) = page.next_page_token else { break };
                    query.page_token = token;
                }
                show(&found, output.output)
            }
        }
    }
}

pub(super) fn degree(text: &str) -> Result<Degree> {
    serde_json::from_value(text.into())
        .with_context(|| format!("severity is {text:?}: use none, mild, moderate or severe"))
}

fn show(opinions: &[Opinion], output: Output) -> Result<()> {
    if output == Output::Json {
        return json(&opinions);
    }
    let mut rows = table(&["given", "by", "answer", "says", "words"]);
    for opinion in opinions {
        let says = match &opinion.opinion {
            Judgement::User { is_helpful: true, .. } => "helpful".to_owned(),
            Judgement::User { is_helpful: false, reason } => format!("not helpful {reason}"),
            Judgement::Expert { label, severity: None } => label.clone(),
            Judgement::Expert { label, severity: Some(degree) } => format!("{label} ({degree:?})").to_lowercase(),
        };
        rows.add_row([
            rfc3339(opinion.time_ms),
            opinion.actor.clone(),
            opinion.prediction_id.clone(),
            says,
            opinion.text.clone(),
        ]);
    }
    println!("{rows}");
    Ok(())
}
