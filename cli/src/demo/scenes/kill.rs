//! The scene in which the worker is killed in the middle of a withdrawal, at a point that can be chosen.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use custos_accounts::WITHDRAWAL;
use custos_domain::Amount;
use custos_saga::Shape as _;
use serde_json::{Value, json};

use super::{Client, MOST, OUTSIDE, Scenes, awaits_approval, text};
use crate::demo::worker::{Worker, tell};
use crate::home::OFFICERS;
use crate::{audit, say};

/// How long a question to a worker may take that may be standing still already.
const ASKED: Duration = Duration::from_secs(5);
/// Points in the signer; the others are the withdrawal's steps.
const IN_THE_SIGNER: [&str; 2] = ["before-sign", "guard-recorded"];
/// Steps that only a withdrawal comes to that officers decide.
const OF_OFFICERS: [&str; 2] = ["approve", "screen-again"];
/// A withdrawal that stands here comes to its officers yet.
const BEFORE_OFFICERS: [&str; 3] = ["hold-funds", "screen", "approve"];
/// What stands before the name of a step whose transaction is open.
const OPEN: &str = "open-transaction:";

/// Where the worker is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillPoint(String);

impl KillPoint {
    /// Every point that there is.
    pub fn all() -> Vec<String> {
        let steps = || (0..WITHDRAWAL.len()).filter_map(|index| WITHDRAWAL.row(index)).map(|row| row.name);
        let signer = IN_THE_SIGNER.iter().map(ToString::to_string);
        signer.chain(steps().map(ToOwned::to_owned)).chain(steps().map(|step| format!("{OPEN}{step}"))).collect()
    }

    /// What it means, in words.
    fn about(&self) -> String {
        match self.0.as_str() {
            "before-sign" => "the order to sign was read, nothing is recorded or signed".to_owned(),
            "guard-recorded" => "the guard has recorded the signature, nobody has been told of it".to_owned(),
            point => match point.strip_prefix(OPEN) {
                Some(step) => format!("the transaction of the log that moves the step `{step}` is open"),
                None => format!("the step `{point}` was just committed"),
            },
        }
    }

    fn needs_officers(&self) -> bool {
        OF_OFFICERS.contains(&self.0.strip_prefix(OPEN).unwrap_or(&self.0))
    }

    fn comes_after_approval(&self) -> bool {
        self.0.ends_with("screen-again")
    }
}

impl fmt::Display for KillPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KillPoint {
    type Err = anyhow::Error;

    fn from_str(point: &str) -> anyhow::Result<Self> {
        let known = Self::all();
        if known.iter().any(|known| known == point) {
            return Ok(Self(point.to_owned()));
        }
        let lines: String = known.iter().map(|known| format!("\n  {:<32}{}", known, Self(known.clone()).about())).collect();
        Err(anyhow!("there is no such point; the points are{lines}"))
    }
}

