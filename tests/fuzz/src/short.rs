//! The run of every `cargo test`: the committed corpus, then mutations of it from a seed.
//!
//! `CUSTOS_FUZZ_SEED=n` draws others; a failure names the seed, and its input is kept under `target/fuzz`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::mutate::{Chance, mutate};
use crate::targets::Target;

/// Whatever an input is, a target is done with it within this time.
const LIMIT: Duration = Duration::from_secs(20);
/// The most memory of the whole test program, all targets beside each other, in KiB.
const MEMORY_KIB_MAX: u64 = 1 << 20;

/// Runs `target` over its corpus and as many mutations as it says.
///
/// # Panics
/// An input fails, takes too long, or too much memory.
pub fn short(target: &Target) {
    let seed = std::env::var("CUSTOS_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{} has an empty corpus: run `cargo xtask bless`", target.name);
    for input in &corpus {
        tried(target, input, "of the corpus");
    }
    let mut chance = Chance::new(seed);
    for number in 0..target.mutations {
        let base = &corpus[chance.below(corpus.len())];
        let input = mutate(&mut chance, base, &corpus, target.words);
        tried(target, &input, &format!("number {number} of seed {seed}"));
    }
    let peak = peak_kib();
    assert!(peak < MEMORY_KIB_MAX, "{} KiB of memory after {}", peak, target.name);
}

/// The seeds that the target makes itself, and the files of its corpus. `CUSTOS_BLESS=1` writes the former there.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    if std::env::var("CUSTOS_BLESS").is_ok_and(|value| value == "1") {
        std::fs::create_dir_all(&folder).expect("the corpus can be written");
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), seed).expect("the corpus can be written");
        }
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map(|files| files.filter_map(|file| Some(file.ok()?.path())).collect())
        .unwrap_or_default();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("the corpus can be read")).collect()
}

fn tried(target: &Target, input: &[u8], which: &str) {
    let (done, waits) = mpsc::channel::<()>();
    let (name, kept) = (target.name, input.to_vec());
    let told = which.to_owned();
    let began = Instant::now();
    let watch = std::thread::spawn(move || {
        if waits.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name}: the input {told} takes longer than {LIMIT:?}: {}", keep(name, &kept).display());
            std::process::abort();
        }
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    drop(done);
    watch.join().expect("the watch ends");
    if let Err(panic) = outcome {
        eprintln!("{name}: the input {which} fails after {:?}: {}", began.elapsed(), keep(name, input).display());
        resume_unwind(panic);
    }
}

fn keep(name: &str, input: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz/failures");
    let path = folder.join(format!("{name}-{}", &blake3::hash(input).to_hex()[..16]));
    // The failure itself is told in any case.
    let _ = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, input));
    path
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
