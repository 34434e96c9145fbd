use arrow::array::{Array, Int64Array, StringArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::faults::copy_dir;
use crate::world::{INFER, INVOKE, NOW_MS, World, columns, eventually, spec};

/// The rows of all Parquet files: id, received_ms, inputs.
async fn parquet_rows(world: &World) -> Vec<(String, i64, Value)> {
    let mut rows = Vec::new();
    for file in world.blob.list_recursive("predictions").await.unwrap() {
        assert!(file.path.starts_with("predictions/virtual-oxygen/date=2012-01-01/hour=05/"), "{}", file.path);
        let bytes = world.blob.get_bytes(&file.path, 10_000_000).await.unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let text = |name: &str| {
                batch.column_by_name(name).unwrap().as_any().downcast_ref::<StringArray>().unwrap().clone()
            };
            let received = batch.column_by_name("received_ms").unwrap();
            let received = received.as_any().downcast_ref::<Int64Array>().unwrap();
            let (ids, inputs) = (text("id"), text("inputs"));
            for row in 0..batch.num_rows() {
                let inputs = serde_json::from_str(inputs.value(row)).unwrap();
                rows.push((ids.value(row).to_owned(), received.value(row), inputs));
            }
        }
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

#[tokio::test]
async fn every_row_of_every_answer_reaches_the_stream_and_the_parquet_log() {
    let world = World::new().await;
    world.collect_stream().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    let mut request = columns("p", 10.0);
    request["parameters"] = json!({"event_time": "2012-06-01T00:00:00Z", "labels": {"pen": "4"}});
    assert_eq!(app.post(INFER, &request).await.status, 200);
    let params = json!({"prediction_id": "q", "event_time": 5});
    let split = json!({"columns": ["temperature", "salinity", "ph"], "data": [[1, 1, 1], [null, 2, 2]]});
    assert_eq!(app.post(INVOKE, &json!({"dataframe_split": split, "params": params})).await.status, 200);

    eventually("three records", || world.streamed.lock().unwrap().len() == 3).await;
    let records = world.streamed.lock().unwrap().clone();
    let first = &records[0];
    assert_eq!(
        (first.id.as_str(), first.deployment.as_str(), first.revision, first.version.as_str()),
        ("p", "virtual-oxygen", 1, "1")
    );
    assert_eq!((first.time_ms, first.received_ms), (1_338_508_800_000, NOW_MS));
    assert_eq!(json!(first.inputs), json!({"temperature": 10.0, "salinity": 1.0, "ph": 1.0}));
    assert_eq!(json!(first.outputs), json!({"y": 15.5}));
    assert_eq!(first.labels["pen"], "4");
    let last = &records[2];
    assert_eq!((last.id.as_str(), last.time_ms), ("q/1", 5));
    assert_eq!((&last.inputs["temperature"], &last.outputs["y"]), (&Value::Null, &Value::Null));

    app.shutdown().await;
    let rows = parquet_rows(&world).await;
    let ids: Vec<&str> = rows.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(ids, ["p", "q", "q/1"]);
    assert_eq!((rows[0].1, &rows[0].2), (NOW_MS, &json!({"temperature": 10.0, "salinity": 1.0, "ph": 1.0})));
}

#[tokio::test]
async fn a_request_that_is_repeated_is_answered_again_and_recorded_once_also_after_a_restart() {
    let world = World::new().await;
    world.collect_stream().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    for _ in 0..3 {
        let answer = app.post(INFER, &columns("same", 10.0)).await.json();
        assert_eq!((&answer["id"], &answer["outputs"][0]["data"]), (&json!("same"), &json!([15.5])));
    }
    app.shutdown().await;
    let app = world.start().await;
    assert_eq!(app.post(INFER, &columns("same", 10.0)).await.status, 200);
    assert_eq!(app.post(INFER, &columns("other", 10.0)).await.status, 200);
    eventually("both records", || world.streamed.lock().unwrap().len() >= 2).await;
    app.shutdown().await;
    let ids: Vec<String> = world.streamed.lock().unwrap().iter().map(|record| record.id.clone()).collect();
    assert_eq!(ids, ["same", "other"]);
    let logged: Vec<String> = parquet_rows(&world).await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(logged, ["other", "same"]);
}

/// What `kill -9` leaves is what the kernel has: a copy of the folder, taken while the service runs.
#[tokio::test]
async fn what_was_answered_is_recorded_when_the_process_is_killed() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    let expected: Vec<String> = (0..50).map(|number| format!("p-{number:02}")).collect();
    for id in &expected {
        assert_eq!(app.post(INFER, &columns(id, 10.0)).await.status, 200);
    }
    // Nobody has consumed the stream, and no Parquet was written.
    let killed = tempfile::tempdir().unwrap();
    copy_dir(&world.dir.path().join("deployment"), &killed.path().join("deployment"));
    let mut config = world.config();
    config.storage.data_dir = killed.path().display().to_string();
    let mut second = World::with_db(tempfile::tempdir().unwrap(), world.db.clone()).await;
    second.registry = std::sync::Arc::clone(&world.registry);
    second.collect_stream().await;
    let after = second.start_with(config).await;
    eventually("all records", || second.streamed.lock().unwrap().len() >= expected.len()).await;
    let ids: Vec<String> = second.streamed.lock().unwrap().iter().map(|record| record.id.clone()).collect();
    assert_eq!(ids, expected);
    after.shutdown().await;
    let logged: Vec<String> = parquet_rows(&second).await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(logged, expected);
}

#[tokio::test]
async fn records_wait_in_the_spool_while_nobody_consumes_the_stream() {
    let world = World::new().await;
    let app = world.start().await;
    app.api.apply(&spec(false)).await.unwrap();
    for number in 0..20 {
        assert_eq!(app.post(INFER, &columns(&format!("p-{number}"), 10.0)).await.status, 200);
    }
    world.collect_stream().await;
    eventually("all records", || world.streamed.lock().unwrap().len() >= 20).await;
    assert_eq!(world.streamed.lock().unwrap().len(), 20);
}
