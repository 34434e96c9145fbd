//! Searches.

use fishy_core::{Error, Result};
use serde_json::Value;

use super::Registry;
use crate::domain::page::{self, LoggedModelPage, Page, PageStart};
use crate::domain::records::{DatasetSummary, Experiment, LoggedModel, ModelVersion, RegisteredModel, Run};
use crate::domain::search::{self, Grammar};
use crate::domain::{limits, names, order};
use crate::store::inputs;
use crate::store::search::{self as store, OnDataset, Question, View};

/// A search as it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Search {
    pub filter: String,
    pub order_by: Vec<String>,
    pub max_results: Option<i64>,
    pub page_token: String,
}

/// Checks how many results are asked for.
fn limit(asked: Option<i64>, default: i64, most: i64) -> Result<u64> {
    let asked = asked.unwrap_or(default);
    if asked < 1 || asked > most {
        return Err(Error::invalid(format!(
            "Invalid value {asked} for parameter 'max_results' supplied. It must be a positive integer and at most {most}, but got value {asked}"
        )));
    }
    Ok(asked as u64)
}

impl Search {
    fn question(&self, grammar: &'static Grammar, default: i64, most: i64) -> Result<Question> {
        Ok(Question {
            conditions: grammar.conditions(&self.filter)?,
            order: order::parse(grammar, &self.order_by)?,
            limit: limit(self.max_results, default, most)?,
            start: page::read(&self.page_token)?,
        })
    }
}

fn experiment_ids(ids: &[String]) -> Result<Vec<i64>> {
    if ids.len() > 10_000 {
        return Err(Error::invalid(format!("{} experiments in one search: at most 10000", ids.len())));
    }
    ids.iter().map(|id| names::experiment_id(id)).collect()
}

impl Registry {
    pub async fn search_runs(&self, ids: &[String], view: View, search: &Search) -> Result<Page<Run>> {
        let question = search.question(&search::RUNS, 1_000, 50_000)?;
        store::runs(&self.db, &experiment_ids(ids)?, view, &question).await
    }

    pub async fn search_experiments(&self, view: View, search: &Search) -> Result<Page<Experiment>> {
        let question = search.question(&search::EXPERIMENTS, 1_000, 50_000)?;
        let found = store::experiments(&self.db, view, &question).await?;
        let rows = found.rows.into_iter().map(|experiment| self.with_workspace(experiment)).collect();
        Ok(Page { rows, next: found.next })
    }

    pub async fn search_models(&self, search: &Search) -> Result<Page<RegisteredModel>> {
        let question = search.question(&search::REGISTERED_MODELS, 100, 1_000)?;
        store::registered_models(&self.db, &question).await
    }

    pub async fn search_versions(&self, search: &Search) -> Result<Page<ModelVersion>> {
        let question = search.question(&search::MODEL_VERSIONS, 10_000, 200_000)?;
        store::model_versions(&self.db, &question).await
    }

    /// The datasets that runs of some experiments read.
    pub async fn search_datasets(&self, ids: &[String]) -> Result<Vec<DatasetSummary>> {
        if ids.is_empty() {
            return Err(Error::invalid("SearchDatasets request must specify at least one experiment_id."));
        }
        if ids.len() > limits::DATASET_SEARCH_EXPERIMENTS {
            return Err(Error::invalid(format!(
                "SearchDatasets request cannot specify more than {} experiment_ids. Received {} experiment_ids.",
                limits::DATASET_SEARCH_EXPERIMENTS,
                ids.len()
            )));
        }
        inputs::summaries(&mut &self.db, &experiment_ids(ids)?, limits::DATASET_SEARCH_RESULTS).await
    }

    /// Answers the models and the token of the next page.
    pub async fn search_logged_models(
        &self,
        ids: &[String],
        filter: &str,
        datasets: &[OnDataset],
        order_by: &[Value],
        (max_results, page_token): (Option<i64>, &str),
    ) -> Result<(Vec<LoggedModel>, Option<String>)> {
        if ids.is_empty() {
            return Err(Error::invalid("At least one experiment_id must be specified for searching logged models."));
        }
        let mut this = LoggedModelPage {
            experiment_ids: ids.to_vec(),
            filter_string: Some(filter.to_owned()).filter(|filter| !filter.is_empty()),
            order_by: Some(Value::from(order_by)).filter(|_| !order_by.is_empty()),
            offset: 0,
        };
        let offset = LoggedModelPage::offset_of(page_token, &this)?;
        let question = Question {
            conditions: search::LOGGED_MODELS.conditions(filter)?,
            order: order::parse_objects(&search::LOGGED_MODELS, order_by)?,
            limit: limit(max_results, 100, 1_000)?,
            start: PageStart::Offset { offset },
        };
        let found = store::logged_models(&self.db, &experiment_ids(ids)?, datasets, &question).await?;
        let next = found.next.map(|next| {
            this.offset = next.offset();
            page::write(&this)
        });
        Ok((found.rows, next))
    }
}
