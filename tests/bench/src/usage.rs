//! Processor time and memory of processes, as Linux tells them in `/proc`.

use std::collections::BTreeSet;
use std::fs;

/// Milliseconds in a tick of `/proc/*/stat`: the kernel's interface fixes 100 ticks a second on every platform that it runs on.
const TICK_MS: u64 = 10;
const PAGE: u64 = 4_096;

/// Milliseconds that a process spent on processors, in user and kernel mode; 0 for one that is gone.
pub fn processor_ms(pid: u32) -> u64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0 };
    // The name may hold anything, also spaces; what follows its bracket does not.
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0 };
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks.saturating_mul(TICK_MS)
}

/// Bytes of this process in memory.
pub fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(PAGE)
}

/// The Kafka brokers that run on this machine now.
pub fn brokers() -> BTreeSet<u32> {
    let Ok(folders) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let pids = folders.flatten().filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"kafka.Kafka")
    })
    .collect()
}
