//! `cargo xtask test`: parts, one build, then ring by ring.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::parts::{self, POSTGRES, Parts, SharedPostgres};
use crate::plan::{Built, Program, Ring};
use crate::summary::{Report, RingResult};
use crate::tally::{Counter, Tally};
use crate::{cargo, root};

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
    let bringing = parts::bring();
    let build = build();
    // Wait for the parts in any case: what is half built would be in the way of the next run.
    let mut parts = bringing.join().map_err(|_| anyhow!("the thread that brings the parts has ended"))??;
    let (built, build) = build?;
    for missing in &parts.missing {
        eprintln!("xtask: missing: {missing}");
    }
    if let Some(product) = &built.product {
        // Tests that run the product take this one; cargo would build it with other features, and so a second time.
        parts.environment.push(("CUSTOS_TEST_BINARY".to_owned(), product.display().to_string()));
    }
    let shared = shared_postgres(&parts);
    let mut results = Vec::new();
    for ring in Ring::ALL {
        let postgres = shared.as_ref().filter(|_| takes_shared_postgres(ring));
        let programs = built.tests.iter().filter(|program| program.ring == ring);
        let environment = environment(wish.long, &parts, postgres);
        let begun = Instant::now();
        let (tally, failures) = run_ring(ring, programs, &environment)?;
        results.push(RingResult { ring, tally, failures, took: begun.elapsed(), budget: ring.budget(wish.long) });
    }
    Ok(Report { parts, build, rings: results })
}

/// Everything is compiled once, with the features of the whole workspace.
pub fn build() -> Result<(Built, Duration)> {
    println!("==> cargo build --workspace --bins --tests");
    let begun = Instant::now();
    let mut command = cargo(&["build", "--workspace", "--bins", "--tests", "--message-format", "json-render-diagnostics"])?;
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cargo build did not start")?;
    if !output.status.success() {
        bail!("cargo build: {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok((Built::read(messages.lines(), &root()?)?, begun.elapsed()))
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

/// What a ring's programs find in their environment.
fn environment(long: bool, parts: &Parts, postgres: Option<&SharedPostgres>) -> Vec<(String, String)> {
    let mut environment = parts.environment.clone();
    environment.extend(postgres.map(|server| (POSTGRES.to_owned(), server.url.clone())));
    environment.extend(long.then(|| ("CUSTOS_TEST_LONG".to_owned(), "1".to_owned())));
    environment
}

/// The counts, and what was said of the tests that failed.
fn run_ring<'a>(
    ring: Ring,
    programs: impl Iterator<Item = &'a Program>,
    environment: &[(String, String)],
) -> Result<(Tally, Vec<String>)> {
    println!("\n==> ring {}", ring.name());
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    for program in programs {
        let (counts, said) = run_program(program, environment)?;
        tally = tally.plus(counts);
        failures.extend(said);
    }
    Ok((tally, failures))
}

/// Runs one program to its end and passes on what it says. Gives its counts, and what it said of the tests that failed.
pub fn run_program(program: &Program, environment: &[(String, String)]) -> Result<(Tally, Vec<String>)> {
    println!("--> {}: {}", program.folder.display(), program.name);
    let folder = root()?.join(&program.folder);
    let mut child = Command::new(&program.path)
        .arg("--show-output")
        .current_dir(&folder)
        .env("CARGO_MANIFEST_DIR", &folder)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} did not start", program.path.display()))?;
    let output = child.stdout.take().context("the standard output was piped")?;
    let mut counter = Counter::default();
    for line in BufReader::new(output).split(b'\n') {
        let bytes = line.context("the output of a test program")?;
        let line = String::from_utf8_lossy(&bytes);
        if counter.line(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().context("a test program was lost")?;
    let mut failures = Vec::new();
    if !status.success() {
        let failed = format!("--> FAILED: {}: {}: {status}", program.folder.display(), program.name);
        println!("{failed}\n");
        failures.push(failed);
        failures.extend(counter.failures());
    }
    Ok((counter.end(status.success()), failures))
}

/// Whether a missing part is a failure.
fn strict() -> bool {
    std::env::var("CI").as_deref() == Ok("true")
}
