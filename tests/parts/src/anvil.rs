//! One Ethereum development node.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::PartError;
use crate::place::{accepts, fetched, free_port};

const START: Duration = Duration::from_secs(20);

/// A running node; ended when dropped.
pub struct Anvil {
    port: u16,
    child: Child,
}

/// Starts a node with these arguments besides host and port, and waits until it serves.
///
/// # Errors
/// [`PartError`] if the node is neither named by `CUSTOS_TEST_ANVIL`, nor fetched, nor on the path; or if it does not start.
pub fn start_anvil(arguments: &[&str]) -> Result<Anvil, PartError> {
    let program = fetched("CUSTOS_TEST_ANVIL", "npm/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")
        .unwrap_or_else(|| PathBuf::from("anvil"));
    let port = free_port()?;
    let child = Command::new(&program)
        .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--silent"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => PartError::Missing("the Ethereum node is not on this machine"),
            _ => PartError::Program { program: "anvil", source },
        })?;
    let anvil = Anvil { port, child };
    if !accepts(port, START) {
        return Err(PartError::NotReady { program: "anvil", within: START, said: String::new() });
    }
    eprintln!("anvil: process {} at 127.0.0.1:{port}", anvil.child.id());
    Ok(anvil)
}

impl Anvil {
    /// The address of its JSON-RPC over HTTP.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The address of its JSON-RPC over WebSocket.
    #[must_use]
    pub fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            eprintln!("anvil: process {} was not ended: {error}", self.child.id());
        }
    }
}
