//! Inference graphs: declared, followed, looked at.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use fishy_audit::Outcome;
use fishy_contracts::deployment::{GraphDeployment, GraphNode};
use fishy_core::{Error, ErrorCode, Result, check_name};
use futures::future::try_join_all;
use serde_json::json;

use super::Service;
use super::live::{Live, Slot};
use crate::domain::graph::{Plan, check_graph};
use crate::events;
use crate::store::GraphRow;

/// A graph in this process.
pub(crate) struct Graph {
    pub(crate) row: GraphRow,
    /// The deployments that it asks.
    members: BTreeSet<String>,
    /// Its name and what is counted of it; no model is ever in it.
    pub(crate) slot: Arc<Slot>,
    /// The newest plan, and the digests of the revisions that it was made for.
    plan: Mutex<Option<(Vec<String>, Arc<Plan>)>>,
}

/// The deployments that answer for a graph, as they serve now.
pub(super) type Members = HashMap<String, (Arc<Slot>, Arc<Live>)>;

impl Graph {
    fn new(row: GraphRow) -> Result<Self> {
        let members = check_graph(&row.name, &row.graph)?;
        let slot = Arc::new(Slot::new(&row.name));
        Ok(Self { row, members, slot, plan: Mutex::default() })
    }

    /// What a request names to get it, and an answer tells.
    pub(crate) fn version(&self) -> String {
        self.row.number.to_string()
    }

    /// The plan for these revisions.
    fn plan(&self, members: &Members) -> Result<Arc<Plan>> {
        let digests = self.members.iter().filter_map(|name| members.get(name));
        let digests: Vec<String> = digests.map(|(_, live)| live.revision.digest.clone()).collect();
        let kept = self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, plan)) = kept.filter(|(of, _)| *of == digests) {
            return Ok(plan);
        }
        let layouts = members.iter().map(|(name, (_, live))| (name.as_str(), &live.layout)).collect();
        let plan = Arc::new(Plan::new(&self.row.graph, &layouts)?);
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some((digests, Arc::clone(&plan)));
        Ok(plan)
    }
}

impl Service {
    /// The graph of that name in this process.
    pub(crate) fn graph(&self, name: &str) -> Option<Arc<Graph>> {
        self.graphs.load().get(name).cloned()
    }

    /// Takes over what is declared in the database.
    pub(crate) async fn sync_graphs(&self) -> Result<()> {
        let _change = self.graphs_change.lock().await;
        let known = self.graphs.load_full();
        let mut graphs = HashMap::new();
        for row in self.store.graphs().await?.into_iter().filter(|row| self.is_mine(&row.name)) {
            let name = row.name.clone();
            match known.get(&name).filter(|graph| graph.row == row) {
                Some(graph) => drop(graphs.insert(name, Arc::clone(graph))),
                None => drop(graphs.insert(name, Arc::new(Graph::new(row)?))),
            }
        }
        let is_changed = graphs.len() != known.len()
            || graphs.iter().any(|(name, graph)| known.get(name).is_none_or(|old| !Arc::ptr_eq(old, graph)));
        if is_changed {
            self.graphs.store(Arc::new(graphs));
        }
        Ok(())
    }

    /// Declares a graph. What its deployments take and give is checked where they all serve.
    pub(crate) async fn set_graph(
        self: &Arc<Self>,
        actor: &str,
        name: &str,
        graph: &GraphNode,
    ) -> Result<GraphDeployment> {
        check_name("deployment", name)?;
        for member in check_graph(name, graph)? {
            if self.store.deployment(&member).await?.is_none() {
                return Err(Error::invalid(match self.store.graph(&member).await? {
                    Some(_) => format!("{member:?} is a graph: a graph asks the deployments of models; nest its nodes"),
                    None => format!("the graph asks deployment {member:?}, and there is none of that name"),
                }));
            }
        }
        let row = GraphRow { name: name.to_owned(), graph: graph.clone(), number: 0, created_ms: 0 };
        let tried = Graph::new(row)?;
        if let Ok(members) = self.members(&tried, Instant::now() + self.patience).await {
            tried.plan(&members)?;
        }
        let details = json!({"graph": graph});
        let audit = events::audit(&self.env, actor, "deployment:write", name, Outcome::Done, details)?;
        self.store.set_graph(name, graph, self.env.now_ms(), &audit).await?;
        tracing::info!(deployment = name, "inference graph declared");
        self.sync_graphs().await?;
        self.graph_deployment(name).await
    }

