//! What starts a run: triggers and schedules.

use fishy_contracts::events::{TRIGGER_FIRED, TriggerFired};
use fishy_contracts::pipelines::{RunStatus, StartRun};
use fishy_core::{ErrorCode, Event};
use serde_json::{Value, json};

use crate::world::{World, eventually};

const QUICK: &str = "name = \"p\"\n[[step]]\nname = \"s\"\nkind = \"command\"\ncommand = [\"true\"]\n";

fn trigger(event_id: &str, id: &str, pipeline: &str) -> Event {
    let fired = TriggerFired {
        id: id.to_owned(),
        monitor: "oxygen".to_owned(),
        pipeline: pipeline.to_owned(),
        as_of_ms: 1_000,
        reason: "the weekly error rose".to_owned(),
        inputs: Value::Null,
    };
    let data = serde_json::to_value(fired).unwrap();
    Event::new(event_id.to_owned(), "monitoring", TRIGGER_FIRED, "oxygen", 0, data)
}

#[tokio::test]
async fn a_trigger_starts_one_run_however_often_it_comes() {
    let world = World::new();
    let process = world.start().await;
    process.apply(&world, QUICK).await;
    assert_eq!(process.client.run_of_trigger("t-1").await.unwrap_err().code(), ErrorCode::NotFound);
    process.bus.publish(trigger("e-1", "t-1", "p")).await.unwrap();
    let run = process.client.run_of_trigger("t-1").await.unwrap();
    assert_eq!((run.as_of_ms, run.reason.as_str()), (1_000, "the weekly error rose"));
    // The same event again; the same trigger in another event; the same trigger by hand.
    process.bus.publish(trigger("e-1", "t-1", "p")).await.unwrap();
    process.bus.publish(trigger("e-2", "t-1", "p")).await.unwrap();
    let by_hand = StartRun { as_of_ms: None, reason: String::new(), trigger_id: Some("t-1".into()), params: [].into() };
    assert_eq!(process.client.start("p", &by_hand).await.unwrap().id, run.id);
    assert_eq!(world.ended(&process, &run.id).await.status, RunStatus::Succeeded);
    assert_eq!(process.client.runs("p").await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_trigger_for_no_pipeline_is_recorded_and_holds_up_nothing() {
    let world = World::new();
    let process = world.start().await;
    process.bus.publish(trigger("e-1", "t-1", "gone")).await.unwrap();
    eventually("the audit entry", || async { !world.audit().is_empty() }).await;
    let (action, outcome, details) = world.audit().remove(0);
    assert_eq!((action.as_str(), outcome.as_str()), ("pipelines:start", "failed"));
    assert_eq!(details["error"], json!("there is no pipeline \"gone\""));
}

#[tokio::test]
async fn a_schedule_starts_a_run_once_for_each_time_and_once_for_missed_ones() {
    let world = World::new();
    let process = world.start().await;
    // The clock stands at 22:13:20.
    process.apply(&world, &QUICK.replace("[[step]]", "schedule = \"0 * * * *\"\n[[step]]")).await;
    let runs = async |process: &crate::world::Process| process.client.runs("p").await.unwrap().items;
    assert!(runs(&process).await.is_empty());
    world.clock.advance_ms(47 * 60_000);
    eventually("a run at 23:00", || async { runs(&process).await.len() == 1 }).await;
    let first = world.ended(&process, &runs(&process).await[0].id).await;
    assert_eq!((first.status, first.reason.as_str()), (RunStatus::Succeeded, "schedule 0 * * * *"));
    process.shut_down().await;
    // Away for ten hours: made up for once.
    world.clock.advance_ms(10 * 3_600_000);
    let process = world.start().await;
    eventually("a run for the missed ones", || async { runs(&process).await.len() == 2 }).await;
    let second = runs(&process).await[0].clone();
    world.ended(&process, &second.id).await;
    assert_eq!(runs(&process).await.len(), 2);
}
