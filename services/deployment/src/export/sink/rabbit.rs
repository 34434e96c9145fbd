use bytes::Bytes;
use fishy_bus::{Outgoing, Publisher, Target};
use fishy_config::{PredictionSink, SinkMode};
use fishy_core::{Env, Error, Result};

use super::Taken;
use crate::domain::cloud_event::CloudEvent;

/// Events to RabbitMQ, in the headers and bodies of the AMQP binding of CloudEvents.
pub(super) struct RabbitDoor {
    publisher: Publisher,
    mode: SinkMode,
}

impl RabbitDoor {
    pub(super) async fn connect(url: &str, prefix: &str, settings: &PredictionSink, env: &Env) -> Result<Self> {
        let PredictionSink { queue, exchange, token, secret, .. } = settings;
        if !token.is_empty() || !secret.is_empty() {
            return Err(Error::invalid("token and secret are for HTTP: with RabbitMQ the URL has user and password"));
        }
        let mode = settings.mode.unwrap_or(SinkMode::Binary);
        if mode == SinkMode::Batched {
            return Err(Error::invalid("mode batched is for HTTP: with RabbitMQ use binary or structured"));
        }
        let target = match (queue.as_str(), exchange.as_str()) {
            (queue, "") if !queue.is_empty() => Target::Queue(queue.to_owned()),
            ("", exchange) if !exchange.is_empty() => Target::Exchange(exchange.to_owned()),
            _ => return Err(Error::invalid("RabbitMQ needs one of queue and exchange")),
        };
        let publisher = Publisher::connect(url, target, prefix, env).await?;
        // Without a message, this declares the target: consumers find it before the first event. Where the broker is away,
        // the first events do so.
        if let Err(error) = publisher.publish_all(&[]).await {
            tracing::warn!(error = error.chain(), "the target of a prediction sink is not declared yet");
        }
        Ok(Self { publisher, mode })
    }

    /// Answers when the broker has confirmed all of them.
    pub(super) async fn send(&self, events: &[CloudEvent<'_>]) -> Result<Taken> {
        let messages = events.iter().map(|event| self.message(event)).collect::<Result<Vec<_>>>()?;
        self.publisher.publish_all(&messages).await?;
        Ok(Taken { sent: events.len() as u64, refused: 0 })
    }

    pub(super) async fn close(&self) {
        self.publisher.close().await;
    }

    fn message(&self, event: &CloudEvent<'_>) -> Result<Outgoing> {
        let deployment = event.text("source").split('/').nth(2).unwrap_or_default().to_owned();
        let (content_type, headers, body) = if self.mode == SinkMode::Structured {
            let mut body = Vec::new();
            event.write_json(&mut body)?;
            ("application/cloudevents+json; charset=utf-8", Vec::new(), body)
        } else {
            let headers = event.texts().map(|(name, value)| (format!("cloudEvents:{name}"), value)).collect();
            ("application/json", headers, event.data.to_vec())
        };
        Ok(Outgoing {
            routing_key: deployment,
            message_id: event.text("id").to_owned(),
            kind: event.text("type").to_owned(),
            content_type: content_type.to_owned(),
            headers,
            body: Bytes::from(body),
        })
    }
}
