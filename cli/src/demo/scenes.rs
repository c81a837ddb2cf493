//! The scenes of the demonstration, in order; each states what it expects and fails loudly when it does not come.

mod invitation;
mod kill;
mod story;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use custos_domain::{Amount, EthAddress};
use custos_gateway::reconcile;
use custos_messages::accounts::Verdict;
use serde_json::{Value, json};

use super::REFUSED;
use super::bank::Bank;
use super::town::Town;
use super::worker::Worker;
use crate::approve::decide;
use crate::books::sheet;
use crate::config::Config;
use crate::home::{Home, OFFICERS};
use crate::secrets::read_signing_key;
use crate::{say, stage};

pub use kill::KillPoint;

/// How long anything may take before the demonstration gives up.
const MOST: Duration = Duration::from_secs(60);
/// Blocks that must lie between what was paid before and what is rolled back.
const APART: u64 = 5;
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
    /// The account that a guest is invited to act with.
    guest: String,
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
        Ok(Self { bank, officers, town, home, config, worker: Some(worker), wishes: 0, guest: String::new() })
    }

    /// Plays every scene; whether the books match the chain at the end.
    ///
    /// # Errors
    /// Something does not come out as it should.
    pub async fn play(&mut self, kill_at: &KillPoint) -> anyhow::Result<bool> {
        title("Accounts and addresses");
        let alice = self.open("alice").await?;
        let bob = self.open("bob").await?;
        self.guest.clone_from(&alice.id);
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
        self.story(&approved, &[&alice, &bob]).await?;
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
        self.bank.until(&path, MOST, awaits_approval).await?;
        for officer in OFFICERS.iter().take(2) {
            self.approve(&id, officer).await?;
            say(&format!("  {officer} reads the intent's bytes and signs their digest"));
        }
        self.settled(&id).await?;
        Ok(id)
    }

    async fn approve(&self, withdrawal: &str, officer: &str) -> anyhow::Result<()> {
        let key = read_signing_key(&self.home.folder.join("officers").join(format!("{officer}.key")))?;
        decide(&self.officers, withdrawal, (officer, &key), Verdict::Approve).await
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

    async fn rolled_back(&self, bob: &Client) -> anyhow::Result<()> {
        if let Some(why) = self.town.why_no_reorganisation() {
            say(&format!("SKIPPED: {why}; the embedded chain shows this scene"));
            return Ok(());
        }
        // Only the deposit shall be in the blocks that go: everything paid before it lies deeper.
        let deep = self.town.height().await?.saturating_add(APART);
        while self.town.height().await? < deep {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let tx = self.town.pay_ether(&bob.address, Amount::parse("3", 18)?).await?;
        self.holds(bob, "ETH", "3").await?;
        say(&format!("3 ETH for bob in {tx} are credited"));
        let (depth, before, after) = self.town.roll_back(&tx).await?;
        say(&format!(
            "{depth} blocks are replaced: height {before} becomes {after} on another branch, the payment is in the pool again"
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

    async fn balance(&self) -> anyhow::Result<bool> {
        let model = stage::read_model(&self.config).await?;
        let reader = self.config.balances_at.as_deref().context("no reader of balances")?;
        let until = Instant::now() + MOST;
        let books = loop {
            // A block may leave the canonical branch between the mark and the question.
            match reconcile(&model, reader, &self.home.policy).await {
                Ok(books) if books.matches() || Instant::now() > until => break books,
                Err(error) if Instant::now() > until => return Err(error.into()),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        };
        sheet(&books).iter().for_each(|line| say(line));
        if books.matches() && self.town.why_no_reorganisation().is_none() {
            say("the alarms are of the blocks that were rolled back: a human is to see that money was final and was not");
        }
        title("What it is not yet");
        say(
            "Bitcoin, trades, sweeping, travel rule, the full compliance service, roles and single sign-on, a web console, HSM",
        );
        Ok(books.matches())
    }

    /// Stops the worker in order.
    ///
    /// # Errors
    /// It does not end in order.
    pub async fn close(mut self) -> anyhow::Result<()> {
        match self.worker.take() {
            Some(worker) => worker.stop().await,
            None => Ok(()),
        }
    }
}

fn awaits_approval(operation: &Value) -> bool {
    operation.pointer("/metadata/awaits_approval") == Some(&Value::Bool(true))
}

fn items(page: &Value) -> impl Iterator<Item = &Value> {
    page.get("items").and_then(Value::as_array).into_iter().flatten()
}

fn available(balances: &Value, asset: &str) -> Option<String> {
    let item = items(balances).find(|item| text(item, "/asset") == asset)?;
    item.pointer("/available/amount").and_then(Value::as_str).map(ToOwned::to_owned)
}
