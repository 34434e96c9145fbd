use std::collections::BTreeSet;

use axum::extract::Request;
use axum::middleware::map_request;
use fishy_authz::Identity;
use fishy_contracts::MonitoringClient;
use fishy_contracts::monitoring::{
    AgreementOf, AgreementQuery, AgreementWeights, Degree, OpinionQuery, QueueAnswer, QueueItem, QueueRelease,
    QueueRequest,
};
use fishy_core::ErrorCode;
use fishy_core::time::{DAY_MS, HOUR_MS};
use fishy_http::{ServiceClient, ServiceSlot};
use serde_json::json;

use crate::receivers::until;
use crate::rig::{On, Rig, hour, on_both, record, record_with, training};

on_both!(
    items_are_held_answered_corrected_and_given_up,
    repeats_are_blind_and_show_agreement,
    what_is_worth_a_look_comes_first,
    a_dealt_out_item_is_nobody_elses,
    numbers_of_experts_stand_beside_answers,
    nonsense_of_experts_is_refused,
);

/// Somebody with the role of an expert.
fn expert(rig: &Rig, name: &'static str) -> MonitoringClient {
    let as_expert = map_request(move |mut request: Request| async move {
        request.extensions_mut().insert(Identity::user(name, ["expert"]));
        request
    });
    let slot = ServiceSlot::default();
    slot.fill(rig.router.clone().layer(as_expert));
    MonitoringClient(ServiceClient::local("monitoring", &slot, "test"))
}

/// A monitor whose answers of two days have come.
async fn watched(on: On, experts: serde_json::Value) -> Rig {
    let rig = Rig::start(on).await;
    rig.monitor(json!({"experts": experts})).await;
    rig.predict(0..48, "1").await;
    arrived(&rig, 48).await;
    rig
}

async fn arrived(rig: &Rig, count: u64) {
    until("the answers", async || (rig.client.status("oxygen").await.unwrap().predictions == count).then_some(()))
        .await;
}

async fn next(client: &MonitoringClient, count: u32) -> Vec<QueueItem> {
    client.next_items("oxygen", QueueRequest { count }).await.unwrap().items
}

fn says(label: &str) -> QueueAnswer {
    QueueAnswer { label: label.into(), severity: None, text: String::new() }
}

async fn items_are_held_answered_corrected_and_given_up(on: On) {
    let rig = watched(on, json!({"repeat_percent": 0.0, "lease_minutes": 60})).await;
    let (ada, bo) = (expert(&rig, "ada"), expert(&rig, "bo"));
    let held = next(&ada, 2).await;
    assert_eq!((held.len(), held[0].until_ms), (2, Some(hour(24 * 3_000) + HOUR_MS)));
    assert!(held[0].output.is_some() && held[0].inputs["temp"].is_some() && !held[0].reasons.is_empty());
    assert_eq!(next(&ada, 2).await, held, "what is held is given again");

    let mut answer = says("gill disease");
    answer.severity = Some(Degree::Mild);
    let lease = held[0].lease.as_str();
    let first = ada.answer_item("oxygen", lease, &answer).await.unwrap();
    assert_eq!(first.state, "answered");
    assert_eq!(ada.answer_item("oxygen", lease, &answer).await.unwrap(), first, "sent twice, kept once");
    let refused = bo.answer_item("oxygen", lease, &answer).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound, "somebody else's lease");
    answer.severity = Some(Degree::Severe);
    let second = ada.answer_item("oxygen", lease, &answer).await.unwrap();
    assert_eq!((second.state.as_str(), second.opinion == first.opinion), ("corrected", false));
    let of_it = OpinionQuery { prediction_id: held[0].prediction_id.clone(), ..OpinionQuery::default() };
    let history = rig.client.opinions(&of_it).await.unwrap().items;
    assert_eq!(history.iter().map(|opinion| &opinion.id).collect::<Vec<_>>(), [&second.opinion, &first.opinion]);
    assert!(history.iter().all(|opinion| opinion.actor == "user:ada"));
    let audited = rig.emitted("fishy.audit.entry.recorded.v1").await;
    let states: Vec<_> = audited.iter().filter_map(|entry| entry["details"]["state"].as_str()).collect();
    assert_eq!(states, ["answered", "corrected"]);

    // Given up for good: never again to her, but to others.
    let release = QueueRelease { is_skipped: true };
    assert_eq!(ada.release_item("oxygen", &held[1].lease, release).await.unwrap().state, "skipped");
    let shown = |items: &[QueueItem], id: &str| items.iter().any(|item| item.prediction_id == id);
    assert!(!shown(&ada.queue("oxygen", 50).await.unwrap().items, &held[1].prediction_id));
    assert!(shown(&bo.queue("oxygen", 50).await.unwrap().items, &held[1].prediction_id));
    assert!(!shown(&bo.queue("oxygen", 50).await.unwrap().items, &held[0].prediction_id), "it is answered");
    let late = ada.answer_item("oxygen", &held[1].lease, &says("x")).await.unwrap_err();
    assert_eq!(late.code(), ErrorCode::FailedPrecondition);

    // Returned: back for anybody.
    let held = next(&ada, 1).await;
    ada.release_item("oxygen", &held[0].lease, QueueRelease { is_skipped: false }).await.unwrap();
    assert!(shown(&ada.queue("oxygen", 50).await.unwrap().items, &held[0].prediction_id));

    // Run out: nobody's, and too late to answer.
    let held = next(&ada, 1).await;
    rig.clock.advance_ms(HOUR_MS);
    let late = ada.answer_item("oxygen", &held[0].lease, &says("x")).await.unwrap_err();
    assert!(late.message().contains("has run out"), "{}", late.message());
    assert!(shown(&bo.queue("oxygen", 50).await.unwrap().items, &held[0].prediction_id));
    rig.end().await;
}

