//! Searches: conditions and orders as SQL.

mod run_pages;

pub(crate) use run_pages::runs;

use fishy_core::{Error, Result};
use fishy_db::{Db, Row};

use super::{Sql, experiments, logged_models, models, versions};
use crate::domain::filter::Operator;
use crate::domain::order::OrderBy;
use crate::domain::page::{Page, PageStart};
use crate::domain::records::{ACTIVE, DELETED, Experiment, LoggedModel, ModelVersion, RegisteredModel};
use crate::domain::search::{Condition, Target, Test};

/// The patterns of the API have no escape character. PostgreSQL would take the backslash for one, and SQLite has no way
/// of saying "none": so it is a character that nobody writes.
const ESCAPE: &str = "ESCAPE '\u{1}'";

/// Which deleted things a search finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    ActiveOnly,
    DeletedOnly,
    All,
}

/// What a search asks for, whatever is searched.
#[derive(Debug)]
pub(crate) struct Question {
    pub conditions: Vec<Condition>,
    pub order: Vec<OrderBy>,
    pub limit: u64,
    pub start: PageStart,
}

/// A dataset that metrics were measured on.
#[derive(Debug)]
pub(crate) struct OnDataset {
    pub name: String,
    pub digest: Option<String>,
}

/// Where the tags, parameters and metrics of a kind of thing are: tables, and how their rows (`x`) belong to it.
struct Tables {
    id: &'static str,
    tags: &'static str,
    params: &'static str,
    metrics: &'static str,
}

const RUNS: Tables =
    Tables { id: "x.run_id = r.run_id", tags: "run_tags", params: "params", metrics: "latest_metrics" };
const EXPERIMENTS: Tables = Tables { id: "x.experiment_id = e.id", tags: "experiment_tags", params: "", metrics: "" };
const MODELS: Tables = Tables { id: "x.name = m.name", tags: "registered_model_tags", params: "", metrics: "" };
const VERSIONS: Tables =
    Tables { id: "x.name = v.name AND x.version = v.version", tags: "model_version_tags", params: "", metrics: "" };
const LOGGED_MODELS: Tables = Tables {
    id: "x.model_id = m.model_id",
    tags: "logged_model_tags",
    params: "logged_model_params",
    metrics: "logged_model_metrics",
};

/// Experiments.
pub(crate) async fn experiments(db: &Db, view: View, question: &Question) -> Result<Page<Experiment>> {
    let mut sql = Sql::new(
        "SELECT e.id, e.name, e.artifact_location, e.lifecycle_stage, e.creation_time, e.last_update_time \
         FROM experiments e",
    );
    let mut order = order_by(&mut sql, &EXPERIMENTS, &question.order)?;
    if order.is_empty() {
        order = vec!["e.creation_time DESC".to_owned(), "e.id ASC".to_owned()];
    } else {
        order.push("e.id DESC".to_owned());
    }
    sql.push(" WHERE 1 = 1");
    lifecycle(&mut sql, "e", view);
    let page = finish(db, sql, &EXPERIMENTS, question, &order).await?;
    Ok(Page { rows: experiments::from_rows(&mut &*db, page.rows).await?, next: page.next })
}

/// Registered models; prompts only when the filter asks for them.
pub(crate) async fn registered_models(db: &Db, question: &Question) -> Result<Page<RegisteredModel>> {
    let mut sql = Sql::new(&format!("SELECT {} FROM registered_models m", models::COLUMNS));
    let mut order = order_by(&mut sql, &MODELS, &question.order)?;
    order.push("m.name ASC".to_owned());
    sql.push(" WHERE 1 = 1");
    prompts(&mut sql, &MODELS, question);
    let page = finish(db, sql, &MODELS, question, &order).await?;
    Ok(Page { rows: models::from_rows(&mut &*db, page.rows).await?, next: page.next })
}

