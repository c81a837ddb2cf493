//! The scenes of the demonstration, in order; each states what it expects and fails loudly when it does not come.

use std::time::Duration;

use anyhow::{Context, bail};
use custos_domain::{Amount, EthAddress};
use custos_gateway::reconcile;
use custos_messages::accounts::Verdict;
use serde_json::{Value, json};

use super::REFUSED;
use super::bank::Bank;
use super::town::Town;
use super::worker::{Worker, tell};
use crate::approve::decide;
use crate::books::sheet;
use crate::config::Config;
use crate::home::{Home, OFFICERS};
use crate::secrets::read_signing_key;
use crate::{audit, say, stage};

/// How long anything may take before the demonstration gives up.
const MOST: Duration = Duration::from_secs(60);
/// How many blocks are rolled back: deeper than the three that made the money final.
const ROLLED_BACK: u64 = 5;
/// An address outside, that clients pay to.
const OUTSIDE: EthAddress = EthAddress([0x0a; 20]);

/// The demonstration as it plays.
pub struct Scenes {
    bank: Bank,
    officers: Bank,
    town: Town,
    home: Home,
    config: Config,
    worker: Option<Worker>,
    wishes: u32,
}

struct Client {
    name: &'static str,
    id: String,
    address: EthAddress,
}

fn title(text: &str) {
    say(&format!("\n== {text}"));
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("?")
}

impl Scenes {
    /// Everything is up; nothing has happened yet.
    ///
    /// # Errors
    /// No client of the gateway can be made.
    pub fn new(town: Town, home: Home, config: Config, worker: Worker) -> anyhow::Result<Self> {
        let url = super::gateway(&config);
        let (bank, officers) = (Bank::new(&url, &home.api_key)?, Bank::new(&url, &home.officer_api_key)?);
        Ok(Self { bank, officers, town, home, config, worker: Some(worker), wishes: 0 })
    }

    /// Plays every scene; whether the books match the chain at the end.
    ///
    /// # Errors
    /// Something does not come out as it should.
    pub async fn play(&mut self, kill_at: &str) -> anyhow::Result<bool> {
        title("Accounts and addresses");
        let alice = self.open("alice").await?;
        let bob = self.open("bob").await?;
        title("The bank funds its hot wallet; clients' ether and tokens arrive");
        self.fund(&alice).await?;
        title("Withdrawals");
        let paid = self.withdraw(&alice, "ETH", "1.5", "0.01", &OUTSIDE).await?;
        self.settled(&paid).await?;
        let tokens = self.withdraw(&alice, "TUSD", "250", "0.01", &OUTSIDE).await?;
        self.settled(&tokens).await?;
        title("A large withdrawal needs two officers");
        let approved = self.approval(&alice).await?;
        title("A transfer between two clients");
        self.transfer(&alice, &bob).await?;
        title("A destination on the screening list: refused and unwound");
        self.refused(&alice).await?;
        title("A fee envelope that the chain never fits: waits, then refused");
        self.narrow_fee(&alice).await?;
        title("The worker is killed in the middle of a withdrawal");
        self.killed(&alice, kill_at).await?;
        title("Blocks are rolled back after a credit");
        self.rolled_back(&bob).await?;
        title("One payment's whole story");
        self.story(&approved).await?;
        title("The balance sheet");
        self.balance().await
    }

    fn wish(&mut self) -> String {
        self.wishes = self.wishes.saturating_add(1);
        format!("demo-{}", self.wishes)
    }

    async fn open(&mut self, name: &'static str) -> anyhow::Result<Client> {
        // An account is named by its key for ever: the key is the idempotency key.
        let id = self.bank.accepted("/accounts", name, &json!({ "key": name })).await?;
        let chain = format!("eip155:{}", self.town.number());
        // The account is known as soon as the log has it; what reads it may be a moment behind.
        let wish = self.wish();
        let operation = self.bank.accepted(&format!("/accounts/{id}/addresses"), &wish, &json!({ "chain": chain })).await?;
        let ended = self.bank.ended(&operation, MOST).await?;
        let address = text(&ended, "/response/address/address").to_owned();
        say(&format!("{name:<6} account {id}, deposit address {address}"));
        Ok(Client { name, id, address: EthAddress::parse_checksummed(&address)? })
    }

