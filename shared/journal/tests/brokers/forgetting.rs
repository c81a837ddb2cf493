//! A broker whose disk was put back to an earlier state for one partition: what rule 2 compares tells.
//!
//! The comparison itself is the runtime's. Here is shown that the log in front of a shard shows what it needs: nothing, or another
//! record, where the last applied input stood.

use std::fs;
use std::path::Path;

use custos_journal::{Appender, Entry, Journal, KafkaJournal, Provision};
use custos_parts::{Cluster, require, start_cluster};

use crate::counting::{INBOX, MACHINE, input};
use crate::shard::Shard;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Restarts the broker with the inbox as it is in `kept`, or keeps it there first.
fn restart(cluster: &mut Cluster, kept: &Path, restore: impl FnOnce(&Path, &Path)) {
    let inbox = cluster.data(0).unwrap().join(format!("{}-0", INBOX.name()));
    cluster.kill(0).unwrap();
    restore(&inbox, kept);
    cluster.start_again(0).unwrap();
}

fn append(appender: &dyn Appender, numbers: std::ops::Range<u64>) -> u64 {
    numbers.map(|number| appender.append(INBOX, 0, input(number)).unwrap()).last().unwrap()
}

fn at(journal: &KafkaJournal, offset: u64) -> Option<Entry> {
    let mut log = crate::shard::acquired(journal, MACHINE, 0);
    log.inbox_at(offset).unwrap()
}

#[test]
fn an_inbox_that_was_put_back_shows_nothing_or_another_record_where_the_last_input_stood() {
    let Some(mut cluster) = require("a broker process", start_cluster(&[vec![]])) else { return };
    let kept = tempfile::tempdir().unwrap();
    let shard = Shard::new(&cluster, 0);
    shard.journal.provision(&Provision { partitions: 1, gateways: 1, replication: 1 }).unwrap();
    append(shard.journal.appender().unwrap().as_ref(), 0..5);
    restart(&mut cluster, kept.path(), copy);
    let fresh = Shard::new(&cluster, 0);
    let last = append(fresh.journal.appender().unwrap().as_ref(), 5..10);
    let applied = at(&fresh.journal, last).unwrap();
    restart(&mut cluster, kept.path(), |inbox, kept| {
        fs::remove_dir_all(inbox).unwrap();
        copy(kept, inbox);
    });
    let back = Shard::new(&cluster, 0);
    assert_eq!(at(&back.journal, last), None, "the record is still there");
    let again = append(back.journal.appender().unwrap().as_ref(), 100..106);
    assert!(again >= last, "the offsets went on");
    let found = at(&back.journal, last).unwrap();
    assert_ne!(found.record, applied.record, "the same record");
    println!("put back: at {last} stood {:?}, now {:?}", applied.record.value, found.record.value);
}
