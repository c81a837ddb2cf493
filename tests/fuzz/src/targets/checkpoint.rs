//! A checkpoint's file, as it lies on the disk of a host: damaged, or written by somebody who can make its hash right.

use std::path::PathBuf;

use custos_journal::Entry;
use custos_messages::{Headers, Record};
use custos_runtime::checkpoint;
use custos_runtime::shard::Folded;
use tempfile::TempDir;

use super::Target;
use super::state::{SHARD, log, manifest};

pub const TARGET: Target = Target { name: "checkpoint", seeds, run, words: &["custos checkpoint\n"], mutations: 800 };

const HASH_BYTES: usize = 32;

fn seeds() -> Vec<Vec<u8>> {
    let (folder, path) = place();
    let mut folded = Folded::beginning_at(0);
    let header = custos_messages::Record { key: vec![0], value: Some(vec![8, 3, 16, 1]), headers: Headers::new() };
    let record =
        |key: &[u8], value: &[u8]| Record { key: key.to_vec(), value: Some(value.to_vec()), headers: Headers::new() };
    let records = [header, record(&[0x02, 1], &[8, 7]), record(&[0x20, 1], b"value"), manifest().record()];
    for (offset, record) in (0..).zip(records) {
        folded.see(Entry { partition: 0, offset, at: None, record });
    }
    checkpoint::write(folder.path(), SHARD, &folded).expect("the checkpoint can be written");
    vec![std::fs::read(path).expect("the checkpoint was written")]
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = checkpoint::path_of(folder.path(), SHARD);
    (folder, path)
}

fn run(input: &[u8]) {
    tried(input);
    // Whoever can write the file can make its hash right.
    let body = input.len().saturating_sub(HASH_BYTES);
    let body = input.get(..body).unwrap_or_default();
    tried(&[body, blake3::hash(body).as_bytes()].concat());
}

fn tried(bytes: &[u8]) {
    let (folder, path) = place();
    std::fs::write(&path, bytes).expect("the file can be written");
    match checkpoint::read(folder.path(), SHARD, &log()) {
        Ok(read) => {
            let folded = read.expect("there is a file");
            let kept = folded.manifest().map(|manifest| (manifest.offset, manifest.value.clone()));
            let (elsewhere, path) = place();
            checkpoint::write(elsewhere.path(), SHARD, &folded).expect("the checkpoint can be written");
            assert!(path.exists(), "what was read has a manifest");
            let again = checkpoint::read(elsewhere.path(), SHARD, &log()).expect("it was read").expect("it was written");
            assert_eq!(again.manifest().map(|manifest| (manifest.offset, manifest.value.clone())), kept);
            assert_eq!(again.committed(), folded.committed());
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(std::fs::read(&path).expect("the file is still there"), bytes, "what is refused is left as it is");
        }
    }
}
