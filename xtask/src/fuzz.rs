//! `cargo xtask fuzz`: every target under libFuzzer, one after the other, guided by coverage of this workspace's own crates.
//!
//! It runs on stable: the flags that ask for coverage are the compiler's own, no sanitizer is needed to see a panic, a hang or
//! memory without bounds, and `unsafe` is forbidden here. They are added by this very program, which cargo calls in the place of rustc for
//! the crates of the workspace and for no other: dependencies are compiled once, as for the tests. What is found goes to
//! `target/fuzz`; a failure's input belongs into the corpus, with the repair.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{cargo, root};

/// Says that this program stands in the place of rustc.
const WRAPS: &str = "CUSTOS_FUZZ_WRAPS";
/// Coverage of edges by counters, and of comparisons, as libFuzzer wants it. A little optimisation is worth its time.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Copt-level=1",
    "-Ccodegen-units=1",
];
/// No input takes longer, in seconds.
const TIMEOUT: &str = "-timeout=20";
/// No input needs more, in MiB.
const MEMORY: &str = "-rss_limit_mb=2048";

/// What the developer asked for.
#[derive(clap::Args)]
pub struct Wish {
    /// How long each target runs.
    #[arg(long, default_value_t = 3)]
    minutes: u64,
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
}

/// When cargo calls this program in the place of rustc: compiles, and ends so.
pub fn compiles() -> Option<ExitCode> {
    std::env::var_os(WRAPS)?;
    let mut arguments = std::env::args_os().skip(1);
    let rustc = arguments.next()?;
    let rest: Vec<_> = arguments.collect();
    let follows = |name: &str, what: &dyn Fn(&str) -> bool| {
        rest.windows(2).any(|pair| {
            pair.first().is_some_and(|first| first == name) && pair.get(1).is_some_and(|next| what(&next.to_string_lossy()))
        })
    };
    // Build scripts and macros run at compile time, without libFuzzer.
    let helper = follows("--crate-name", &|name| name.starts_with("build_script"))
        || follows("--crate-type", &|kind| kind == "proc-macro");
    let mut command = Command::new(rustc);
    command.args(&rest);
    // What is not compiled, such as the questions that cargo asks first, has no name.
    if follows("--crate-name", &|name| name != "___") && !helper {
        command.args(COVERAGE);
    }
    let code = command.status().ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    Some(ExitCode::from(code.unwrap_or(1)))
}

/// Runs the targets. `Ok(false)` when one fails.
///
/// # Errors
/// They could not be built.
pub fn fuzz(wish: &Wish) -> Result<bool> {
    let program = build()?;
    let corpora = root()?.join("tests/fuzz/corpus");
    let mut targets: Vec<String> = std::fs::read_dir(&corpora)
        .context("the corpora")?
        .filter_map(|folder| folder.ok()?.file_name().into_string().ok())
        .filter(|name| wish.target.as_ref().is_none_or(|wanted| wanted == name))
        .collect();
    targets.sort();
    if targets.is_empty() {
        bail!("no such target");
    }
    let mut failed = Vec::new();
    for target in &targets {
        println!("==> {target}, {} minutes", wish.minutes);
        if !run(&program, &corpora, target, wish.minutes)? {
            failed.push(target.as_str());
        }
    }
    println!("fuzz: {} targets, {} failed {}", targets.len(), failed.len(), failed.join(" "));
    Ok(failed.is_empty())
}

fn build() -> Result<std::path::PathBuf> {
    let itself = std::env::current_exe().context("this program's path")?;
    let mut command = cargo(&["build", "--workspace", "--bin", "guided", "--features", "custos-fuzz/guided"])?;
    command.env("RUSTC_WORKSPACE_WRAPPER", itself).env(WRAPS, "1");
    if !command.status().context("cargo build did not start")?.success() {
        bail!("the targets do not compile");
    }
    Ok(root()?.join("target/debug/guided"))
}

fn run(program: &Path, corpora: &Path, target: &str, minutes: u64) -> Result<bool> {
    let found = root()?.join("target/fuzz").join(target);
    std::fs::create_dir_all(&found).context("a folder for what is found")?;
    let mut command = Command::new(program);
    // New inputs go to the first folder; those of the second are read alone.
    command.arg(&found).arg(corpora.join(target)).args([TIMEOUT, MEMORY, "-max_len=8192", "-print_final_stats=1"]);
    command.arg(format!("-max_total_time={}", minutes.saturating_mul(60)));
    command.arg(format!("-artifact_prefix={}-", found.join("failure").display()));
    command.env("CUSTOS_FUZZ_TARGET", target).stdin(Stdio::null());
    Ok(command.status().with_context(|| format!("{target} did not start"))?.success())
}