/// Versions of registered models; of prompts only when the filter asks for them.
pub(crate) async fn model_versions(db: &Db, question: &Question) -> Result<Page<ModelVersion>> {
    let mut sql = Sql::new(&format!("SELECT {} FROM model_versions v", versions::COLUMNS));
    let mut order = order_by(&mut sql, &VERSIONS, &question.order)?;
    if order.is_empty() {
        order.push("v.last_updated_time DESC".to_owned());
    }
    order.extend(["v.name ASC".to_owned(), "v.version DESC".to_owned()]);
    sql.push(" WHERE 1 = 1");
    prompts(&mut sql, &VERSIONS, question);
    let page = finish(db, sql, &VERSIONS, question, &order).await?;
    Ok(Page { rows: versions::from_rows(&mut &*db, page.rows).await?, next: page.next })
}

/// Logged models of some experiments, whose metrics were measured on some datasets where these are given.
pub(crate) async fn logged_models(
    db: &Db,
    experiment_ids: &[i64],
    datasets: &[OnDataset],
    question: &Question,
) -> Result<Page<LoggedModel>> {
    let mut sql = Sql::new(&format!("SELECT {} FROM logged_models m", logged_models::COLUMNS));
    let mut order = order_by(&mut sql, &LOGGED_MODELS, &question.order)?;
    order.extend(["m.creation_time DESC".to_owned(), "m.model_id ASC".to_owned()]);
    let list = sql.list(experiment_ids.iter().copied());
    sql.push(&format!(" WHERE m.experiment_id IN {list}"));
    lifecycle(&mut sql, "m", View::ActiveOnly);
    let has_metrics = question.conditions.iter().any(|condition| matches!(condition.target, Target::Metric(_)));
    if !datasets.is_empty() && !has_metrics {
        let on = on_datasets(&mut sql, datasets);
        sql.push(&format!(" AND EXISTS (SELECT 1 FROM logged_model_metrics x WHERE {}{on})", LOGGED_MODELS.id));
    }
    for condition in &question.conditions {
        where_condition(&mut sql, &LOGGED_MODELS, condition, datasets)?;
    }
    sql.push(" ORDER BY ");
    sql.push(&order.join(", "));
    let rows = fetch(db, sql, question).await?;
    let page = Page::at_offset(rows, question.limit, question.start.offset());
    Ok(Page { rows: logged_models::from_rows(&mut &*db, page.rows).await?, next: page.next })
}

async fn finish(db: &Db, mut sql: Sql, tables: &Tables, question: &Question, order: &[String]) -> Result<Page<Row>> {
    if matches!(question.start, PageStart::After { .. }) {
        return Err(Error::invalid("The page token belongs to another search"));
    }
    let has_prompts = tables.id == MODELS.id || tables.id == VERSIONS.id;
    for condition in question.conditions.iter().filter(|condition| !(has_prompts && is_about_prompts(condition))) {
        where_condition(&mut sql, tables, condition, &[])?;
    }
    sql.push(" ORDER BY ");
    sql.push(&order.join(", "));
    let rows = fetch(db, sql, question).await?;
    Ok(Page::at_offset(rows, question.limit, question.start.offset()))
}

/// Reads one row more than the page has, to know whether there is another page.
async fn fetch(db: &Db, mut sql: Sql, question: &Question) -> Result<Vec<Row>> {
    let limit = sql.arg(question.limit + 1);
    sql.push(&format!(" LIMIT {limit}"));
    if question.start.offset() > 0 {
        let offset = sql.arg(question.start.offset());
        sql.push(&format!(" OFFSET {offset}"));
    }
    db.query(&sql.text, sql.args).await
}

fn lifecycle(sql: &mut Sql, table: &str, view: View) {
    let stage = match view {
        View::ActiveOnly => ACTIVE,
        View::DeletedOnly => DELETED,
        View::All => return,
    };
    let stage = sql.arg(stage);
    sql.push(&format!(" AND {table}.lifecycle_stage = {stage}"));
}

/// The tag by which MLflow tells a prompt from a model.
const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";

fn is_about_prompts(condition: &Condition) -> bool {
    matches!(&condition.target, Target::Tag(key) if key == PROMPT_TAG)
}

