//! Processor time and memory of processes, as Linux tells them in `/proc`.

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

/// Milliseconds that the calling thread has spent on processors.
pub fn own_thread_ms() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0) / 1_000_000
}

/// Bytes of this process in memory.
pub fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(PAGE)
}