async fn repeats_are_blind_and_show_agreement(on: On) {
    let rig = watched(on, json!({"repeat_percent": 100.0, "repeat_after_hours": 24.0})).await;
    let (ada, bo) = (expert(&rig, "ada"), expert(&rig, "bo"));
    let mut seen = Vec::new();
    for place in 0..10 {
        // What she answered a moment ago is not shown to her again: there is nothing else, so it is a new one.
        let item = next(&ada, 1).await.remove(0);
        let label = if place % 2 == 0 { "sick" } else { "healthy" };
        ada.answer_item("oxygen", &item.lease, &says(label)).await.unwrap();
        seen.push((item, label));
    }
    let ids: BTreeSet<&str> = seen.iter().map(|(item, _)| item.prediction_id.as_str()).collect();
    assert_eq!(ids.len(), 10);
    // Two that are sick to her are healthy to him.
    let others: Vec<String> = seen.iter().step_by(2).take(2).map(|(item, _)| item.prediction_id.clone()).collect();
    let mut wrong = Vec::new();
    for _ in 0..10 {
        let item = next(&bo, 1).await.remove(0);
        let (first, label) = seen.iter().find(|(seen, _)| seen.prediction_id == item.prediction_id).unwrap();
        // Nothing tells a repeat: but for the lease and its end it is as it was.
        let as_first = QueueItem { lease: first.lease.clone(), until_ms: first.until_ms, ..item.clone() };
        assert_eq!(&as_first, first);
        let is_other = others.contains(&item.prediction_id);
        bo.answer_item("oxygen", &item.lease, &says(if is_other { "healthy" } else { label })).await.unwrap();
        if is_other {
            wrong.push(item.lease);
        }
    }
    let query = AgreementQuery::default();
    let found = rig.client.agreement("oxygen", query).await.unwrap();
    assert_eq!((found.items, found.categories.as_slice()), (10, &["healthy".to_owned(), "sick".to_owned()][..]));
    let pair = &found.pairs[0];
    assert_eq!((found.pairs.len(), pair.first.as_str(), pair.second.as_str()), (1, "user:ada", "user:bo"));
    // Sick are 5 and 3 of 10: chance gives 0.5, and 0.8 were the same.
    assert!((pair.same - 0.8).abs() < 1e-12 && (pair.kappa.unwrap() - 0.6).abs() < 1e-12, "{pair:?}");
    assert!(found.fleiss_kappa.is_some());
    bo.answer_item("oxygen", &wrong[0], &says("sick")).await.unwrap();
    let found = rig.client.agreement("oxygen", query).await.unwrap();
    assert!((found.pairs[0].same - 0.9).abs() < 1e-12, "a correction counts");
    let weighted = AgreementQuery { of: AgreementOf::Label, weights: AgreementWeights::Linear };
    assert_eq!(rig.client.agreement("oxygen", weighted).await.unwrap_err().code(), ErrorCode::FailedPrecondition);

    // A day later she gets one of her own again.
    rig.clock.advance_ms(DAY_MS);
    let again = next(&ada, 1).await.remove(0);
    assert!(ids.contains(again.prediction_id.as_str()));
    ada.answer_item("oxygen", &again.lease, &says("sick")).await.unwrap();
    let found = rig.client.agreement("oxygen", query).await.unwrap();
    assert!(found.pairs.iter().any(|pair| pair.first == "user:ada" && pair.second == "user:ada"));
    rig.end().await;
}

