//! What every process of Custos is made of: the host that runs a machine's shards, the skeleton that runs a service,
//! the post that sends authenticated messages, configuration, health, metrics and traces.
//!
//! Invariant: what every part needs exists once, here. Deliberately absent: any business rule, and any knowledge of Kafka, SQL,
//! chain nodes or keys.

pub mod audit;
pub mod checkpoint;
pub mod health;
pub mod host;
pub mod metrics;
mod observer;
pub mod ops;
pub mod pace;
pub mod post;
pub mod quarantine;
pub mod replay;
pub mod serve;
pub mod service;
pub mod settings;
pub mod shard;
pub mod standby;
pub mod telemetry;
mod wire;
