//! The `custos` command: the demonstration, the parts as processes, and what operators, officers and auditors do.
//!
//! A library, so that what it reads can be tested from outside; the program is `main.rs`.

mod activate;
mod approve;
mod audit;
mod books;
mod check;
pub mod config;
mod demo;
mod devnode;
mod faucet;
mod home;
mod interrupt;
mod parts;
mod policy;
mod provision;
mod saga;
mod secrets;
mod serve;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use custos_runtime::telemetry;

use crate::config::Config;
use crate::parts::Part;

#[derive(Parser)]
#[command(name = "custos", version, about = "The custody core that a bank runs itself.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows everything on this machine: deposits, withdrawals, a refusal, a kill, a reorganisation, and books that match.
    Demo(demo::DemoArgs),
    /// Pays worthless money to an account of a demonstration, on its development node.
    Faucet(faucet::FaucetArgs),
    /// Makes a fresh installation in a folder: keys, keystore, officers, policy, configuration.
    Init(InitArgs),
    /// Runs parts: accounts, treasury, chain, wallet, compliance, blockchain, gateway, projector, or all.
    Serve(ServeArgs),
    /// Creates or checks topics, writes first manifests, publishes the policy. Safe to repeat.
    Topics(ConfigArgs),
    /// Checks a configuration and the files that it names; prints every problem at once.
    Check(ConfigArgs),
    /// Says where a saga, an account or a chain stands, and why, asking the shard itself.
    Saga(saga::SagaArgs),
    /// Shows what awaits approval, or decides it with an officer's key.
    Approve(approve::ApproveArgs),
    /// Compares the books with the chains; exits with 1 on a difference.
    Books(ConfigArgs),
    /// Walks the event log: sequences, hash chain, state against a trusted head; exits with 1 on a finding.
    Audit(audit::AuditArgs),
    /// Orders every shard to run the next logic, once every process knows it. There is no way back.
    Activate(activate::ActivateArgs),
    /// Signs a policy written in TOML.
    SignPolicy(SignArgs),
    /// Folds the event log into the read model anew.
    Rebuild(ConfigArgs),
}

/// Which configuration.
#[derive(Args, Clone)]
pub struct ConfigArgs {
    /// The configuration file.
    #[arg(long, env = "CUSTOS_CONFIG", default_value = "custos.toml")]
    pub config: PathBuf,
}

#[derive(Args)]
struct ServeArgs {
    /// The parts.
    #[arg(required = true)]
    parts: Vec<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Stand still at a named point, for fault injection.
    #[arg(long, hide = true)]
    pause_at: Option<String>,
    /// End when standard input does: whoever started this process is gone.
    #[arg(long, hide = true)]
    supervised: bool,
}

#[derive(Args)]
struct InitArgs {
    /// The folder, which must not hold an installation yet.
    folder: PathBuf,
    #[command(flatten)]
    plan: home::PlanArgs,
}

#[derive(Args)]
struct SignArgs {
    /// The policy in TOML.
    policy: PathBuf,
    /// The policy root's key.
    #[arg(long)]
    key: PathBuf,
    /// Where the signed policy goes.
    #[arg(long)]
    out: PathBuf,
}

/// Does what the command line says: how the program ends.
pub async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place where a command's failure is told to whoever ran it")]
fn report(error: &anyhow::Error) {
    eprintln!("custos: {error:#}");
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Faucet(args) => faucet::run(args).await,
        Command::Init(args) => home::init(&args.folder, &args.plan),
        Command::Serve(args) => serve(args).await,
        Command::Topics(args) => topics(&args).await,
        Command::Check(args) => check::run(&args),
        Command::Saga(args) => saga::run(args).await,
        Command::Approve(args) => approve::run(args).await,
        Command::Books(args) => books::run(&args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Activate(args) => activate::run(args).await,
        Command::SignPolicy(args) => {
            let policy = policy::sign_file(&args.policy, &secrets::read_signing_key(&args.key)?, &args.out)?;
            say(&format!("policy {} is signed: {}", policy.version, args.out.display()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Rebuild(args) => {
            let config = Config::load(&args.config)?;
            stage::read_model(&config).await?.clear().await?;
            say(
                "the read model is empty and its rules are as they were; a projector folds the log into it from the beginning",
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let parts = if args.parts.iter().any(|part| part == "all") {
        Part::ALL.to_vec()
    } else {
        args.parts.iter().map(|part| part.parse()).collect::<anyhow::Result<Vec<Part>>>()?
    };
    if let Some(point) = &args.pause_at {
        interrupt::arm(point)?;
    }
    if args.supervised {
        interrupt::end_with_input();
    }
    let config = Config::load(&args.config.config)?;
    let _telemetry =
        telemetry::start("custos", &config.telemetry.filter, config.telemetry.format, config.telemetry.otlp.as_deref())?;
    serve::serve(config, &parts).await?;
    Ok(ExitCode::SUCCESS)
}

async fn topics(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    let report = tokio::task::spawn_blocking(move || provision::run(&config)).await??;
    report.done.iter().for_each(|line| say(line));
    report.differences.iter().for_each(|line| say(&format!("to be mended by hand: {line}")));
    Ok(if report.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says a line to whoever ran the command.
#[expect(clippy::print_stdout, reason = "the one place where commands speak to a person")]
pub fn say(line: &str) {
    println!("{line}");
}