/// MLflow keeps prompts as registered models with a tag, and finds them only when the filter asks for them. Its client
/// adds `tag != 'true'` by itself, which models, without that tag, must meet all the same.
fn prompts(sql: &mut Sql, tables: &Tables, question: &Question) {
    let is_wanted = question.conditions.iter().filter(|condition| is_about_prompts(condition)).any(|condition| {
        match &condition.test {
            Test::Text(Operator::Equal, value) => value.eq_ignore_ascii_case("true"),
            Test::Text(Operator::NotEqual, value) => value.eq_ignore_ascii_case("false"),
            _ => false,
        }
    });
    let tag = sql.arg(PROMPT_TAG);
    let not = if is_wanted { "" } else { "NOT " };
    let Tables { id, tags, .. } = tables;
    sql.push(&format!(" AND {not}EXISTS (SELECT 1 FROM {tags} x WHERE {id} AND x.key = {tag} AND x.value = 'true')"));
}

fn on_datasets(sql: &mut Sql, datasets: &[OnDataset]) -> String {
    if datasets.is_empty() {
        return String::new();
    }
    let any: Vec<String> = datasets
        .iter()
        .map(|dataset| {
            let name = sql.arg(&dataset.name);
            match &dataset.digest {
                Some(digest) => format!("(x.dataset_name = {name} AND x.dataset_digest = {})", sql.arg(digest)),
                None => format!("x.dataset_name = {name}"),
            }
        })
        .collect();
    format!(" AND ({})", any.join(" OR "))
}

fn where_condition(sql: &mut Sql, tables: &Tables, condition: &Condition, datasets: &[OnDataset]) -> Result<()> {
    let text = condition_text(sql, tables, condition, datasets)?;
    sql.push(" AND ");
    sql.push(&text);
    Ok(())
}

fn condition_text(sql: &mut Sql, tables: &Tables, condition: &Condition, datasets: &[OnDataset]) -> Result<String> {
    let id = tables.id;
    Ok(match &condition.target {
        Target::Attribute(attribute) => test(sql, attribute.column, &condition.test)?,
        Target::Metric(key) => {
            let key = sql.arg(key);
            let test = test(sql, "x.value", &condition.test)?;
            let on = on_datasets(sql, datasets);
            format!(
                "EXISTS (SELECT 1 FROM {} x WHERE {id} AND x.key = {key} AND x.is_nan = 0 AND {test}{on})",
                tables.metrics
            )
        }
        Target::Param(key) => keyed(sql, tables.params, id, key, &condition.test)?,
        Target::Tag(key) => keyed(sql, tables.tags, id, key, &condition.test)?,
        Target::Dataset("context") => {
            let test = test(sql, "x.value", &condition.test)?;
            format!("EXISTS (SELECT 1 FROM run_dataset_tags x WHERE {id} AND x.key = 'mlflow.data.context' AND {test})")
        }
        Target::Dataset(column) => {
            let test = test(sql, &format!("d.{column}"), &condition.test)?;
            format!(
                "EXISTS (SELECT 1 FROM run_datasets x JOIN datasets d ON d.dataset_id = x.dataset_id WHERE {id} AND {test})"
            )
        }
    })
}

/// A condition on a row of keys and values. What has no such key meets no condition but `IS NULL`.
fn keyed(sql: &mut Sql, table: &str, id: &str, key: &str, condition: &Test) -> Result<String> {
    let key = sql.arg(key);
    let row = format!("EXISTS (SELECT 1 FROM {table} x WHERE {id} AND x.key = {key}");
    Ok(match condition {
        Test::Exists(true) => format!("{row})"),
        Test::Exists(false) => format!("NOT {row})"),
        condition => format!("{row} AND {})", test(sql, "x.value", condition)?),
    })
}

