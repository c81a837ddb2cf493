//! `custos approve`: shows what awaits officers, and signs a decision with an officer's key.
//!
//! What is signed is read from the canonical bytes themselves, shown, and hashed here; what the gateway says about them is not trusted.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use custos_domain::{Intent, IntentDigest};
use custos_messages::accounts::Verdict;
use custos_policy::sign_decision;
use serde_json::{Value, json};

use crate::demo::Bank;
use crate::say;
use crate::secrets::read_signing_key;

#[derive(Args)]
pub struct ApproveArgs {
    /// The withdrawal; without it, everything that awaits approval is listed.
    operation: Option<String>,
    /// The gateway.
    #[arg(long, env = "CUSTOS_GATEWAY", default_value = "http://127.0.0.1:7080")]
    gateway: String,
    /// The API key.
    #[arg(long, env = "CUSTOS_API_KEY", hide_env_values = true)]
    api_key: String,
    /// The officer's name in the policy.
    #[arg(long, requires = "key")]
    officer: Option<String>,
    /// The officer's key file; without it, the intent is shown and nothing is signed.
    #[arg(long, requires = "officer")]
    key: Option<PathBuf>,
    /// Say no instead of yes.
    #[arg(long)]
    reject: bool,
}

/// Shows or decides.
///
/// # Errors
/// The gateway is not reachable or refuses, or the intent is not what it claims.
pub async fn run(args: ApproveArgs) -> anyhow::Result<ExitCode> {
    let bank = Bank::new(&args.gateway, &args.api_key)?;
    let Some(operation) = &args.operation else { return list(&bank).await };
    let (intent, digest) = fetch(&bank, operation).await?;
    for line in describe(&intent, &digest) {
        say(&line);
    }
    let (Some(officer), Some(key)) = (&args.officer, &args.key) else {
        say("nothing is signed: name --officer and --key to decide");
        return Ok(ExitCode::SUCCESS);
    };
    let verdict = if args.reject { Verdict::Reject } else { Verdict::Approve };
    decide(&bank, operation, (officer, &read_signing_key(key)?), verdict).await?;
    say(&format!("{officer} {} {operation}", if args.reject { "rejected" } else { "approved" }));
    Ok(ExitCode::SUCCESS)
}

async fn list(bank: &Bank) -> anyhow::Result<ExitCode> {
    let page = bank.get("/approvals").await?;
    let items = page.get("items").and_then(Value::as_array).context("an answer without items")?;
    if items.is_empty() {
        say("nothing awaits approval");
    }
    for item in items {
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
        say(&format!("{}  since {}", text("operation"), text("started_at")));
    }
    Ok(ExitCode::SUCCESS)
}

/// The intent that an operation asks officers about, with the digest of the bytes that it was read from.
///
/// # Errors
/// The gateway is not reachable, or the bytes are not an intent.
pub async fn fetch(bank: &Bank, operation: &str) -> anyhow::Result<(Intent, IntentDigest)> {
    let approval = bank.get(&format!("/approvals/{operation}")).await?;
    let bytes = hex::decode(approval.get("intent").and_then(Value::as_str).context("an approval without an intent")?)?;
    let intent = Intent::from_canonical(&bytes)?;
    let digest = intent.digest();
    Ok((intent, digest))
}

fn describe(intent: &Intent, digest: &IntentDigest) -> Vec<String> {
    vec![
        format!("intent  {}", intent.id),
        format!("pays    {} base units of {} on {}", intent.amount, intent.asset, intent.chain),
        format!("to      {}", intent.to),
        format!("from    {}", intent.from),
        format!("fee     at most {} base units of {}", intent.fee.max, intent.fee.asset),
        format!("expires {} ms since 1970, under policy {}", intent.expires.0, intent.policy_version),
        format!("digest  {digest}"),
    ]
}

/// Signs and sends an officer's decision.
///
/// # Errors
/// The gateway is not reachable or refuses.
pub async fn decide(
    bank: &Bank,
    operation: &str,
    (officer, key): (&str, &ed25519_dalek::SigningKey),
    verdict: Verdict,
) -> anyhow::Result<()> {
    let (_, digest) = fetch(bank, operation).await?;
    let body = json!({
        "officer": officer,
        "verdict": match verdict { Verdict::Approve => "approve", Verdict::Reject => "reject" },
        "digest": digest.to_string(),
        "signature": hex::encode(sign_decision(key, verdict, &digest)),
    });
    let answer = bank.post(&format!("/approvals/{operation}"), &format!("{officer}-{operation}"), &body).await?;
    if answer.status.is_success() { Ok(()) } else { bail!("the decision is refused: {} {}", answer.status, answer.body) }
}
