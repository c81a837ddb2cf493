//! The whole system in one thread, from a seed: the machines, the runtime and the services of production on the simulated log, with
//! everything around them that can go wrong.
//!
//! Invariants: one actor acts at a time; whatever chance decides comes from the seed, in three streams, so that a change of the
//! workload does not move the faults; time is the simulated cluster's and moves only when nobody has anything to do, or somebody
//! waits inside of a call. The same seed gives the same trace.
//!
//! Deliberately absent: sockets, threads, SQL, the encodings of Kafka and of chain nodes; other rings of tests have those.

pub mod actor;
pub mod catalogue;
pub mod chance;
pub mod clients;
pub mod control;
pub mod diary;
pub mod ledger;
pub mod oracle;
pub mod people;
pub mod process;
pub mod profile;
pub mod release;
pub mod run;
pub mod surroundings;
pub mod time;
pub mod town;
pub mod world;
