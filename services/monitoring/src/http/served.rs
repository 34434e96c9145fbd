//! Which version served.

use axum::extract::{RawQuery, State as Extract};
use fishy_contracts::monitoring::Served;
use fishy_core::Error;
use fishy_http::{Failure, Json};

use super::State;

/// The most labels of one question.
const MAX_LABELS: usize = 20;

/// `GET /api/v1/predictions/served?deployment=&time_ms=&label=pen=7&label=…`
pub async fn served(Extract(monitoring): State, RawQuery(query): RawQuery) -> Result<Json<Served>, Failure> {
    let (mut deployment, mut time_ms, mut labels) = (None, None, Vec::new());
    for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "deployment" => deployment = Some(value.into_owned()),
            "time_ms" => {
                let time =
                    value.parse::<i64>().map_err(|_| Error::invalid(format!("time_ms: {value:?} is no number")))?;
                time_ms = Some(time);
            }
            "label" => {
                let (key, value) = value
                    .split_once('=')
                    .ok_or_else(|| Error::invalid(format!("{value:?} is no label: use key=value")))?;
                labels.push((key.to_owned(), value.to_owned()));
            }
            other => return Err(Error::invalid(format!("there is no parameter {other:?}")).into()),
        }
    }
    if labels.len() > MAX_LABELS {
        return Err(Error::invalid(format!("{} labels in one question: at most {MAX_LABELS}", labels.len())).into());
    }
    let deployment = deployment.ok_or_else(|| Error::invalid("name the deployment"))?;
    let time_ms = time_ms.ok_or_else(|| Error::invalid("give time_ms"))?;
    Ok(Json(Served { prediction: monitoring.served(&deployment, time_ms, &labels).await? }))
}
