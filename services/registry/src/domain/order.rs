//! `order_by`: a key and a direction.

use fishy_core::{Error, Result};
use serde_json::Value;

use super::filter;
use super::search::{Grammar, Target};

/// One key of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderBy {
    /// By what.
    pub target: Target,
    /// Whether the smallest comes first.
    pub is_ascending: bool,
    /// For metrics of logged models: only values measured on this dataset.
    pub dataset_name: Option<String>,
    /// For metrics of logged models: only values measured on the dataset of this digest.
    pub dataset_digest: Option<String>,
}

/// The most keys in one order.
const MAX_KEYS: usize = 16;

/// Reads the keys of an order. A key that stands there twice is refused.
pub fn parse(grammar: &'static Grammar, keys: &[String]) -> Result<Vec<OrderBy>> {
    let mut order = Vec::with_capacity(keys.len());
    for text in keys {
        let invalid = || Error::invalid(format!("Invalid order_by clause '{text}': use '<key> [ASC|DESC]'"));
        let (entity, key, rest) = filter::identifier(text).map_err(|_| invalid())?;
        let is_ascending = match rest.trim() {
            "" => true,
            word if word.eq_ignore_ascii_case("asc") => true,
            word if word.eq_ignore_ascii_case("desc") => false,
            _ => return Err(invalid()),
        };
        let target = grammar.target(entity.as_deref(), &key)?;
        if matches!(target, Target::Dataset(_)) {
            return Err(Error::invalid(format!("Invalid order_by key '{text}': datasets cannot be ordered by")));
        }
        push(&mut order, OrderBy { target, is_ascending, dataset_name: None, dataset_digest: None })?;
    }
    Ok(order)
}

/// Reads the order of a search for logged models: a list of objects.
pub fn parse_objects(grammar: &'static Grammar, keys: &[Value]) -> Result<Vec<OrderBy>> {
    let mut order = Vec::with_capacity(keys.len());
    for object in keys {
        let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
        let field = text("field_name")
            .ok_or_else(|| Error::invalid("`field_name` in the `order_by` clause must be specified."))?;
        let is_ascending = match object.get("ascending") {
            None | Some(Value::Null) => true,
            Some(Value::Bool(is_ascending)) => *is_ascending,
            Some(_) => return Err(Error::invalid("Value of `ascending` in the `order_by` clause must be a boolean.")),
        };
        let (entity, key) = match field.split_once('.') {
            Some(("metrics", key)) if !key.is_empty() => (Some("metrics"), key),
            Some(_) => {
                return Err(Error::invalid(format!(
                    "Invalid order by field name: {field}, only `metrics.<name>` is allowed."
                )));
            }
            None => (None, field.trim()),
        };
        let target = grammar.target(entity, key)?;
        let (dataset_name, dataset_digest) = (text("dataset_name"), text("dataset_digest"));
        if dataset_digest.is_some() && dataset_name.is_none() {
            return Err(Error::invalid("`dataset_digest` can only be specified if `dataset_name` is also specified."));
        }
        push(&mut order, OrderBy { target, is_ascending, dataset_name, dataset_digest })?;
    }
    Ok(order)
}

fn push(order: &mut Vec<OrderBy>, next: OrderBy) -> Result<()> {
    let is_twice = order.iter().any(|known| {
        (&known.target, &known.dataset_name, &known.dataset_digest)
            == (&next.target, &next.dataset_name, &next.dataset_digest)
    });
    if is_twice {
        return Err(Error::invalid("`order_by` contains duplicate fields"));
    }
    if order.len() == MAX_KEYS {
        return Err(Error::invalid(format!("`order_by` has more than {MAX_KEYS} fields")));
    }
    order.push(next);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::search::{LOGGED_MODELS, MODEL_VERSIONS, RUNS};
    use super::*;

    fn read(keys: &[&str]) -> Result<Vec<OrderBy>> {
        parse(&RUNS, &keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn keys_have_a_direction() {
        let order =
            read(&["metrics.`val loss` DESC", "start_time", "attributes.status asc", "tags.\"a b\"  desc"]).unwrap();
        assert_eq!(order.iter().map(|o| o.is_ascending).collect::<Vec<_>>(), [false, true, true, false]);
        assert_eq!(order[0].target, Target::Metric("val loss".into()));
        assert_eq!(order[3].target, Target::Tag("a b".into()));
        assert_eq!(parse(&MODEL_VERSIONS, &["version_number DESC".into()]).unwrap().len(), 1);
    }

    #[test]
    fn wrong_orders_are_refused() {
        for bad in ["", "metrics.a DOWN", "unknown", "start_time DESC, end_time", "dataset.name", "metrics."] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        assert!(read(&["start_time", "attribute.start_time DESC"]).is_err(), "twice");
    }

    #[test]
    fn logged_models_have_objects() {
        let read = |value: Value| parse_objects(&LOGGED_MODELS, value.as_array().unwrap());
        let order = read(json!([
            {"field_name": "metrics.a", "ascending": false, "dataset_name": "d"},
            {"field_name": "creation_time"},
        ]));
        assert_eq!(order.unwrap()[0].dataset_name.as_deref(), Some("d"));
        for bad in [
            json!([{}]),
            json!([{"field_name": "params.a"}]),
            json!([{"field_name": "x"}]),
            json!([{"field_name": "name", "ascending": "yes"}]),
            json!([{"field_name": "metrics.a", "dataset_digest": "d"}]),
            json!(["name"]),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
