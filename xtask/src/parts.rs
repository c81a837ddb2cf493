//! The servers that tests run against: brought to the machine beside the compiler, taken down at the end.
//!
//! Tests that need a broker, a database of their own or a node start it themselves (`tests/parts`). Here is only what they
//! share: images, programs, and one PostgreSQL server for crates that take its address from the environment.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::root;

const UP: &str = "tests/containers/up.sh";
const DOWN: &str = "tests/containers/down.sh";
const PINS: &str = include_str!("../../tests/containers/pins.env");
/// The label by which `down.sh` finds a container.
const LABEL: &str = "org.testcontainers.managed-by=testcontainers";
const POSTGRES_READY: &str = "database system is ready to accept connections";
const POSTGRES_START: Duration = Duration::from_secs(60);
/// Where tests look for a PostgreSQL server.
pub const POSTGRES: &str = "CUSTOS_TEST_POSTGRES";

/// What is there, what is not.
#[derive(Default)]
pub struct Parts {
    /// Variables for tests.
    pub environment: Vec<(String, String)>,
    /// Images, and whether each is the official one.
    pub images: Vec<String>,
    /// Parts that could not be had, each with the command that would get it.
    pub missing: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Brings everything to the machine, on a thread of its own.
pub fn bring() -> JoinHandle<Result<Parts>> {
    thread::spawn(|| {
        let begun = Instant::now();
        let mut parts = Parts::default();
        up("docker", &mut parts)?;
        // Brokers of a test's own are plain processes; without Docker every broker is.
        up("kafka-libs", &mut parts)?;
        up("npm", &mut parts)?;
        parts.took = begun.elapsed();
        Ok(parts)
    })
}

fn up(part: &str, parts: &mut Parts) -> Result<bool> {
    let mut child = Command::new("bash")
        .current_dir(root()?)
        .args([UP, part])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{UP} did not start"))?;
    let errors = child.stderr.take().context("the standard error was piped")?;
    let images = thread::spawn(move || {
        let lines = BufReader::new(errors).lines().map_while(Result::ok).inspect(|line| eprintln!("{line}"));
        lines.filter_map(|line| line.strip_prefix("up: image: ").map(str::to_owned)).collect::<Vec<_>>()
    });
    let output = child.wait_with_output().with_context(|| format!("{UP} was lost"))?;
    let images = images.join().unwrap_or_default();
    if !output.status.success() {
        parts.missing.push(format!("{part}: {UP} {part} as root would get it"));
        return Ok(false);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    parts.environment = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    parts.images = images;
    Ok(true)
}

/// One PostgreSQL server; removed when dropped.
pub struct SharedPostgres {
    container: String,
    /// Its address, with user and password.
    pub url: String,
}

impl SharedPostgres {
    /// Starts a server of the pinned image and waits until it serves.
    ///
    /// # Errors
    /// When Docker does not answer, has no such image, or the server does not come up in time.
    pub fn start() -> Result<Self> {
        let image = PINS.lines().find_map(|line| line.strip_prefix("POSTGRES_IMAGE=")).context("pins.env names an image")?;
        let mut arguments = vec!["run", "--detach", "--pull", "never", "--label", LABEL, "--publish", "127.0.0.1::5432"];
        for setting in ["POSTGRES_USER=custos", "POSTGRES_PASSWORD=custos", "POSTGRES_DB=custos"] {
            arguments.extend(["--env", setting]);
        }
        arguments.push(image);
        let mut server = Self { container: docker(&arguments)?, url: String::new() };
        let published = docker(&["port", &server.container, "5432/tcp"])?;
        let address = published.lines().next().context("a published port has an address")?;
        server.url = format!("postgres://custos:custos@{address}/custos");
        let until = Instant::now() + POSTGRES_START;
        // The first server, which makes the database, speaks on standard output; the real one on standard error.
        while !server.said()?.contains(POSTGRES_READY) {
            if Instant::now() > until {
                bail!("PostgreSQL was not ready within {POSTGRES_START:?}");
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    fn said(&self) -> Result<String> {
        let logs = Command::new("docker").args(["logs", &self.container]).output().context("docker logs")?;
        Ok(String::from_utf8_lossy(&logs.stderr).into_owned())
    }
}

impl Drop for SharedPostgres {
    fn drop(&mut self) {
        if let Err(error) = docker(&["rm", "--force", "--volumes", &self.container]) {
            eprintln!("xtask: the PostgreSQL container was not removed: {error:#}");
        }
    }
}

fn docker(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(arguments).stdin(Stdio::null()).output().context("docker did not start")?;
    if !output.status.success() {
        bail!("docker: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Removes what test runs left behind, and the Docker daemon if we started it.
pub fn take_down() -> Result<()> {
    let status = Command::new("bash").current_dir(root()?).arg(DOWN).stdin(Stdio::null()).status();
    if !status.with_context(|| format!("{DOWN} did not start"))?.success() {
        bail!("{DOWN} failed; containers of tests may still run");
    }
    Ok(())
}
