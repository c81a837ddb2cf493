//! Shards are restored while the brokers' cleaner really compacts their state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use custos_journal::{Journal, Provision, Start};
use custos_parts::{require, start_cluster_with};

use crate::cluster::{PATIENCE, alter};
use crate::counting::judge::{Kept, everything};
use crate::counting::{STATE, take_over};
use crate::long;
use crate::shard::Shard;

/// Longer than the shard is ever without an owner here, as the rule for the real topics has it, with seconds for days.
const LAG: &str = "3000";
/// Everything beyond the lag is compacted soon.
const EAGER: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("message.timestamp.type", "LogAppendTime"),
    ("min.compaction.lag.ms", LAG),
    ("max.compaction.lag.ms", "4000"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("delete.retention.ms", "60000"),
    ("segment.ms", "1000"),
];

#[test]
fn a_shard_is_restored_rightly_while_the_cleaner_works() {
    let work = Duration::from_secs(if long() { 120 } else { 16 });
    let Some(cluster) =
        require("kafka with an eager cleaner", start_cluster_with(&[vec![]], &[("log.cleaner.backoff.ms", "200")]))
    else {
        return;
    };
    let shard = Shard::new(&cluster, 0);
    shard.journal.provision(&Provision { partitions: 1, gateways: 1, replication: 1 }).unwrap();
    alter(&cluster, STATE, EAGER);
    let begun = Instant::now();
    let mut takeovers = 0;
    while begun.elapsed() < work {
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (running, ended) = (&shard, &end);
            scope.spawn(move || running.run(ended));
            std::thread::sleep(Duration::from_millis(2_000));
            end.store(true, Ordering::Relaxed);
        });
        // Its root is compared with that of the last manifest (`take_over`).
        drop(take_over(&shard.journal, 0, &shard.diary, true).unwrap());
        takeovers += 1;
    }
    // The newest manifest and the state are what a compacted topic keeps; what came before is seen to be gone.
    let until = Instant::now() + PATIENCE;
    let gone = loop {
        let (_, end) = shard.journal.bounds(STATE, 0).unwrap();
        let kept = u64::try_from(everything(&shard.journal, STATE, 0).len()).unwrap();
        if kept * 2 < end {
            break (end, kept);
        }
        assert!(Instant::now() < until, "the cleaner does not work: {kept} records of {end} offsets are left");
        std::thread::sleep(Duration::from_millis(200));
    };
    let report = shard.conclude(Kept::Newest).unwrap();
    println!("cleaner: {} of {} offsets of the state are left, takeovers meanwhile {takeovers}, {report}", gone.1, gone.0);
    assert!(shard.journal.read(STATE, 0, Start::Earliest).is_ok());
}
