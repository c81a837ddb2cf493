//! The leader of a state partition and the coordinator of its transactions are killed in the middle of transactions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use custos_journal::{Journal, Provision};
use custos_parts::{require, start_cluster};

use crate::cluster::{await_in_step, coordinator_of, leader_of};
use crate::counting::judge::Kept;
use crate::counting::{MACHINE, STATE};
use crate::long;
use crate::shard::Shard;

/// Time in which transactions run between two kills.
const WORK: Duration = Duration::from_millis(1_500);

#[test]
fn killed_leaders_and_coordinators_lose_nothing() {
    let rounds = if long() { 20 } else { 4 };
    let Some(mut cluster) = require("three brokers", start_cluster(&[vec![], vec![], vec![]])) else { return };
    let shard = Shard::new(&cluster, 0);
    shard.journal.provision(&Provision { partitions: 2, gateways: 1, replication: 3 }).unwrap();
    let end = AtomicBool::new(false);
    let mut pauses = Vec::new();
    std::thread::scope(|scope| {
        let (running, ended) = (&shard, &end);
        scope.spawn(move || running.run(ended));
        shard.commit_after(Instant::now());
        await_in_step(&cluster);
        for round in 0..rounds {
            let id = format!("custos.{}.0", MACHINE.name());
            let (what, node) = if round % 2 == 0 {
                ("leader of the state", leader_of(&cluster, STATE, 0))
            } else {
                ("coordinator", coordinator_of(&cluster, &id))
            };
            std::thread::sleep(WORK);
            cluster.kill(node).unwrap();
            let killed = Instant::now();
            // What was under way may still end well; what shows that work goes on is a commit after the takeover of leadership.
            let moved = moved_after(&cluster, node, round % 2 == 0, &id);
            let pause = shard.commit_after(killed + moved);
            println!("{what}, node {node}: moved after {moved:?}, next commit {:?} after the kill", moved + pause);
            pauses.push(moved + pause);
            cluster.start_again(node).unwrap();
            await_in_step(&cluster);
        }
        end.store(true, Ordering::Relaxed);
    });
    for error in shard.errors.lock().unwrap().iter() {
        println!("  {error}");
    }
    let report = shard.conclude(Kept::All).unwrap();
    println!("three brokers: kills {rounds}, longest pause {:?}, {report}", pauses.iter().max());
    assert_eq!(pauses.len(), rounds);
}

/// Waits until another node has the role, and tells how long that took.
fn moved_after(cluster: &custos_parts::Cluster, node: usize, state: bool, id: &str) -> Duration {
    let begun = Instant::now();
    let now = || if state { leader_of(cluster, STATE, 0) } else { coordinator_of(cluster, id) };
    while now() == node {
        assert!(begun.elapsed() < crate::cluster::PATIENCE, "node {node} keeps its role");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}
