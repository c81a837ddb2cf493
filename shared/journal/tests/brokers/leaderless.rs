//! A partition whose only broker is gone has no leader: it is waited for. That one which is not there at all is not waited for shows
//! the suite of the Kafka journal.

use std::time::{Duration, Instant};

use custos_journal::{Journal, Provision, Remedy, Start};
use custos_parts::{require, start_cluster};

use crate::cluster::{PATIENCE, leader_of};
use crate::counting::{INBOX, input};
use crate::long;
use crate::shard::Shard;

/// For so long it is asked about a partition that has no leader: longer than everybody's knowledge of the former one lasts.
const GONE: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(20);

#[test]
fn a_partition_that_lost_its_leader_is_waited_for() {
    if !long() {
        println!("not asked for: a partition without a leader (CUSTOS_TEST_LONG=1)");
        return;
    }
    let Some(mut cluster) = require("three brokers", start_cluster(&[vec![], vec![], vec![]])) else { return };
    let shard = Shard::new(&cluster, 0);
    shard.journal.provision(&Provision { partitions: 1, gateways: 1, replication: 1 }).unwrap();
    let node = leader_of(&cluster, INBOX, 0);
    let mut feed = shard.journal.read(INBOX, 0, Start::Earliest).unwrap();
    shard.journal.appender().unwrap().append(INBOX, 0, input(1)).unwrap();
    assert_eq!(feed.poll(1, PATIENCE).unwrap().len(), 1);
    cluster.kill(node).unwrap();
    let (killed, mut refused) = (Instant::now(), 0);
    while killed.elapsed() < GONE {
        let fresh = Shard::new(&cluster, 0);
        let asked = [
            shard.journal.bounds(INBOX, 0).map(drop),
            fresh.journal.bounds(INBOX, 0).map(drop),
            fresh.journal.partitions(INBOX).map(drop),
            feed.poll(1, LOOK).map(drop),
        ];
        for error in asked.into_iter().filter_map(Result::err) {
            assert_eq!(error.remedy(), Remedy::Retry, "{error}");
            println!("  {error}");
            refused += 1;
        }
    }
    assert!(refused > 0, "there always was a leader");
    cluster.start_again(node).unwrap();
    shard.journal.appender().unwrap().append(INBOX, 0, input(2)).unwrap();
    assert_eq!(feed.poll(1, PATIENCE).unwrap().len(), 1);
}
