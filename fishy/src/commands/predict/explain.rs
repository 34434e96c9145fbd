//! `fishy predict --explain`: what each feature did to a prediction.

use anyhow::{Context, Result, bail};
use fishy_contracts::segment;
use fishy_http::{Call, ServiceClient};
use http::Method;
use serde_json::{Map, Value, json};

use crate::output::{Output, json as print_json, table};

/// Asks for an explanation of the rows of `body`, and prints it.
pub async fn run(client: &ServiceClient, deployment: &str, body: &Value, output: Output) -> Result<()> {
    let path = format!("/v2/models/{}/explain", segment(deployment));
    let request = request_of(body)?;
    let answer: Value = client.json(Call::new(Method::POST, path).json(&request)?).await?;
    if output == Output::Json {
        return print_json(&answer);
    }
    let inputs = inputs_of(&request, &answer);
    let features: Vec<&str> = answer["features"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for row in answer["explanations"].as_array().into_iter().flatten() {
        for output in row["outputs"].as_array().into_iter().flatten() {
            let place = row["row"].as_u64().unwrap_or_default() as usize;
            print_output(place, output, &features, &inputs);
        }
    }
    let method = answer["method"]["name"].as_str().unwrap_or_default();
    println!("{method}, {} evaluations against {} rows", answer["evaluations"], answer["background_rows"]);
    Ok(())
}

fn print_output(row: usize, output: &Value, features: &[&str], inputs: &Map<String, Value>) {
    let name = output["name"].as_str().unwrap_or_default();
    let element = output["element"].as_str().map(|element| format!("[{element}]")).unwrap_or_default();
    let number = |value: &Value| value.as_f64().map_or_else(String::new, |value| format!("{value:.6}"));
    println!(
        "row {row}: {name}{element} = {} (base {}, additivity gap {:.1e})",
        number(&output["prediction"]),
        number(&output["base_value"]),
        output["additivity_gap"].as_f64().unwrap_or_default()
    );
    let mut order: Vec<usize> = (0..features.len()).collect();
    let size = |place: &usize| output["values"][*place].as_f64().unwrap_or_default().abs();
    order.sort_by(|a, b| size(b).total_cmp(&size(a)));
    let mut rows = table(&["feature", "value", "contribution", "standard error"]);
    for place in order {
        let feature = features[place];
        let value = inputs.get(feature).map(|column| column[row].to_string()).unwrap_or_default();
        let error = number(&output["standard_errors"][place]);
        rows.add_row([
            feature.to_owned(),
            value,
            format!("{:+.6}", output["values"][place].as_f64().unwrap_or_default()),
            error,
        ]);
    }
    println!("{rows}");
}

/// The values of the rows by feature, where the request has them by column.
fn inputs_of(request: &Value, answer: &Value) -> Map<String, Value> {
    let features = answer["features"].as_array().cloned().unwrap_or_default();
    let inputs = request["inputs"].as_array().cloned().unwrap_or_default();
    let by_name = inputs.into_iter().filter(|input| features.contains(&input["name"]));
    by_name.filter_map(|input| Some((input["name"].as_str()?.to_owned(), input["data"].clone()))).collect()
}

/// An inference request: as it is, or made of the columns of a data frame.
fn request_of(body: &Value) -> Result<Value> {
    if body["inputs"].as_array().is_some_and(|inputs| inputs.iter().all(|input| input["datatype"].is_string())) {
        return Ok(body.clone());
    }
    let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
    if let Some(split) = body.get("dataframe_split") {
        let names = split["columns"].as_array().context("dataframe_split has no columns")?;
        for (place, name) in names.iter().enumerate() {
            let rows = split["data"].as_array().into_iter().flatten();
            let name = name.as_str().context("a column's name is a text")?;
            columns.push((name.to_owned(), rows.map(|row| row[place].clone()).collect()));
        }
    } else if let Some(records) = body["dataframe_records"].as_array() {
        for name in records.first().and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            columns.push((name.clone(), records.iter().map(|record| record[name].clone()).collect()));
        }
    }
    if columns.is_empty() {
        bail!(
            "an explanation takes dataframe_records, dataframe_split or an inference request: \
             {{\"inputs\": [{{\"name\", \"shape\", \"datatype\", \"data\"}}]}}"
        );
    }
    let input = |(name, data): (String, Vec<Value>)| {
        let datatype = match data.iter().find(|value| !value.is_null()) {
            Some(Value::String(_)) => "BYTES",
            Some(Value::Bool(_)) => "BOOL",
            _ => "FP64",
        };
        json!({"name": name, "shape": [data.len()], "datatype": datatype, "data": data})
    };
    Ok(json!({"inputs": columns.into_iter().map(input).collect::<Vec<_>>()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_frames_become_columns_and_an_inference_request_stays() {
        let expected = json!({"inputs": [
            {"name": "farm", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
            {"name": "temp", "shape": [2], "datatype": "FP64", "data": [1.5, null]},
        ]});
        let records = json!({"dataframe_records": [{"farm": "a", "temp": 1.5}, {"farm": "b"}]});
        assert_eq!(request_of(&records).unwrap(), expected);
        let split = json!({"dataframe_split": {"columns": ["farm", "temp"], "data": [["a", 1.5], ["b", null]]}});
        assert_eq!(request_of(&split).unwrap(), expected);
        assert_eq!(request_of(&expected).unwrap(), expected);
        assert!(request_of(&json!({"instances": [1]})).is_err());
    }
}