fn test(sql: &mut Sql, column: &str, test: &Test) -> Result<String> {
    Ok(match test {
        Test::Number(operator, number) => {
            // A whole number stays one, so that an index of whole numbers can be used.
            let is_metric = matches!(column, "x.value" | "d.value");
            let is_whole = number.fract() == 0.0 && number.abs() < 9e15 && !is_metric;
            let place = if is_whole { sql.arg(*number as i64) } else { sql.arg(*number) };
            format!("{column} {} {place}", operator.as_str())
        }
        Test::Text(Operator::Like, pattern) => format!("{column} LIKE {} {ESCAPE}", sql.arg(pattern)),
        Test::Text(Operator::ILike, pattern) => format!("LOWER({column}) LIKE LOWER({}) {ESCAPE}", sql.arg(pattern)),
        Test::Text(operator, text) => format!("{column} {} {}", operator.as_str(), sql.arg(text)),
        Test::In { is_in, values } => {
            let list = sql.list(values.iter());
            format!("{column} {} {list}", if *is_in { "IN" } else { "NOT IN" })
        }
        Test::Exists(_) => return Err(Error::internal("an attribute was asked for IS NULL")),
    })
}

/// Adds the joins that an order needs; answers its keys. What is missing comes last, whatever the direction, and a NaN
/// comes just before it.
fn order_by(sql: &mut Sql, tables: &Tables, order: &[OrderBy]) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for (number, by) in order.iter().enumerate() {
        let direction = if by.is_ascending { "ASC" } else { "DESC" };
        let table = match &by.target {
            Target::Attribute(attribute) => {
                let column = attribute.order;
                if attribute.is_optional {
                    keys.push(format!("CASE WHEN {column} IS NULL THEN 1 ELSE 0 END"));
                }
                keys.push(format!("{column} {direction}"));
                continue;
            }
            Target::Metric(key) if tables.metrics == LOGGED_MODELS.metrics => {
                let value = latest_of_model(sql, key, by);
                keys.push(format!("CASE WHEN {value} IS NULL THEN 1 ELSE 0 END"));
                keys.push(format!("{value} {direction}"));
                continue;
            }
            Target::Metric(_) => tables.metrics,
            Target::Param(_) => tables.params,
            Target::Tag(_) => tables.tags,
            Target::Dataset(_) => return Err(Error::invalid("datasets cannot be ordered by")),
        };
        let (Target::Metric(key) | Target::Param(key) | Target::Tag(key)) = &by.target else { continue };
        let (place, name) = (sql.arg(key), format!("o{number}"));
        let id = tables.id.replace("x.", &format!("{name}."));
        sql.push(&format!(" LEFT JOIN {table} {name} ON {id} AND {name}.key = {place}"));
        keys.push(if matches!(by.target, Target::Metric(_)) {
            format!("CASE WHEN {name}.value IS NULL THEN 2 WHEN {name}.is_nan = 1 THEN 1 ELSE 0 END")
        } else {
            format!("CASE WHEN {name}.value IS NULL THEN 1 ELSE 0 END")
        });
        keys.push(format!("{name}.value {direction}"));
    }
    Ok(keys)
}

/// The newest value of a metric of a logged model.
fn latest_of_model(sql: &mut Sql, key: &str, by: &OrderBy) -> String {
    let key = sql.arg(key);
    let on: String = [("dataset_name", &by.dataset_name), ("dataset_digest", &by.dataset_digest)]
        .into_iter()
        .filter_map(|(column, value)| Some(format!(" AND x.{column} = {}", sql.arg(value.as_ref()?))))
        .collect();
    format!(
        "(SELECT CASE WHEN x.is_nan = 1 THEN NULL ELSE x.value END FROM logged_model_metrics x WHERE {} AND x.key = {key}{on} \
         ORDER BY x.timestamp DESC, x.step DESC, x.run_id LIMIT 1)",
        LOGGED_MODELS.id
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::search;

    #[test]
    fn what_is_written_in_a_filter_is_only_ever_an_argument() {
        let evil = "x'; DROP TABLE runs; --";
        let quoted = evil.replace('\'', "''");
        let filter =
            format!("tags.`{evil}` = '{quoted}' AND params.`{evil}` LIKE '{quoted}' AND run_id IN ('{quoted}')");
        let mut sql = Sql::new("");
        for condition in search::RUNS.conditions(&filter).unwrap() {
            where_condition(&mut sql, &RUNS, &condition, &[]).unwrap();
        }
        assert!(!sql.text.contains("DROP"), "{}", sql.text);
        let evil = fishy_db::Value::from(evil);
        assert_eq!(sql.args, vec![evil; 5]);
    }
}
