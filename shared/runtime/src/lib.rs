//! What every process of Custos is made of: the host that runs a machine's shards, the skeleton that runs a service,
//! the post that sends authenticated messages, configuration, health, metrics and traces.

pub mod service;
pub mod settings;
