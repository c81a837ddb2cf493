//! Checkpoints: what is read is what was written, of this shard and this log, or nothing.

use std::path::Path;

use custos_journal::LogIdentity;
use custos_messages::Machine;
use custos_runtime::checkpoint::{CheckpointError, path_of, read, write};
use custos_runtime::shard::{Folded, ShardStop};

use crate::stage::{Stage, shard};

fn lived() -> Stage {
    let stage = Stage::new();
    stage.put(0, "event tell:1:hello");
    stage.put(0, "arm:a:60000");
    assert!(matches!(stage.run(0), ShardStop::Released));
    stage
}

fn log(stage: &Stage) -> LogIdentity {
    stage.journal.identity(Machine::Accounts).unwrap()
}

/// Writes what is known of shard 0, and gives the file's bytes.
fn written(stage: &Stage, folder: &Path) -> Vec<u8> {
    write(folder, shard(0), &stage.known(0, usize::MAX)).unwrap();
    std::fs::read(path_of(folder, shard(0))).unwrap()
}

#[test]
fn a_checkpoint_is_read_as_it_was_written_and_only_its_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (stage, folder) = (lived(), tempfile::tempdir().unwrap());
    assert_eq!(read(folder.path(), shard(0), &log(&stage)).unwrap(), None);
    written(&stage, folder.path());
    let found = read(folder.path(), shard(0), &log(&stage)).unwrap().unwrap();
    assert!(found.fits() && found.committed().len() > 3);
    assert_eq!(Some(found), stage.known(0, usize::MAX).rewound());
    let mode = std::fs::metadata(path_of(folder.path(), shard(0))).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn without_a_manifest_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), shard(0), &Folded::default()).unwrap();
    assert!(!path_of(folder.path(), shard(0)).exists());
}

#[test]
fn whatever_byte_is_wrong_or_missing_the_checkpoint_is_refused() {
    let (stage, folder) = (lived(), tempfile::tempdir().unwrap());
    let bytes = written(&stage, folder.path());
    let path = path_of(folder.path(), shard(0));
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let found = read(folder.path(), shard(0), &log(&stage));
        assert!(matches!(found, Err(CheckpointError::Damaged(_) | CheckpointError::Format(_))), "{what}: {found:?}");
    };
    for at in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x40;
        refused(&wrong, &format!("byte {at}"));
        refused(&bytes[..at], &format!("cut to {at}"));
    }
    refused(&[bytes.as_slice(), b"x"].concat(), "one byte too many");
    std::fs::write(&path, &bytes).unwrap();
    assert!(read(folder.path(), shard(0), &log(&stage)).unwrap().is_some());
}

#[test]
fn a_checkpoint_of_another_shard_log_or_format_is_refused() {
    let (stage, folder) = (lived(), tempfile::tempdir().unwrap());
    let mut bytes = written(&stage, folder.path());
    std::fs::copy(path_of(folder.path(), shard(0)), path_of(folder.path(), shard(1))).unwrap();
    assert!(matches!(read(folder.path(), shard(1), &log(&stage)), Err(CheckpointError::Foreign(_))));
    let other = LogIdentity { cluster: "another".to_owned(), ..log(&stage) };
    assert!(matches!(read(folder.path(), shard(0), &other), Err(CheckpointError::Foreign(_))));
    let more = LogIdentity { partitions: 9, ..log(&stage) };
    assert!(matches!(read(folder.path(), shard(0), &more), Err(CheckpointError::Foreign(_))));
    bytes[18] = 2;
    std::fs::write(path_of(folder.path(), shard(0)), &bytes).unwrap();
    assert!(matches!(read(folder.path(), shard(0), &log(&stage)), Err(CheckpointError::Format(_))));
}

#[test]
fn a_checkpoint_replaces_the_one_before_and_a_disk_that_refuses_leaves_it() {
    let (stage, folder) = (lived(), tempfile::tempdir().unwrap());
    written(&stage, folder.path());
    stage.put(0, "event");
    assert!(matches!(stage.run(0), ShardStop::Released));
    let newer = written(&stage, folder.path());
    let found = read(folder.path(), shard(0), &log(&stage)).unwrap();
    assert_eq!(found, stage.known(0, usize::MAX).rewound());
    // A folder in the place of the partial file: it cannot be made.
    std::fs::create_dir(path_of(folder.path(), shard(0)).with_extension("partial")).unwrap();
    let refused = write(folder.path(), shard(0), &stage.known(0, usize::MAX));
    assert!(matches!(refused, Err(CheckpointError::File { .. })));
    assert_eq!(std::fs::read(path_of(folder.path(), shard(0))).unwrap(), newer);
}