    async fn fund(&self, alice: &Client) -> anyhow::Result<()> {
        let hot = self.home.policy.chains.values().next().context("a policy without a chain")?.hot;
        let (ether, token) = (Amount::parse("100", 18)?, Amount::parse("1000000", 18)?);
        self.town.pay_ether(&hot, ether).await?;
        self.town.pay_token(&hot, token).await?;
        say(&format!("the bank pays 100 ETH and 1000000 TUSD to its hot wallet {hot}"));
        let tx = self.town.pay_ether(&alice.address, Amount::parse("20", 18)?).await?;
        say(&format!("somebody pays 20 ETH to alice in {tx}"));
        self.town.pay_token(&alice.address, Amount::parse("5000", 18)?).await?;
        say("somebody pays 5000 TUSD to alice");
        self.holds(alice, "ETH", "20").await?;
        self.holds(alice, "TUSD", "5000").await?;
        let books = self.bank.until("/reconciliation", MOST, |books| {
            let funded = |asset: &str, amount: &str| {
                let lines = books.get("assets").and_then(Value::as_array);
                lines.is_some_and(|lines| {
                    lines.iter().any(|line| text(line, "/asset") == asset && text(line, "/funding") == amount)
                })
            };
            funded("ETH", "100") && funded("TUSD", "1000000")
        });
        books.await?;
        say("credited after 3 confirmations, and not before: alice has 20 ETH and 5000 TUSD available");
        Ok(())
    }

    async fn holds(&self, client: &Client, asset: &str, amount: &str) -> anyhow::Result<()> {
        let path = format!("/accounts/{}/balances", client.id);
        self.bank.until(&path, MOST, |balances| available(balances, asset) == Some(amount.to_owned())).await?;
        Ok(())
    }

    async fn balance_of(&self, client: &Client, asset: &str) -> anyhow::Result<String> {
        let balances = self.bank.until(&format!("/accounts/{}/balances", client.id), MOST, |_| true).await?;
        let line = |part: &str| {
            let items = balances.get("items").and_then(Value::as_array);
            let item = items.and_then(|items| items.iter().find(|item| text(item, "/asset") == asset));
            item.map_or("0", |item| text(item, &format!("/{part}/amount"))).to_owned()
        };
        Ok(format!("{} {asset}: available {}, held {}", client.name, line("available"), line("held")))
    }

    async fn withdraw(
        &mut self,
        from: &Client,
        asset: &str,
        amount: &str,
        fee: &str,
        to: &EthAddress,
    ) -> anyhow::Result<String> {
        let wish = self.wish();
        let body = json!({ "asset": asset, "amount": amount, "to": to.to_string(), "fee_max": fee });
        let id = self.bank.accepted(&format!("/accounts/{}/withdrawals", from.id), &wish, &body).await?;
        say(&format!("{} asks for {amount} {asset} to {to}, fee at most {fee} ETH: {id}", from.name));
        Ok(id)
    }

    /// Waits until a withdrawal is paid and final.
    async fn settled(&self, withdrawal: &str) -> anyhow::Result<()> {
        let ended = self.bank.ended(withdrawal, MOST).await?;
        if let Some(error) = ended.get("error") {
            bail!("the withdrawal {withdrawal} should have been paid, and was refused: {error}");
        }
        let view = self.bank.get(&format!("/withdrawals/{withdrawal}")).await?;
        let payment = view.pointer("/payment").cloned().unwrap_or_default();
        let block = payment.pointer("/block/number").map_or_else(|| "?".to_owned(), Value::to_string);
        say(&format!(
            "  paid and final: {} in block {block}, fee {} ETH",
            text(&payment, "/tx"),
            text(&payment, "/fee/amount")
        ));
        Ok(())
    }

    async fn approval(&mut self, alice: &Client) -> anyhow::Result<String> {
        let id = self.withdraw(alice, "ETH", "6", "0.01", &OUTSIDE).await?;
        let path = format!("/operations/{id}");
        self.bank
            .until(&path, MOST, |operation| operation.pointer("/metadata/awaits_approval") == Some(&Value::Bool(true)))
            .await?;
        for officer in OFFICERS.iter().take(2) {
            let key = read_signing_key(&self.home.folder.join("officers").join(format!("{officer}.key")))?;
            decide(&self.officers, &id, (officer, &key), Verdict::Approve).await?;
            say(&format!("  {officer} reads the intent's bytes and signs their digest"));
        }
        self.settled(&id).await?;
        Ok(id)
    }

    async fn transfer(&mut self, alice: &Client, bob: &Client) -> anyhow::Result<()> {
        let wish = self.wish();
        let body = json!({ "to_account": bob.id, "asset": "TUSD", "amount": "100" });
        let id = self.bank.accepted(&format!("/accounts/{}/transfers", alice.id), &wish, &body).await?;
        let ended = self.bank.ended(&id, MOST).await?;
        if ended.get("error").is_some() {
            bail!("the transfer should have gone through: {ended}");
        }
        self.holds(bob, "TUSD", "100").await?;
        say(&format!("100 TUSD from alice to bob, without touching the chain: {id}"));
        Ok(())
    }

