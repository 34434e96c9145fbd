use std::sync::Arc;

use fishy_config::{Receiver, ReceiverKind, Secret};
use fishy_contracts::monitoring::{Alert, Matcher, SilenceRequest};
use fishy_contracts::pipelines::RunStatus;
use fishy_core::time::{DAY_MS, HOUR_MS};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

use crate::receivers::{Alertmanager, Hook, mail_server, until};
use crate::rig::{On, Rig, day, hour, on_both, record_with, temp};

on_both!(
    nothing_is_lost_while_a_receiver_is_away,
    a_farmer_gets_an_email_for_each_group,
    silences_hold_alerts_back,
    a_retraining_is_told_and_resolved,
    receivers_choose_what_they_are_told,
    what_ended_long_ago_is_forgotten,
);

fn receiver(kind: ReceiverKind, url: String) -> Receiver {
    Receiver {
        kind,
        url,
        username: String::new(),
        password: Secret::default(),
        secret: Secret::default(),
        from: "fishy@farm.test".into(),
        to: vec!["Keeper <keeper@farm.test>".into()],
        severity: "warning".into(),
        monitors: Vec::new(),
        group_by: vec!["monitor".into()],
        group_wait_seconds: 0,
    }
}

async fn rig(on: On, receivers: Vec<(&str, Receiver)>) -> Rig {
    let mut config = fishy_config::Config::default();
    config.monitoring.receivers = receivers.into_iter().map(|(name, receiver)| (name.to_owned(), receiver)).collect();
    Rig::start_with(on, config).await
}

/// Two pens; the probe of pen 7 reads 99 °C for these hours.
async fn break_probe(rig: &Rig, hours: std::ops::Range<i64>, broken: std::ops::Range<i64>) {
    let mut records = Vec::new();
    for at in hours {
        for pen in ["7", "8"] {
            let is_broken = pen == "7" && broken.contains(&at);
            // It does not rest at one value: that would be another fault.
            let reading = if is_broken { json!(99.0 + ((at - 30) % 7) as f64 * 0.1) } else { json!(temp(at)) };
            let mut record = record_with(&format!("{pen}-{at}"), at, "1", &reading);
            record["labels"] = json!({"pen": pen});
            records.push(record);
        }
    }
    rig.publish(&records).await;
}

fn watched() -> Value {
    json!({"series_label": "pen", "ranges": {"temp": [-2.0, 40.0]}})
}

async fn open(rig: &Rig) -> Vec<Alert> {
    rig.client.alerts(true).await.unwrap().items
}

async fn nothing_is_lost_while_a_receiver_is_away(on: On) {
    let hook = Hook::start().await;
    let signed = Receiver {
        secret: Secret::new("a shared secret"),
        ..receiver(ReceiverKind::Webhook, format!("http://{}/hook", hook.address))
    };
    let rig = rig(on, vec![("hook", signed)]).await;
    rig.monitor(watched()).await;
    hook.away(true);
    break_probe(&rig, 0..48, 30..48).await;
    rig.watermark(day(2)).await;
    assert_eq!(open(&rig).await.len(), 1);
    let tried = "select 1 as one from alert_deliveries where attempts > 0";
    until("a try", async || rig.db.query(tried, vec![]).await.unwrap().pop()).await;
    assert!(rig.problems().await.is_empty(), "the service does its work without the receiver");
    // The process ends in the meantime, and the probe is repaired: both are told, once, when the receiver is back.
    let rig = rig.restart().await;
    break_probe(&rig, 48..96, 48..60).await;
    rig.watermark(day(4)).await;
    assert!(open(&rig).await.is_empty());
    hook.away(false);
    let bodies = until("the alert", async || {
        rig.clock.advance_ms(HOUR_MS);
        Some(hook.bodies()).filter(|bodies| !bodies.is_empty())
    })
    .await;
    assert_eq!(bodies[0]["receiver"], "hook");
    assert_eq!(bodies[0]["group"], json!({"monitor": "oxygen"}));
    let alerts = bodies[0]["alerts"].as_array().unwrap();
    assert_eq!((alerts.len(), &alerts[0]["status"]), (1, &json!("resolved")), "{bodies:?}");
    let alert = &alerts[0]["alert"];
    assert_eq!((&alert["starts_ms"], &alert["ends_ms"]), (&json!(hour(30)), &json!(hour(59))));
    assert_eq!(alert["labels"]["alertname"], "SensorFault");
    assert_eq!(
        alert["summary"],
        "Probe of pen 7: temperature reads 99 °C, and only -2 to 40 °C is possible: check or replace it."
    );
    let (headers, body) = hook.got.lock().unwrap()[0].clone();
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"a shared secret").unwrap();
    mac.update(header("fishy-timestamp").as_bytes());
    mac.update(b".");
    mac.update(&body);
    assert_eq!(header("fishy-signature"), format!("sha256={}", hex::encode(mac.finalize().into_bytes())));
    let waiting = async || rig.db.query("select 1 as one from alert_deliveries", vec![]).await.unwrap().len();
    until("nothing more to tell", async || (waiting().await == 0).then_some(())).await;
    assert_eq!(hook.bodies().len(), 1);
    rig.end().await;
}

