//! The runtime on the embedded log: shards, their takeover and their crashes, replay, audit, hosts and services.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod audit;
mod checkpoint;
mod crashes;
mod desk;
mod host;
mod links;
mod logic;
mod poison;
mod replay;
mod service;
mod settled;
mod stage;
mod standby;
mod takeover;
mod timers;
mod torn;