    async fn refused(&mut self, alice: &Client) -> anyhow::Result<()> {
        let before = self.balance_of(alice, "ETH").await?;
        let id = self.withdraw(alice, "ETH", "1", "0.01", &REFUSED).await?;
        self.ends_refused(&id).await?;
        self.same_balance(alice, before).await
    }

    async fn narrow_fee(&mut self, alice: &Client) -> anyhow::Result<()> {
        let before = self.balance_of(alice, "ETH").await?;
        let id = self.withdraw(alice, "ETH", "1", "0.000001", &OUTSIDE).await?;
        self.ends_refused(&id).await?;
        self.same_balance(alice, before).await
    }

    async fn ends_refused(&self, id: &str) -> anyhow::Result<()> {
        let ended = self.bank.ended(id, MOST).await?;
        let error = ended.get("error").with_context(|| format!("{id} should have been refused"))?;
        let because = error.pointer("/because").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let because: Vec<&str> = because.collect();
        say(&format!("  refused: {} ({})", text(error, "/title"), because.join(", ")));
        Ok(())
    }

    async fn same_balance(&self, client: &Client, before: String) -> anyhow::Result<()> {
        let after = self.balance_of(client, "ETH").await?;
        if after != before {
            bail!("the hold should have been given back: `{before}` became `{after}`");
        }
        say(&format!("  the hold is given back: {after}"));
        Ok(())
    }

    async fn killed(&mut self, alice: &Client, kill_at: &str) -> anyhow::Result<()> {
        self.worker.take().context("no worker")?.stop()?;
        let mut worker = Worker::start(&self.home.config, Some(kill_at))?;
        let outside = self.town.ether_of(&OUTSIDE).await?;
        say(&format!("before: {}", self.balance_of(alice, "ETH").await?));
        let wish = self.wish();
        let body = json!({ "asset": "ETH", "amount": "2", "to": OUTSIDE.to_string(), "fee_max": "0.01" });
        let path = format!("/accounts/{}/withdrawals", alice.id);
        // The answer may never come: the worker may stand still before it is given.
        let asked = self.bank.post(&path, &wish, &body);
        let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
        let paused = tokio::task::spawn_blocking(move || worker.wait_paused(MOST).map(|reached| (worker, reached)));
        let (worker, reached) = paused.await??;
        if !reached {
            bail!("the worker never came to `{kill_at}`: see docs/sagas/withdrawal.md for the steps");
        }
        let last = self.last_step(&asked.ok().and_then(Result::ok).map(|answer| answer.body)).await;
        let id = worker.id();
        let status = worker.kill()?;
        say(&format!("worker {id} stood at `{kill_at}`; last step read before: {last}; SIGKILL: {}", tell(status)));
        self.audit_now().await?;
        self.worker = Some(Worker::start(&self.home.config, None)?);
        say("a new worker takes every shard over and goes on");
        // The bank repeats its request under the same key, as it must when it does not know.
        let operation = self.bank.accepted(&path, &wish, &body).await?;
        self.settled(&operation).await?;
        say(&format!("after:  {}", self.balance_of(alice, "ETH").await?));
        let paid = self.town.ether_of(&OUTSIDE).await?.minus(outside)?;
        if paid != Amount::parse("2", 18)? {
            bail!("exactly 2 ETH should have been paid, not {}", paid.to_decimal(18));
        }
        say("paid exactly once: the destination has 2 ETH more");
        Ok(())
    }

    async fn last_step(&self, receipt: &Option<Value>) -> String {
        let Some(id) = receipt.as_ref().map(|receipt| text(receipt, "/id").to_owned()) else { return "none".to_owned() };
        let read = tokio::time::timeout(Duration::from_secs(3), self.bank.get(&format!("/operations/{id}"))).await;
        let step =
            |operation: &Value| format!("{} ({})", text(operation, "/metadata/step"), text(operation, "/metadata/phase"));
        read.ok().and_then(Result::ok).as_ref().map_or_else(|| "none".to_owned(), step)
    }

    /// Between the kill and the restart nobody holds the log: what the dead worker left is proven now.
    async fn audit_now(&self) -> anyhow::Result<()> {
        let config = self.config.clone();
        let (lines, proven) = tokio::task::spawn_blocking(move || audit::audit(&config, Vec::new(), false)).await??;
        lines.iter().for_each(|line| say(&format!("  {line}")));
        if proven { Ok(()) } else { bail!("what the killed worker left is not proven") }
    }

