//! The program `custos`.

use std::process::ExitCode;

/// A shard allocates and frees many small records on one thread and hands them to another; the system's allocator spent a third of
/// the processor on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    custos::main().await
}
