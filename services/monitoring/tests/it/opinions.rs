use fishy_contracts::monitoring::{Degree, GroundTruth, Judgement, NewOpinion, OpinionQuery, Opinions};
use serde_json::json;

use crate::receivers::until;
use crate::rig::{On, Rig, day, on_both, truth};

on_both!(opinions_are_kept_once_and_listed_by_page, nonsense_is_refused, true_values_come_from_the_queue);

fn thumb(id: &str, prediction: i64, is_helpful: bool) -> NewOpinion {
    NewOpinion {
        id: Some(id.to_owned()),
        prediction_id: format!("p-{prediction}"),
        opinion: Judgement::User { is_helpful, reason: if is_helpful { String::new() } else { "late".into() } },
        text: "the fish were already at the surface".into(),
        time_ms: None,
    }
}

async fn opinions_are_kept_once_and_listed_by_page(on: On) {
    let rig = Rig::start(on).await;
    rig.predict(0..5, "1").await;
    let expert = NewOpinion {
        opinion: Judgement::Expert { label: "gill disease".into(), severity: Some(Degree::Moderate) },
        time_ms: Some(day(1)),
        ..thumb("e", 3, true)
    };
    let items = vec![thumb("a", 0, true), thumb("b", 1, false), expert, thumb("c", 77, false)];
    let receipt = rig.client.give_opinions(&Opinions { items: items.clone() }).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (4, 0));
    let receipt = rig.client.give_opinions(&Opinions { items }).await.unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates), (0, 4));

    let ids = async |query: OpinionQuery| {
        let page = rig.client.opinions(&query).await.unwrap();
        (page.items.iter().map(|opinion| opinion.id.as_str()).collect::<String>(), page.next_page_token)
    };
    let of = |deployment: &str, by: &str| OpinionQuery {
        deployment: deployment.into(),
        by: by.into(),
        ..OpinionQuery::default()
    };
    assert_eq!(ids(OpinionQuery::default()).await.0, "ceba");
    assert_eq!(ids(of("oxygen", "")).await.0, "eba", "of an answer that nobody knows yet, the deployment is unknown");
    assert_eq!((ids(of("oxygen", "expert")).await.0, ids(of("other", "")).await.0), ("e".into(), String::new()));
    let one = OpinionQuery { prediction_id: "p-1".into(), ..OpinionQuery::default() };
    assert_eq!(ids(one).await.0, "b");
    let (first, token) = ids(OpinionQuery { limit: Some(3), ..OpinionQuery::default() }).await;
    let rest = OpinionQuery { limit: Some(3), page_token: token.unwrap(), ..OpinionQuery::default() };
    assert_eq!((first.as_str(), ids(rest).await), ("ceb", ("a".to_owned(), None)));

    let expert = rig.client.opinions(&of("", "expert")).await.unwrap().items.remove(0);
    assert_eq!((expert.time_ms, expert.received_ms, expert.actor.is_empty()), (day(1), day(3_000), false));
    assert_eq!(expert.opinion, Judgement::Expert { label: "gill disease".into(), severity: Some(Degree::Moderate) });
    let audited = rig.emitted("fishy.audit.entry.recorded.v1").await;
    let entries: Vec<_> = audited.iter().filter(|entry| entry["action"] == "feedback:write").collect();
    assert_eq!((entries.len(), &entries[0]["details"]["opinions"]), (1, &json!(4)));
    rig.end().await;
}

async fn nonsense_is_refused(on: On) {
    let rig = Rig::start(on).await;
    let user = json!({"by": "user", "is_helpful": true});
    let cases = [
        json!({"prediction_id": "", "opinion": user}),
        json!({"prediction_id": "p", "opinion": {"by": "oracle"}}),
        json!({"prediction_id": "p", "opinion": {"by": "user"}}),
        json!({"prediction_id": "p", "opinion": {"by": "expert", "label": " "}}),
        json!({"prediction_id": "p", "opinion": {"by": "expert", "label": "x", "severity": "deadly"}}),
        json!({"prediction_id": "p", "opinion": user, "text": "x".repeat(4_001)}),
        json!({"prediction_id": "p", "opinion": user, "text": "a\u{0}b"}),
        json!({"prediction_id": "p", "opinion": user, "time_ms": -1}),
        json!({"prediction_id": "p", "opinion": user, "actor": "somebody else"}),
    ];
    for case in cases {
        let (status, said) = rig.send("POST", "/api/v1/feedback", &json!({"items": [case]}).to_string()).await;
        assert_eq!(status, 400, "{case}: {said}");
    }
    for query in ["by=oracle", "limit=0", "limit=9999", "page_token=x", "colour=red"] {
        assert_eq!(rig.send("GET", &format!("/api/v1/feedback?{query}"), "").await.0, 400, "{query}");
    }
    assert_eq!(rig.send("POST", "/api/v1/feedback", r#"{"items":[]}"#).await.0, 400);
    assert!(rig.client.opinions(&OpinionQuery::default()).await.unwrap().items.is_empty());
    rig.end().await;
}

async fn true_values_come_from_the_queue(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({})).await;
    rig.predict(0..3, "1").await;
    let data = GroundTruth { items: vec![truth(0, 5.0, None), truth(1, 6.0, None)] };
    let kind = "fishy.feedback.ground_truth.arrived.v1";
    rig.tell("laboratory", kind, serde_json::to_value(data).unwrap()).await;
    until("the labels", async || (rig.client.status("oxygen").await.unwrap().labels == 2).then_some(())).await;
    let rows = rig.db.query("select actor from ground_truth", vec![]).await.unwrap();
    let actors: Vec<String> = rows.iter().map(|row| row.get("actor").unwrap()).collect();
    assert!(
        actors.len() == 2 && actors.iter().all(|actor| actor.starts_with("queue:") && actor.contains("laboratory")),
        "{actors:?}"
    );
    rig.end().await;
}
