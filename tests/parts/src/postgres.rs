//! One PostgreSQL server: one that the environment names, else a container.

use std::time::{Duration, Instant};

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::{GenericImage, ImageExt};

use crate::PartError;
use crate::docker::{self, Running};
use crate::place::{free_port, pin};

const READY: &str = "database system is ready to accept connections";

/// A running server with the database, user and password `custos`; removed when dropped, unless the environment named it.
pub struct Postgres {
    url: String,
    kind: String,
    _running: Option<Running>,
}

/// Starts a server and waits until it serves.
///
/// # Errors
/// [`PartError`] if there is neither an address in `CUSTOS_TEST_POSTGRES` nor a Docker daemon with the image; or if it does not start.
pub fn start_postgres() -> Result<Postgres, PartError> {
    let begun = Instant::now();
    if let Ok(url) = std::env::var("CUSTOS_TEST_POSTGRES") {
        return Ok(Postgres { url, kind: "external".to_owned(), _running: None });
    }
    let tag = pin("POSTGRES_IMAGE");
    let kind = docker::image(tag).ok_or(PartError::Missing("the PostgreSQL image is not on this machine"))?;
    let port = free_port()?;
    let (name, version) = tag.split_once(':').unwrap_or((tag, "latest"));
    let request = GenericImage::new(name, version)
        // The first server, which makes the database, speaks on standard output; the real one on standard error.
        .with_wait_for(WaitFor::message_on_stdout(READY))
        .with_wait_for(WaitFor::message_on_stderr(READY))
        .with_mapped_port(port, 5432.tcp())
        .with_startup_timeout(Duration::from_secs(60))
        .with_env_var("POSTGRES_USER", "custos")
        .with_env_var("POSTGRES_PASSWORD", "custos")
        .with_env_var("POSTGRES_DB", "custos");
    let running = Running::start(tag, request)?;
    let url = format!("postgres://custos:custos@127.0.0.1:{port}/custos");
    eprintln!("postgres: container {kind} at 127.0.0.1:{port} after {:?}", begun.elapsed());
    Ok(Postgres { url, kind: format!("container {kind}"), _running: Some(running) })
}

impl Postgres {
    /// `postgres://user:password@host:port/database`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What runs: which image, official or not.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }
}