async fn what_is_worth_a_look_comes_first(on: On) {
    let rig = watched(on, json!({"challenger": "oxygen-next"})).await;
    rig.champion(1, "1", &training(0, 2)).await;
    rig.publish(&[record_with("hot", 60, "1", &json!(99.0))]).await;
    let mut of_challenger = record(10, "7");
    of_challenger["id"] = json!("c-10");
    of_challenger["deployment"] = json!("oxygen-next");
    of_challenger["outputs"]["do_mgl"] = json!(3.0);
    rig.publish(&[of_challenger]).await;
    arrived(&rig, 49).await;
    let items = until("champion and challenger", async || {
        let items = rig.client.queue("oxygen", 3).await.unwrap().items;
        let kinds = items.iter().flat_map(|item| &item.reasons).map(|reason| reason.kind.as_str());
        let kinds: BTreeSet<&str> = kinds.collect();
        (kinds.contains("drift") && kinds.contains("disagreement")).then_some(items.clone())
    })
    .await;
    let first: Vec<(&str, &str)> =
        items[..2].iter().map(|item| (item.prediction_id.as_str(), item.reasons[0].kind.as_str())).collect();
    assert!(first.contains(&("hot", "drift")) && first.contains(&("p-10", "disagreement")), "{items:#?}");
    let hot = items.iter().find(|item| item.prediction_id == "hot").unwrap();
    assert!(hot.lease.is_empty() && hot.reasons[0].message.starts_with("temp is 99.000"), "{hot:?}");

    // Where it was wrong before, it may be wrong again: one half of the labels is off.
    rig.label(0..24, 0.0).await;
    rig.label(24..36, 2.0).await;
    let items = rig.client.queue("oxygen", 50).await.unwrap().items;
    assert!(items.iter().all(|item| !(0..36).any(|at| item.prediction_id == format!("p-{at}"))), "the truth is known");
    let messages: Vec<&str> =
        items.iter().flat_map(|item| &item.reasons).map(|reason| reason.message.as_str()).collect();
    assert!(
        messages.iter().any(|message| message.starts_with("answers to similar inputs were off by")),
        "{messages:?}"
    );
    rig.end().await;
}

async fn a_dealt_out_item_is_nobody_elses(on: On) {
    let rig = watched(on, json!({"repeat_percent": 0.0})).await;
    let experts = ["ada", "bo", "cy", "di"].map(|name| expert(&rig, name));
    let taken = futures::future::join_all(experts.iter().map(|expert| next(expert, 12))).await;
    let ids: BTreeSet<&str> = taken.iter().flatten().map(|item| item.prediction_id.as_str()).collect();
    assert!(taken.iter().all(|items| !items.is_empty()));
    assert_eq!(ids.len(), taken.iter().map(Vec::len).sum::<usize>());
    rig.end().await;
}

async fn numbers_of_experts_stand_beside_answers(on: On) {
    let rig = watched(on, json!({"repeat_percent": 0.0})).await;
    let ada = expert(&rig, "ada");
    let items = next(&ada, 3).await;
    for (item, label) in items.iter().zip(["6.5", "unknown", "7.5"]) {
        ada.answer_item("oxygen", &item.lease, &says(label)).await.unwrap();
    }
    ada.answer_item("oxygen", &items[0].lease, &says("6.75")).await.unwrap();
    let pairs = rig.client.compared_pairs("oxygen").await.unwrap().items;
    let of = |item: &QueueItem| pairs.iter().find(|pair| pair.id == item.prediction_id);
    assert_eq!(pairs.len(), 2);
    let first = of(&items[0]).unwrap();
    assert!((first.manual - 6.75).abs() < 1e-12 && (first.automatic - items[0].output.unwrap()).abs() < 1e-12);
    assert!(of(&items[1]).is_none() && of(&items[2]).is_some());
    rig.end().await;
}

async fn nonsense_of_experts_is_refused(on: On) {
    let rig = watched(on, json!({})).await;
    let queue = "/api/v1/monitors/oxygen/queue";
    let lease = rig.client.next_items("oxygen", QueueRequest { count: 1 }).await.unwrap().items.remove(0).lease;
    let answer = format!("{queue}/leases/{lease}/answer");
    let cases = [
        ("GET", format!("{queue}?limit=0"), String::new(), 400),
        ("GET", format!("{queue}?limit=51"), String::new(), 400),
        ("GET", "/api/v1/monitors/nobody/queue".into(), String::new(), 404),
        ("POST", format!("{queue}/leases"), json!({"count": 51}).to_string(), 400),
        ("POST", format!("{queue}/leases"), json!({}).to_string(), 400),
        ("POST", format!("{queue}/leases/none/answer"), json!({"label": "x"}).to_string(), 404),
        ("POST", answer.clone(), json!({"label": " "}).to_string(), 400),
        ("POST", answer.clone(), json!({"label": "x", "severity": "deadly"}).to_string(), 400),
        ("POST", answer.clone(), json!({"label": "x", "actor": "somebody else"}).to_string(), 400),
        ("POST", answer, json!({"label": "x", "text": "x".repeat(4_001)}).to_string(), 400),
        ("POST", format!("{queue}/leases/{lease}/release"), json!({}).to_string(), 400),
        ("GET", "/api/v1/monitors/oxygen/agreement?of=colour".into(), String::new(), 400),
        ("GET", "/api/v1/monitors/nobody/agreement".into(), String::new(), 404),
        ("GET", "/api/v1/monitors/nobody/comparison".into(), String::new(), 404),
        (
            "PUT",
            "/api/v1/monitors/m".into(),
            json!({"name": "m", "deployment": "oxygen", "experts": {"repeat_percent": 101.0}}).to_string(),
            400,
        ),
    ];
    for (method, path, body, expected) in cases {
        let (status, said) = rig.send(method, &path, &body).await;
        assert_eq!(status, expected, "{method} {path} {body}: {said}");
    }
    let opinions = rig.client.opinions(&OpinionQuery::default()).await.unwrap().items;
    assert!(opinions.is_empty());
    rig.end().await;
}