    async fn rolled_back(&self, bob: &Client) -> anyhow::Result<()> {
        if let Some(why) = self.town.why_no_reorganisation() {
            say(&format!("SKIPPED: {why}; the embedded chain shows this scene"));
            return Ok(());
        }
        // Only the deposit shall be in the blocks that go: everything paid before it lies deeper.
        let deep = self.town.height().await?.saturating_add(ROLLED_BACK);
        while self.town.height().await? < deep {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let tx = self.town.pay_ether(&bob.address, Amount::parse("3", 18)?).await?;
        self.holds(bob, "ETH", "3").await?;
        say(&format!("3 ETH for bob in {tx} are credited"));
        let (before, after) = self.town.roll_back(ROLLED_BACK).await?;
        say(&format!(
            "{ROLLED_BACK} blocks are replaced: height {before} becomes {after} on another branch, the payment is in the pool again"
        ));
        let path = format!("/events?account={}&limit=500", bob.id);
        let both = |page: &Value| {
            let kinds: Vec<&str> = items(page).map(|event| text(event, "/type")).collect();
            kinds.contains(&"custos.deposit.reversed.v1")
                && kinds.iter().filter(|kind| **kind == "custos.deposit.credited.v1").count() > 1
        };
        let events = self.bank.until(&path, MOST, both).await?;
        for event in items(&events).filter(|event| text(event, "/type").contains("deposit")) {
            say(&format!("  {} {}", text(event, "/time"), text(event, "/type")));
        }
        self.holds(bob, "ETH", "3").await?;
        say("taken back visibly, and credited anew when it was mined again: bob has 3 ETH");
        Ok(())
    }

    async fn story(&self, withdrawal: &str) -> anyhow::Result<()> {
        let story = self.bank.get(&format!("/operations/{withdrawal}/story")).await?;
        for event in items(&story) {
            let data = event.get("data").cloned().unwrap_or_default().to_string();
            let short: String = data.chars().take(150).collect();
            say(&format!("  {} {:<44} {short}", text(event, "/time"), text(event, "/type")));
        }
        Ok(())
    }

    async fn balance(&self) -> anyhow::Result<bool> {
        let model = stage::read_model(&self.config).await?;
        let reader = self.config.balances_at.as_deref().context("no reader of balances")?;
        let mut tries = 0_u32;
        let books = loop {
            // A block may leave the canonical branch between the mark and the question.
            match reconcile(&model, reader, &self.home.policy).await {
                Ok(books) if books.matches() || tries > 20 => break books,
                Err(error) if tries > 20 => return Err(error.into()),
                _ => tries = tries.saturating_add(1),
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        };
        sheet(&books).iter().for_each(|line| say(line));
        say("\nnot yet: Bitcoin, trades, sweeping, the full compliance service, roles and single sign-on, the web console");
        Ok(books.matches())
    }

    /// Stays open until a signal.
    ///
    /// # Errors
    /// No signal can be awaited.
    pub async fn stay(&self) -> anyhow::Result<()> {
        let url = super::gateway(&self.config);
        let key = &self.home.api_key;
        let officer = self.home.folder.join("officers").join("anna.key");
        title("Open for you, until Ctrl-C");
        say(&format!("API key    {key}"));
        say(&format!("documents  {url}/docs"));
        say(&format!("faucet     curl -s {} -H 'content-type: application/json' \\", self.town.url()));
        say(
            "             -d '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"dev_faucet\",\"params\":[\"0x…\",\"0xde0b6b3a7640000\"]}'",
        );
        say(&format!("accounts   curl -s -H 'Authorization: Bearer {key}' {url}/v1/accounts"));
        say(&format!("books      curl -s -H 'Authorization: Bearer {key}' {url}/v1/reconciliation"));
        say(
            "withdraw   curl -s -H 'Authorization: Bearer …' -H 'Idempotency-Key: \"mine-1\"' -H 'content-type: application/json' \\",
        );
        say(&format!(
            "             {url}/v1/accounts/ACCOUNT/withdrawals -d '{{\"asset\":\"ETH\",\"amount\":\"6\",\"to\":\"{OUTSIDE}\",\"fee_max\":\"0.01\"}}'"
        ));
        say(&format!(
            "approve    custos approve OPERATION --gateway {url} --api-key {} --officer anna --key {}",
            self.home.officer_api_key,
            officer.display()
        ));
        say(&format!("saga       custos saga OPERATION --config {}", self.home.config.display()));
        tokio::signal::ctrl_c().await?;
        Ok(())
    }

    /// Stops the worker in order.
    ///
    /// # Errors
    /// It does not end in order.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.worker.take().map_or(Ok(()), Worker::stop)
    }
}

fn items(page: &Value) -> impl Iterator<Item = &Value> {
    page.get("items").and_then(Value::as_array).into_iter().flatten()
}

fn available(balances: &Value, asset: &str) -> Option<String> {
    let item = items(balances).find(|item| text(item, "/asset") == asset)?;
    item.pointer("/available/amount").and_then(Value::as_str).map(ToOwned::to_owned)
}
