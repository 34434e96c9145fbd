//! All loads, in one order.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::engine::{self, Limit};
use crate::fishy::{Fishy, Setting};
use crate::load::{Load, Measured, measure};
use crate::peers::{Peer, Places};
use crate::report::{Better, Number, OURS, Report};
use crate::requests::{Form, Model, get, requests};
use crate::server::Server;

const MANY: usize = 64;
/// As many as keep all cores busy, and one that waits for each.
const FEW: usize = 4;

const CPU: &str = "CPU us per request";
const CPU_ABOVE: &str = "CPU us above the engine";
const RATE: &str = "requests/s";
const P50: &str = "p50 us";
const P50_ABOVE: &str = "p50 us above the engine";
const P99: &str = "p99 us";
const MEMORY: &str = "resident MB";

/// What the requests of a load are.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    model: Model,
    form: Form,
    connections: usize,
    bearer: Option<&'a str>,
}

pub struct Suite {
    pub places: Rc<Places>,
    pub duration: Duration,
    pub deployments: usize,
    pub sides: Vec<Peer>,
    pub only: Vec<String>,
    pub out: PathBuf,
    pub report: Report,
}

/// 1000 as `1,000`.
fn grouped(number: usize) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

fn load_name(model: Model, form: Form, connections: usize) -> String {
    let form = match form {
        Form::Json | Form::JsonRecorded(_) | Form::Mlflow => "JSON",
        Form::Binary => "binary",
        Form::Grpc => "gRPC",
    };
    let plural = if connections == 1 { "" } else { "s" };
    format!("{}, {form}, {connections} connection{plural}", model.name())
}

/// The loads of a model that a server takes.
fn loads(model: Model, peer: Peer) -> Vec<(String, Form, usize)> {
    let mut loads = Vec::new();
    let mut add = |form, connections| loads.push((load_name(model, form, connections), form, connections));
    if model.is_small() {
        add(peer.json(), MANY);
        add(peer.json(), 1);
        if peer.takes_binary() {
            add(Form::Binary, MANY);
        }
        if peer.takes_grpc() {
            add(Form::Grpc, MANY);
        }
    } else if peer.takes_binary() {
        add(Form::Binary, FEW);
    }
    loads
}

