//! The checkpoint of the signing guard: what a signer has seen, which must never go back unnoticed.

use custos_wallet::{Checkpoint, Mark};

use super::Target;

pub const TARGET: Target = Target { name: "mark", seeds, run, words: &["custos-guard-checkpoint-1 "], mutations: 600 };

fn seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mark");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mark = Mark { count: 5, running: custos_domain::Digest([3; 32]), policy_version: 2 };
    let mut checkpoint = Checkpoint::open(&path).expect("there is none yet");
    runtime.block_on(checkpoint.advance(mark)).expect("it can be written");
    vec![std::fs::read(path).expect("it was written")]
}

fn run(input: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mark");
    std::fs::write(&path, input).expect("the file can be written");
    tried(&path, input);
    // Whoever can write the file can make its digest right.
    let text = String::from_utf8_lossy(input);
    let body = text.trim_end().rsplit_once(' ').map_or("", |(body, _)| body);
    let right = format!("{body} {}\n", custos_domain::Digest::of(body.as_bytes()));
    std::fs::write(&path, &right).expect("the file can be written");
    tried(&path, right.as_bytes());
}

fn tried(path: &std::path::Path, bytes: &[u8]) {
    match Checkpoint::open(path) {
        Ok(read) => {
            let mark = read.mark();
            // Hexadecimal may come in either case.
            let text = String::from_utf8(bytes.to_vec()).expect("what is read is text").to_lowercase();
            for figure in [mark.count.to_string(), mark.running.to_string(), mark.policy_version.to_string()] {
                assert!(text.contains(&figure), "{text} says {figure}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert_eq!(std::fs::read(path).expect("the file is still there"), bytes, "reading changes nothing");
}
