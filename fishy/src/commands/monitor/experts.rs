//! `fishy monitor queue …` and `fishy monitor agreement`.

use anyhow::Result;
use clap::{Args, Subcommand};
use fishy_contracts::monitoring::{
    AgreementOf, AgreementQuery, AgreementWeights, QueueAnswer, QueueItem, QueueReceipt, QueueRelease, QueueRequest,
};
use fishy_core::time::rfc3339;

use super::super::OutputArguments;
use super::super::client::Server;
use super::super::feedback::degree;
use crate::output::{Output, json, table};

/// `fishy monitor queue …`
#[derive(Debug, Subcommand)]
pub enum Queue {
    /// Takes the next items; those that you hold already come first.
    Next {
        /// The monitor.
        name: String,
        /// How many, 1 to 50.
        #[arg(long, default_value_t = 1)]
        count: u32,
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Answers an item that you hold, or corrects your answer; what you said before is kept.
    Answer {
        /// The monitor.
        name: String,
        /// The lease.
        lease: String,
        /// What it should have been: a word, or a number.
        #[arg(long)]
        label: String,
        /// none, mild, moderate or severe.
        #[arg(long)]
        severity: Option<String>,
        /// Further words.
        #[arg(long, default_value = "")]
        text: String,
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Gives an item up for good, or with `--return` back to anybody.
    Skip {
        /// The monitor.
        name: String,
        /// The lease.
        lease: String,
        /// You may be shown it again later.
        #[arg(long = "return")]
        is_returned: bool,
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// What comes next, without taking it.
    List {
        /// The monitor.
        name: String,
        /// How many, 1 to 50.
        #[arg(long, default_value_t = 10)]
        limit: u32,
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        output: OutputArguments,
    },
}

impl Queue {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Next { name, count, server, output } => {
                show(&server.monitoring()?.next_items(&name, QueueRequest { count }).await?.items, output.output)
            }
            Self::List { name, limit, server, output } => {
                show(&server.monitoring()?.queue(&name, limit).await?.items, output.output)
            }
            Self::Answer { name, lease, label, severity, text, server, output } => {
                let answer = QueueAnswer { label, severity: severity.as_deref().map(degree).transpose()?, text };
                ended(&server.monitoring()?.answer_item(&name, &lease, &answer).await?, output.output)
            }
            Self::Skip { name, lease, is_returned, server, output } => {
                let release = QueueRelease { is_skipped: !is_returned };
                ended(&server.monitoring()?.release_item(&name, &lease, release).await?, output.output)
            }
        }
    }
}

fn ended(receipt: &QueueReceipt, output: Output) -> Result<()> {
    if output == Output::Json {
        return json(receipt);
    }
    println!("{} {}", receipt.lease, receipt.state);
    Ok(())
}

fn show(items: &[QueueItem], output: Output) -> Result<()> {
    if output == Output::Json {
        return json(&items);
    }
    let mut rows = table(&["lease", "until", "answer", "time", "where", "said", "why"]);
    for item in items {
        let labels: Vec<String> = item.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let why: Vec<&str> = item.reasons.iter().map(|reason| reason.message.as_str()).collect();
        rows.add_row([
            item.lease.clone(),
            item.until_ms.map(rfc3339).unwrap_or_default(),
            item.prediction_id.clone(),
            rfc3339(item.time_ms),
            labels.join(" "),
            item.output.map_or_else(|| "-".to_owned(), |output| format!("{output:.3}")),
            why.join("; "),
        ]);
    }
    println!("{rows}");
    Ok(())
}

/// What is compared.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Of {
    /// The labels.
    Label,
    /// The severities.
    Severity,
}

/// How different labels count.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Weights {
    /// As no agreement.
    None,
    /// By their distance.
    Linear,
    /// By its square.
    Quadratic,
}

/// `fishy monitor agreement`
#[derive(Debug, Args)]
pub struct AgreementOfExperts {
    /// The monitor.
    name: String,
    /// What is compared.
    #[arg(long, value_enum, default_value_t = Of::Label)]
    of: Of,
    /// How different labels count; words have no order and take none.
    #[arg(long, value_enum, default_value_t = Weights::None)]
    weights: Weights,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    output: OutputArguments,
}

impl AgreementOfExperts {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        let query = AgreementQuery {
            of: match self.of {
                Of::Label => AgreementOf::Label,
                Of::Severity => AgreementOf::Severity,
            },
            weights: match self.weights {
                Weights::None => AgreementWeights::None,
                Weights::Linear => AgreementWeights::Linear,
                Weights::Quadratic => AgreementWeights::Quadratic,
            },
        };
        let found = self.server.monitoring()?.agreement(&self.name, query).await?;
        if self.output.output == Output::Json {
            return json(&found);
        }
        let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let mut rows = table(&["experts", "items", "same", "kappa", "95 % from", "to", "p"]);
        for pair in found.pairs {
            let who = if pair.first == pair.second {
                format!("{} twice", pair.first)
            } else {
                format!("{}, {}", pair.first, pair.second)
            };
            rows.add_row([
                who,
                pair.items.to_string(),
                format!("{:.0} %", pair.same * 100.0),
                figure(pair.kappa),
                figure(pair.low),
                figure(pair.high),
                figure(pair.p_value),
            ]);
        }
        println!("{rows}");
        println!("{} items with two answers; Fleiss' kappa {}", found.items, figure(found.fleiss_kappa));
        Ok(())
    }
}