async fn a_farmer_gets_an_email_for_each_group(on: On) {
    let (address, mails) = mail_server().await;
    let hook = Hook::start().await;
    let rig = rig(
        on,
        vec![
            ("keeper", receiver(ReceiverKind::Email, format!("smtp://{address}"))),
            ("form", receiver(ReceiverKind::AlertmanagerWebhook, format!("http://{}/", hook.address))),
        ],
    )
    .await;
    rig.monitor(watched()).await;
    break_probe(&rig, 0..48, 30..48).await;
    rig.watermark(day(2)).await;
    let mail = until("the e-mail", async || mails.lock().unwrap().first().cloned()).await;
    assert!(mail.contains("RCPT TO:<keeper@farm.test>") && mail.contains("From: fishy@farm.test"), "{mail}");
    let subject = mail.replace("\n ", " ");
    assert!(subject.contains("Subject: "), "{mail}");
    let text = quoted_printable(&mail);
    assert!(
        text.contains("ALERT: Probe of pen 7: temperature reads 99 °C, and only -2 to 40 °C is possible"),
        "{text}"
    );
    break_probe(&rig, 48..96, 0..0).await;
    rig.watermark(day(4)).await;
    let second = until("the second e-mail", async || mails.lock().unwrap().get(1).cloned()).await;
    assert!(quoted_printable(&second).contains("OVER: Probe of pen 7"), "{second}");
    // At least once: a webhook whose answer came late may come again.
    let is_over = |body: &Value| body["status"] == "resolved";
    let form =
        until("the webhook of the end", async || Some(hook.bodies()).filter(|all| all.iter().any(is_over))).await;
    assert_eq!((&form[0]["version"], &form[0]["status"]), (&json!("4"), &json!("firing")));
    let over = form.iter().find(|body| is_over(body)).unwrap();
    assert_eq!(form[0]["alerts"][0]["fingerprint"], over["alerts"][0]["fingerprint"]);
    assert_eq!(form[0]["commonLabels"]["series"], "7");
    rig.end().await;
}

/// The body of an e-mail, decoded.
fn quoted_printable(mail: &str) -> String {
    let body = mail.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = body.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| *first == b'=');
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn silences_hold_alerts_back(on: On) {
    let hook = Hook::start().await;
    let rig = rig(on, vec![("hook", receiver(ReceiverKind::Webhook, format!("http://{}/", hook.address)))]).await;
    rig.monitor(watched()).await;
    let silence = |value: &str| SilenceRequest {
        matchers: vec![Matcher { name: "series".into(), value: value.into(), is_equal: true }],
        starts_ms: None,
        ends_ms: day(3_000) + 8 * HOUR_MS,
        comment: "the probe is being cleaned".into(),
    };
    let made = rig.client.silence(&silence("7")).await.unwrap();
    break_probe(&rig, 0..48, 30..48).await;
    rig.watermark(day(2)).await;
    // Another one is told, so the silent one has been looked at too.
    let mut records: Vec<Value> = Vec::new();
    for at in 48..72 {
        let mut record = record_with(&format!("8-{at}"), at, "1", &json!(88.0 + (at % 5) as f64 * 0.1));
        record["labels"] = json!({"pen": "8"});
        records.push(record);
    }
    rig.publish(&records).await;
    rig.watermark(day(3)).await;
    let series = |bodies: &[Value]| -> Vec<String> {
        let alerts = bodies.iter().flat_map(|body| body["alerts"].as_array().unwrap().clone());
        alerts.map(|alert| alert["alert"]["labels"]["series"].as_str().unwrap().to_owned()).collect()
    };
    until("pen 8", async || series(&hook.bodies()).contains(&"8".to_owned()).then_some(())).await;
    assert!(!series(&hook.bodies()).contains(&"7".to_owned()));
    assert_eq!(open(&rig).await.len(), 2, "it is there all the same");
    assert_eq!(rig.client.silences().await.unwrap().items, std::slice::from_ref(&made));
    rig.client.end_silence(&made.id).await.unwrap();
    until("pen 7", async || series(&hook.bodies()).contains(&"7".to_owned()).then_some(())).await;
    assert!(rig.client.silences().await.unwrap().items.is_empty());
    for (body, status) in [
        (json!({"matchers": [], "ends_ms": day(4_000)}), 400),
        (json!({"matchers": [{"name": "series", "value": "7"}], "ends_ms": 5}), 400),
        (json!({"matchers": [{"name": "series", "value": "7", "isRegex": true}], "ends_ms": day(3_001)}), 400),
    ] {
        let (answered, said) = rig.send("POST", "/api/v1/silences", &body.to_string()).await;
        assert_eq!(answered, status, "{body}: {said}");
    }
    assert_eq!(rig.send("DELETE", "/api/v1/silences/unknown", "").await.0, 404);
    let audited = rig.emitted("fishy.audit.entry.recorded.v1").await;
    let actions: Vec<&str> = audited.iter().filter_map(|entry| entry["action"].as_str()).collect();
    assert!(actions.contains(&"monitoring:silence") && actions.contains(&"monitoring:end_silence"), "{actions:?}");
    rig.end().await;
}

