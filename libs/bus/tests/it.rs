//! One suite, run in process and over RabbitMQ, and what only one of them can do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "it/broker_away.rs"]
mod broker_away;
#[path = "it/events.rs"]
mod events;
#[path = "it/fixture.rs"]
mod fixture;
#[path = "it/in_process.rs"]
mod in_process;
#[path = "it/publisher.rs"]
mod publisher;
#[path = "it/rabbit.rs"]
mod rabbit;
#[path = "it/requests.rs"]
mod requests;
#[path = "it/streams.rs"]
mod streams;