impl Scenes {
    pub(super) async fn killed(&mut self, alice: &Client, point: &KillPoint) -> anyhow::Result<()> {
        let officers = point.needs_officers();
        let amount = if officers { "6" } else { "2" };
        self.worker.take().context("no worker")?.stop().await?;
        let worker = Worker::start(&self.home.config, Some(&point.to_string())).await?;
        let outside = self.town.ether_of(&OUTSIDE).await?;
        say(&format!("before: {}", self.balance_of(alice, "ETH").await?));
        let wish = self.wish();
        let body = json!({ "asset": "ETH", "amount": amount, "to": OUTSIDE.to_string(), "fee_max": "0.01" });
        let path = format!("/accounts/{}/withdrawals", alice.id);
        say(&format!("{} asks for {amount} ETH to {OUTSIDE}", alice.name));
        // The answer may never come: the worker may stand still before it is given.
        let asked = tokio::time::timeout(ASKED, self.bank.post(&path, &wish, &body)).await;
        let receipt = asked.ok().and_then(Result::ok).map(|answer| answer.body);
        if let Some(id) = receipt.as_ref().map(|receipt| text(receipt, "/id")).filter(|_| point.comes_after_approval()) {
            self.bank.until(&format!("/operations/{id}"), MOST, awaits_approval).await?;
            // The last answer may never come either.
            drop(tokio::time::timeout(ASKED, self.approved_by_all(id)).await);
        }
        self.kill_at(worker, point, receipt.as_ref()).await?;
        // The bank repeats its request under the same key, as it must when it does not know.
        let operation = self.bank.accepted(&path, &wish, &body).await?;
        if officers {
            let decided =
                |operation: &Value| awaits_approval(operation) || operation.get("done") == Some(&Value::Bool(true));
            let path = format!("/operations/{operation}");
            let beyond = |value: &Value| decided(value) || !BEFORE_OFFICERS.contains(&text(value, "/metadata/step"));
            if awaits_approval(&self.bank.until(&path, MOST, beyond).await?) {
                self.approved_by_all(&operation).await?;
            }
        }
        self.settled(&operation).await?;
        say(&format!("after:  {}", self.balance_of(alice, "ETH").await?));
        let paid = self.town.ether_of(&OUTSIDE).await?.minus(outside)?;
        if paid != Amount::parse(amount, 18)? {
            bail!("exactly {amount} ETH should have been paid, not {}", paid.to_decimal(18));
        }
        say(&format!("paid exactly once: the destination has {amount} ETH more"));
        Ok(())
    }

    /// Kills the worker at the point, proves what it left, and starts another.
    async fn kill_at(&mut self, mut worker: Worker, point: &KillPoint, receipt: Option<&Value>) -> anyhow::Result<()> {
        if !worker.wait_paused(MOST).await? {
            bail!("the worker never came to `{point}`");
        }
        let last = self.last_step(receipt).await;
        let id = worker.id();
        say(&format!("worker {id} stands at `{point}`: {}", point.about()));
        let status = worker.kill().await?;
        say(&format!("SIGKILL; its wait status: {}; the last committed step that was read: {last}", tell(status)));
        say("nobody holds the log now; what the dead worker left is audited:");
        self.audit_now().await?;
        let worker = Worker::start(&self.home.config, None).await?;
        say(&format!("worker {} takes every shard over and goes on", worker.id()));
        self.worker = Some(worker);
        Ok(())
    }

    async fn approved_by_all(&self, withdrawal: &str) -> anyhow::Result<()> {
        for officer in OFFICERS.iter().take(2) {
            self.approve(withdrawal, officer).await?;
            say(&format!("  {officer} approves"));
        }
        Ok(())
    }

    async fn last_step(&self, receipt: Option<&Value>) -> String {
        let none = || "none, since nothing was answered".to_owned();
        let Some(id) = receipt.map(|receipt| text(receipt, "/id").to_owned()) else { return none() };
        let read = tokio::time::timeout(Duration::from_secs(3), self.bank.get(&format!("/operations/{id}"))).await;
        let step =
            |operation: &Value| format!("{} ({})", text(operation, "/metadata/step"), text(operation, "/metadata/phase"));
        read.ok().and_then(Result::ok).as_ref().map_or_else(none, step)
    }

    /// Between the kill and the restart nobody holds the log: what the dead worker left is proven now.
    async fn audit_now(&self) -> anyhow::Result<()> {
        let config = self.config.clone();
        let (lines, proven) = tokio::task::spawn_blocking(move || audit::audit(&config, Vec::new(), false)).await??;
        lines.iter().for_each(|line| say(&format!("  {line}")));
        if proven { Ok(()) } else { bail!("what the killed worker left is not proven") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_step_of_the_withdrawal_or_in_the_signer_and_an_unknown_one_is_told_all() {
        for point in ["guard-recorded", "before-sign", "pay", "open-transaction:settle"] {
            assert_eq!(point.parse::<KillPoint>().unwrap().to_string(), point);
        }
        let told = "paid".parse::<KillPoint>().unwrap_err().to_string();
        assert!(KillPoint::all().iter().all(|point| told.contains(point)), "{told}");
    }
}