    pub(crate) async fn graph_deployment(&self, name: &str) -> Result<GraphDeployment> {
        let row = self.store.graph(name).await?.ok_or_else(|| no_graph(name))?;
        Ok(self.view_graph(row))
    }

    pub(crate) async fn graph_deployments(&self) -> Result<Vec<GraphDeployment>> {
        Ok(self.store.graphs().await?.into_iter().map(|row| self.view_graph(row)).collect())
    }

    fn view_graph(&self, row: GraphRow) -> GraphDeployment {
        let problem = match self.graph(&row.name) {
            Some(graph) => self.graph_problem(&graph),
            None => Some("this process does not serve it".to_owned()),
        };
        let GraphRow { name, graph, number, created_ms } = row;
        GraphDeployment { name, graph, revision: number, problem, created_ms }
    }

    /// Why a graph does not answer, as far as can be told without loading a model.
    pub(crate) fn graph_problem(&self, graph: &Graph) -> Option<String> {
        let mut members = Members::new();
        for name in &graph.members {
            match self.known(name, None) {
                Ok((slot, Some(live))) => drop(members.insert(name.clone(), (slot, live))),
                Ok((slot, None)) if slot.is_available() => {}
                Ok((slot, None)) => return Some(slot.not_serving().message().to_owned()),
                Err(error) => return Some(error.message().to_owned()),
            }
        }
        if members.len() < graph.members.len() {
            // Some are not in memory: the next request loads them.
            return None;
        }
        graph.plan(&members).err().map(|error| error.message().to_owned())
    }

    /// Every deployment that a graph asks, loaded where it is not in memory.
    async fn members(self: &Arc<Self>, graph: &Graph, deadline: Instant) -> Result<Members> {
        let one = |name: String| async move {
            match self.serving_until(&name, None, deadline).await {
                Ok(serving) => Ok((name, serving)),
                // That a member is gone is not the caller's fault: the graph is there.
                Err(error) if error.code() == ErrorCode::NotFound => {
                    Err(of_member(graph, &name, Error::unavailable(error.message().to_owned())))
                }
                Err(error) => Err(of_member(graph, &name, error)),
            }
        };
        Ok(try_join_all(graph.members.iter().cloned().map(one)).await?.into_iter().collect())
    }

    /// The plan of a graph for the revisions that serve now, and these.
    pub(super) async fn planned(
        self: &Arc<Self>,
        graph: &Graph,
        version: Option<&str>,
        deadline: Instant,
    ) -> Result<(Arc<Plan>, Members)> {
        let (name, number) = (&graph.row.name, graph.version());
        if let Some(version) = version.filter(|version| *version != number) {
            return Err(Error::not_found(format!("graph {name} serves version {number}, not {version:?}")));
        }
        let members = self.members(graph, deadline).await?;
        // It fitted when it was declared: a new revision of a member is in the way.
        let plan = graph.plan(&members).map_err(|error| Error::unavailable(error.message().to_owned()));
        Ok((plan.map_err(|error| error.context(format_args!("graph {name} does not serve")))?, members))
    }

    /// What a graph of that name takes and gives; `None` when there is no such graph.
    pub(crate) async fn graph_interface(
        self: &Arc<Self>,
        name: &str,
        version: Option<&str>,
    ) -> Result<Option<(Arc<Graph>, Arc<Plan>)>> {
        let Some(graph) = self.graph(name) else { return Ok(None) };
        let (plan, _) = self.planned(&graph, version, Instant::now() + self.patience).await?;
        Ok(Some((graph, plan)))
    }

    /// Whether the model or graph of that name answers requests.
    pub(crate) fn is_model_ready(&self, name: &str, version: Option<&str>) -> Result<bool> {
        if let Some(graph) = self.graph(name) {
            let number = graph.version();
            return match version.filter(|version| *version != number) {
                None => Ok(self.graph_problem(&graph).is_none()),
                Some(version) => {
                    Err(Error::not_found(format!("graph {name} serves version {number}, not {version:?}")))
                }
            };
        }
        match self.known(name, version) {
            Ok((slot, _)) => Ok(slot.is_available()),
            Err(error) if error.is_retryable() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn of_member(graph: &Graph, member: &str, error: Error) -> Error {
    error.context(format_args!("graph {} asks deployment {member:?}", graph.row.name))
}

fn no_graph(name: &str) -> Error {
    Error::not_found(format!("there is no inference graph {name:?}"))
}

/// What is told where only the deployment of a model will do.
pub(super) fn is_a_graph(name: &str) -> Error {
    Error::precondition(format!("{name:?} is an inference graph, and this is for the deployments of models: ask those"))
}