async fn a_retraining_is_told_and_resolved(on: On) {
    let rig = Rig::start(on).await;
    rig.monitor(json!({"trigger": {"error_ratio": 1.5}})).await;
    rig.champion(
        1,
        "1",
        &[("fishy.evaluation.mae", "0.1".to_owned()), ("fishy.evaluation.champion_mae", "0.1".to_owned())],
    )
    .await;
    rig.predict(0..72, "1").await;
    rig.label(0..72, 2.0).await;
    rig.watermark(day(20)).await;
    let alert = open(&rig).await.remove(0);
    assert_eq!((alert.labels["alertname"].as_str(), alert.labels["severity"].as_str()), ("Retraining", "warning"));
    assert!(alert.summary.contains("a challenger is being trained"), "{}", alert.summary);
    let id = rig.triggers().await.iter().find(|item| item["fired"] == true).unwrap()["id"].as_str().unwrap().to_owned();
    rig.run_finished(&id, RunStatus::Succeeded).await;
    until("its end", async || open(&rig).await.is_empty().then_some(())).await;
    rig.end().await;
}

async fn receivers_choose_what_they_are_told(on: On) {
    let (all, few, others) = (Hook::start().await, Hook::start().await, Hook::start().await);
    let to = |hook: &Hook| receiver(ReceiverKind::Webhook, format!("http://{}/", hook.address));
    let rig = rig(
        on,
        vec![
            ("all", to(&all)),
            ("few", Receiver { severity: "alert".into(), ..to(&few) }),
            ("others", Receiver { monitors: vec!["another".into()], ..to(&others) }),
        ],
    )
    .await;
    let limits = json!({"missing": {"warning": {"kind": "constant", "limit": 0.1}, "alert": {"kind": "constant", "limit": 0.6}}});
    let check = json!({"name": "gaps", "features": ["temp"], "tests": limits});
    rig.monitor(json!({"sensors": ["ph"], "checks": [check]})).await;
    let gaps = |hours: std::ops::Range<i64>, every: i64| -> Vec<Value> {
        let one = |at: i64| if at % every == 0 { json!(null) } else { json!(temp(at)) };
        hours.map(|at| record_with(&format!("p-{at}"), at, "1", &one(at))).collect()
    };
    rig.publish(&gaps(0..24, 4)).await;
    rig.watermark(day(1)).await;
    let first = until("the warning", async || all.bodies().first().cloned()).await;
    assert_eq!(first["alerts"][0]["alert"]["labels"]["severity"], "warning");
    assert_eq!(
        first["alerts"][0]["alert"]["summary"],
        "25 % of the readings of temperature are missing: check the probes and their connection."
    );
    rig.publish(&gaps(24..48, 1)).await;
    rig.watermark(day(2)).await;
    let worse = until("the alert", async || few.bodies().first().cloned()).await;
    assert_eq!(worse["alerts"].as_array().unwrap().len(), 1);
    let second = until("the alert and the end of the warning", async || all.bodies().get(1).cloned()).await;
    let told: Vec<(&Value, &Value)> = second["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| (&alert["status"], &alert["alert"]["labels"]["severity"]))
        .collect();
    assert_eq!(told, [(&json!("resolved"), &json!("warning")), (&json!("firing"), &json!("alert"))]);
    assert!(others.bodies().is_empty());
    rig.end().await;
}

/// Event time is 2011 in it, and the clock 2019: what counts is the clock.
async fn what_ended_long_ago_is_forgotten(on: On) {
    const DAYS: i64 = 30;
    let hook = Hook::start().await;
    hook.away(true);
    let mut config = fishy_config::Config::default();
    config.monitoring.alert_retention_days = DAYS;
    let receivers = ["hook", "gone"]
        .map(|name| (name.to_owned(), receiver(ReceiverKind::Webhook, format!("http://{}/{name}", hook.address))));
    config.monitoring.receivers = receivers.into_iter().collect();
    let rig = Rig::start_with(on, config).await;
    rig.monitor(watched()).await;
    let silence = |value: &str, hours: i64| SilenceRequest {
        matchers: vec![Matcher { name: "series".into(), value: value.into(), is_equal: true }],
        starts_ms: None,
        ends_ms: day(3_000) + hours * HOUR_MS,
        comment: "the probe is being cleaned".into(),
    };
    rig.client.silence(&silence("1", 1)).await.unwrap();
    rig.client.silence(&silence("2", 24 * 300)).await.unwrap();
    rig.clock.advance_ms(2 * HOUR_MS);
    // The probe of pen 7 is at fault for a while; that of pen 8 still is. Nobody can be told.
    break_probe(&rig, 0..48, 30..48).await;
    rig.watermark(day(2)).await;
    let mut records: Vec<Value> = Vec::new();
    for at in 48..96 {
        for pen in ["7", "8"] {
            let reading = if pen == "8" { 88.0 + (at % 5) as f64 * 0.1 } else { temp(at) };
            let mut record = record_with(&format!("{pen}-{at}"), at, "1", &json!(reading));
            record["labels"] = json!({"pen": pen});
            records.push(record);
        }
    }
    rig.publish(&records).await;
    rig.watermark(day(4)).await;
    let count = async |rig: &Rig, what: &str| {
        let rows = rig.db.query(&format!("select count(*) as n from {what}"), vec![]).await.unwrap();
        rows[0].get::<i64>("n").unwrap()
    };
    assert_eq!((count(&rig, "alerts").await, count(&rig, "silences").await), (2, 2));
    assert_eq!(count(&rig, "alert_deliveries").await, 6, "a beginning and an end of pen 7, a beginning of pen 8");
    // One receiver is given up. The clock of the restarted rig stands where it stood at first.
    let mut rig = rig;
    rig.config.monitoring.receivers.remove("gone");
    let rig = rig.restart().await;
    let left =
        async || (count(&rig, "alerts").await, count(&rig, "silences").await, count(&rig, "alert_deliveries").await);
    rig.clock.advance_ms(DAYS * DAY_MS + HOUR_MS + HOUR_MS / 2);
    until("the silence is forgotten", async || (count(&rig, "silences").await == 1).then_some(())).await;
    assert_eq!(left().await, (2, 1, 6), "the others ended half an hour later");
    rig.clock.advance_ms(3 * HOUR_MS);
    until("they are forgotten", async || (left().await == (1, 1, 1)).then_some(())).await;
    assert_eq!(open(&rig).await[0].labels["series"], "8", "what lasts is kept");
    assert_eq!(rig.client.silences().await.unwrap().items[0].matchers[0].value, "2");
    hook.away(false);
    let bodies = until("the receiver that is back", async || {
        rig.clock.advance_ms(HOUR_MS);
        Some(hook.bodies()).filter(|bodies| !bodies.is_empty())
    })
    .await;
    let alerts = bodies[0]["alerts"].as_array().unwrap();
    assert_eq!((alerts.len(), &alerts[0]["alert"]["labels"]["series"]), (1, &json!("8")), "{bodies:?}");
    rig.end().await;
}

/// The real one, on SQLite alone: what is kept does not differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_alertmanager_takes_alerts_and_their_end() {
    let hook = Hook::start().await;
    let manager = Arc::new(Alertmanager::start(hook.address).await);
    let rig = rig(On::Sqlite, vec![("ops", receiver(ReceiverKind::Alertmanager, manager.url.clone()))]).await;
    // An Alertmanager believes in the clock of the wall.
    let now_ms = fishy_core::Env::system().now_ms();
    rig.clock.advance_ms(now_ms - day(3_000));
    rig.monitor(watched()).await;
    break_probe(&rig, 0..48, 30..48).await;
    rig.watermark(day(2)).await;
    let alerts = until("the alert", async || manager.alerts().await.filter(|alerts| !alerts.is_empty())).await;
    assert_eq!(
        (&alerts[0]["labels"]["alertname"], &alerts[0]["labels"]["series"]),
        (&json!("SensorFault"), &json!("7"))
    );
    assert_eq!(alerts[0]["status"]["state"], "active");
    let firing = until("its webhook", async || hook.bodies().into_iter().find(|body| body["status"] == "firing")).await;
    assert!(firing["alerts"][0]["annotations"]["summary"].as_str().unwrap().starts_with("Probe of pen 7"));
    break_probe(&rig, 48..96, 0..0).await;
    rig.watermark(day(4)).await;
    until("no alert", async || manager.alerts().await.filter(Vec::is_empty)).await;
    until("its end", async || hook.bodies().into_iter().find(|body| body["status"] == "resolved")).await;
    rig.end().await;
}