impl Suite {
    fn is_wanted(&self, load: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| load.contains(part.as_str()))
    }

    fn is_side(&self, peer: Peer) -> bool {
        self.sides.is_empty() || self.sides.contains(&peer)
    }

    fn add(&mut self, side: &str, load: &str, metric: &'static str, better: Better, value: f64, limit: Option<f64>) {
        self.report.add(side, Number { load: load.to_owned(), metric, better, value, limit });
    }

    pub async fn run(&mut self) -> Result<()> {
        for model in Model::ALL {
            let are_wanted = |peer| loads(model, peer).iter().any(|(name, ..)| self.is_wanted(name));
            let of_model = |peer: &Peer| self.is_side(*peer) && are_wanted(*peer);
            let peers: Vec<Peer> = Peer::value_variants().iter().copied().filter(of_model).collect();
            if peers.is_empty() {
                continue;
            }
            let file = self.places.models.join(format!("{0}/{0}.onnx", model.name()));
            let limit = engine::measure(&self.places.onnxruntime, &file, model, self.duration / 2)?;
            println!(
                "\n{}: the engine alone takes {:.2} us of CPU, {:.2} us at the middle, {:.0} calls/s on all cores",
                model.name(),
                limit.cpu_us,
                limit.p50_us,
                limit.per_second
            );
            for peer in peers {
                println!("\n{} with {}", peer.name(), model.name());
                if let Err(error) = self.peer(peer, model, &limit).await {
                    if peer == Peer::Fishy {
                        return Err(error);
                    }
                    println!("  SKIPPED: {error:#}");
                }
                // What was measured so far is kept, also when a later load fails.
                self.report.write(&self.out)?;
            }
        }
        if self.is_side(Peer::Fishy) {
            self.everything_on().await?;
            self.many_deployments().await?;
        }
        self.report.write(&self.out)
    }

    async fn peer(&mut self, peer: Peer, model: Model, limit: &Limit) -> Result<()> {
        let folder = tempfile::Builder::new().prefix("fishy-bench-").tempdir()?;
        let fishy;
        let server = if peer == Peer::Fishy {
            fishy = Fishy::prepare(&self.places, &[model], 0).await?;
            fishy.start(&[], &probe(model, None)).await?
        } else {
            peer.start(model, &self.places, folder.path()).await?
        };
        let start = format!("start to first prediction, {}", model.name());
        self.add(peer.name(), &start, "seconds", Better::Less, server.start_s, None);
        server.rest().await?;
        let idle = server.usage()?;
        let name = format!("idle, {}", model.name());
        self.add(peer.name(), &name, MEMORY, Better::Less, idle.resident_bytes / 1e6, None);
        self.add(peer.name(), &name, "processes", Better::Less, idle.processes as f64, None);
        for (name, form, connections) in loads(model, peer) {
            if !self.is_wanted(&name) {
                continue;
            }
            let asked = Asked { model, form, connections, bearer: None };
            let measured = self.load(peer, &server, asked).await?;
            self.note(peer.name(), &name, &measured, model, limit, connections);
            if peer == Peer::Fishy && matches!(form, Form::Binary | Form::Grpc) {
                self.beside_json(&name, &load_name(model, Form::Json, connections));
            }
        }
        let peak = server.usage()?.peak_bytes;
        self.add(peer.name(), &format!("at most, {}", model.name()), MEMORY, Better::Less, peak / 1e6, None);
        Ok(())
    }

    async fn load(&self, peer: Peer, server: &Server, asked: Asked<'_>) -> Result<Measured> {
        let Asked { model, form, connections, bearer } = asked;
        let load = Load {
            requests: Rc::new(requests(model, form, &peer.path(model), bearer)),
            connections,
            is_grpc: form == Form::Grpc,
            bearer: bearer.map(str::to_owned),
        };
        measure(server, &load, self.duration).await
    }

    fn note(&mut self, side: &str, name: &str, measured: &Measured, model: Model, limit: &Limit, connections: usize) {
        let Measured { per_second, p50_us, p99_us, cpu_us } = *measured;
        self.add(side, name, CPU, Better::Less, cpu_us, Some(limit.cpu_us));
        let of_engine = (!model.is_small()).then_some(limit.per_second);
        self.add(side, name, RATE, Better::More, per_second, of_engine);
        self.add(side, name, P50, Better::Less, p50_us, None);
        self.add(side, name, P99, Better::Less, p99_us, None);
        if model.is_small() {
            self.add(side, name, CPU_ABOVE, Better::Less, cpu_us - limit.cpu_us, None);
            if connections == 1 {
                self.add(side, name, P50_ABOVE, Better::Less, p50_us - limit.p50_us, None);
            }
        }
    }

    /// Our JSON as the peer of our other doors.
    fn beside_json(&mut self, name: &str, json: &str) {
        for (metric, better) in [(CPU, Better::Less), (RATE, Better::More), (P50, Better::Less)] {
            if let Some(value) = self.report.ours(json, metric) {
                self.add("fishy, JSON", name, metric, better, value, None);
            }
        }
    }

    /// The prediction log, metrics and callers that show a token, beside none of them.
    async fn everything_on(&mut self) -> Result<()> {
        const OFF: &str = "fishy, all of them off";
        let name = "gbm, JSON, 64 connections, log+metrics+auth";
        if !self.is_wanted(name) {
            return Ok(());
        }
        println!("\nfishy with log, metrics and authorisation, and without");
        let model = Model::Gbm;
        let settings: [(&str, &[Setting], bool); 2] =
            [(OURS, &[("FISHY__AUTH__TOKENS", "true")], true), (OFF, &[("FISHY__TELEMETRY__METRICS", "false")], false)];
        // A folder for each: what one has logged must not be the other's burden.
        for (side, settings, is_on) in settings {
            let fishy = Fishy::prepare(&self.places, &[model], 0).await?;
            let token = if is_on { Some(fishy.token()?) } else { None };
            let server = fishy.start(settings, &probe(model, token.as_deref())).await?;
            let form = Form::JsonRecorded(is_on);
            let asked = Asked { model, form, connections: MANY, bearer: token.as_deref() };
            let measured = self.load(Peer::Fishy, &server, asked).await?;
            self.add(side, name, CPU, Better::Less, measured.cpu_us, None);
            self.add(side, name, RATE, Better::More, measured.per_second, None);
            self.add(side, name, P99, Better::Less, measured.p99_us, None);
        }
        Ok(())
    }

    /// Many deployments of small models in one process, all in memory and none.
    async fn many_deployments(&mut self) -> Result<()> {
        const ALONE: &str = "fishy, two deployments";
        let name = format!("{} deployments", grouped(self.deployments));
        if !self.is_wanted(&name) {
            return Ok(());
        }
        println!("\nfishy with {name}");
        let models = [Model::Gbm, Model::Mlp];
        let asked = Asked { model: Model::Gbm, form: Form::Json, connections: 1, bearer: None };
        let few = Fishy::prepare(&self.places, &models, 0).await?;
        let alone = few.start(&[], &probe(Model::Gbm, None)).await?;
        let measured = self.load(Peer::Fishy, &alone, asked).await?;
        drop(alone);
        let many = Fishy::prepare(&self.places, &models, self.deployments / models.len() - 1).await?;
        for (how, settings) in
            [("all loaded", &[][..]), ("loaded on demand", &[("FISHY__DEPLOYMENT__LOAD_AT_START", "false")][..])]
        {
            let load = format!("{name}, {how}");
            let server = many.start(settings, &get("/ready/traffic")).await?;
            self.add(OURS, &load, "seconds to start", Better::Less, server.start_s, None);
            server.rest().await?;
            self.add(OURS, &load, MEMORY, Better::Less, server.usage()?.resident_bytes / 1e6, None);
            let warm = self.load(Peer::Fishy, &server, asked).await?;
            for (metric, of_many, of_few) in [(P50, warm.p50_us, measured.p50_us), (P99, warm.p99_us, measured.p99_us)]
            {
                self.add(OURS, &load, metric, Better::Less, of_many, None);
                self.add(ALONE, &load, metric, Better::Less, of_few, None);
            }
        }
        Ok(())
    }
}

/// What a server that has started answers first.
fn probe(model: Model, bearer: Option<&str>) -> bytes::Bytes {
    requests(model, Form::Json, &Peer::Fishy.path(model), bearer).swap_remove(0)
}
