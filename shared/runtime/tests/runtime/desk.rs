//! What an operator's question meets that is put to a process which hangs, or is not there.

use std::net::TcpListener;
use std::time::Duration;

use custos_runtime::ops::{AskError, ask_owner};

use crate::stage::shard;

const WITHIN: Duration = Duration::from_millis(300);

fn ask(address: &str) -> AskError {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ask_owner(address, shard(0), "", WITHIN)).unwrap_err()
}

/// The system accepts connections for a process that is stopped: only the answer is missing.
#[test]
fn an_owner_that_hangs_is_not_waited_for() {
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hanging.local_addr().unwrap().to_string();
    let error = ask(&address);
    assert!(matches!(error, AskError::Silent { .. }), "{error:?}");
    drop(hanging);
    let error = ask(&address);
    assert!(matches!(error, AskError::Unreachable { .. }), "{error:?}");
}
