//! `cargo xtask test`: parts, one build, then ring by ring.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::parts::{self, POSTGRES, Parts, SharedPostgres};
use crate::plan::{self, Ring};
use crate::summary::{Report, RingResult};
use crate::tally::Counter;
use crate::{cargo, must};

/// What the developer asked for.
#[derive(clap::Args, Default)]
pub struct Wish {
    /// Many more kills and cases; takes an hour.
    #[arg(long)]
    long: bool,
    /// Leave Docker and its containers running at the end, so that the next run starts sooner.
    #[arg(long)]
    keep: bool,
}

/// Runs every ring. `Ok(false)` when a test failed or, where `CI=true`, when a part was missing.
///
/// # Errors
/// When the tests could not be run: they do not compile, or the tools are not there.
pub fn test(wish: &Wish) -> Result<bool> {
    let report = run(wish);
    let clean = if wish.keep { Ok(()) } else { parts::take_down() };
    let report = report?;
    if let Err(error) = clean {
        eprintln!("xtask: {error:#}");
    }
    report.print();
    Ok(report.good(strict()))
}

fn run(wish: &Wish) -> Result<Report> {
    let workspace = plan::workspace()?;
    let bringing = parts::bring();
    let build = build();
    // Wait for the parts in any case: what is half built would be in the way of the next run.
    let mut parts = bringing.join().map_err(|_| anyhow!("the thread that brings the parts has ended"))??;
    let build = build?;
    for missing in &parts.missing {
        eprintln!("xtask: missing: {missing}");
    }
    // As a single package the product would be compiled with other features, and so a second time.
    let product = workspace.target.join("debug/custos");
    parts.environment.push(("CUSTOS_TEST_BINARY".to_owned(), product.display().to_string()));
    let shared = shared_postgres(&parts);
    let rings = plan::rings(&workspace.packages);
    let mut results = Vec::new();
    for ring in Ring::ALL {
        if let Some(chosen) = rings.get(&ring) {
            let postgres = shared.as_ref().filter(|_| takes_shared_postgres(ring));
            results.push(run_ring(ring, chosen, wish.long, &parts, postgres)?);
        }
    }
    Ok(Report { parts, build, rings: results })
}

/// Everything is compiled once, with the features of the whole workspace; the rings find it done.
fn build() -> Result<Duration> {
    let begun = Instant::now();
    must("cargo build --workspace --bins --tests", cargo(&["build", "--workspace", "--bins", "--tests"])?)?;
    Ok(begun.elapsed())
}

fn shared_postgres(parts: &Parts) -> Option<SharedPostgres> {
    if std::env::var_os(POSTGRES).is_some() || parts.images.is_empty() {
        return None;
    }
    match SharedPostgres::start() {
        Ok(server) => Some(server),
        Err(error) => {
            eprintln!("xtask: no PostgreSQL server: {error:#}");
            None
        }
    }
}

/// The other rings start their own servers, and kill them.
const fn takes_shared_postgres(ring: Ring) -> bool {
    matches!(ring, Ring::Laws | Ring::Services)
}

fn run_ring(
    ring: Ring,
    chosen: &[String],
    long: bool,
    parts: &Parts,
    postgres: Option<&SharedPostgres>,
) -> Result<RingResult> {
    println!("==> ring {}: cargo test --workspace {}", ring.name(), chosen.join(" "));
    let begun = Instant::now();
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"])?;
    command.args(chosen).args(["--", "--show-output"]).stdin(Stdio::null()).stdout(Stdio::piped());
    command.envs(parts.environment.iter().map(|(name, value)| (name, value)));
    if long {
        command.env("CUSTOS_TEST_LONG", "1");
    }
    if let Some(server) = postgres {
        command.env(POSTGRES, &server.url);
    }
    let mut child = command.spawn().context("cargo test did not start")?;
    let output = child.stdout.take().context("the standard output was piped")?;
    let mut counter = Counter::default();
    for line in BufReader::new(output).split(b'\n') {
        let bytes = line.context("the output of cargo test")?;
        let line = String::from_utf8_lossy(&bytes);
        if counter.line(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().context("cargo test was lost")?;
    Ok(RingResult { ring, tally: counter.end(status.success()), took: begun.elapsed(), budget: ring.budget(long) })
}

/// Whether a missing part is a failure.
fn strict() -> bool {
    std::env::var("CI").as_deref() == Ok("true")
}
