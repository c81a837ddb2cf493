//! A fixed scenario, and the picture of everything that it left: the same wishes must leave the same picture whatever the log carries
//! besides.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use custos_e2e::{
    APPROVAL_LIMIT, Balance, CONFIRMATIONS, ETHER, Refused, SHORT, Withdrawal, World, base_units, text, until,
};
use serde_json::Value;
use sqlx::Row;
use sqlx::any::AnyRow;

const FUNDS: u128 = 20 * ETHER;
const FEE_MAX: &str = "0.01";
/// What the chain's pace decides, and not what was asked for: blocks that were marked, fees that were raised, blocks seen twice, deposits
/// that were final when they were first seen.
const PACE: [&str; 6] = [
    "custos.books.marked.v1",
    "custos.operation.moved.v1",
    "custos.payment.signed.v1",
    "custos.payment.seen.v1",
    "custos.payment.unseen.v1",
    "custos.alarm.recorded.v1",
];

/// Two clients with funds, and what they asked for: deposits, withdrawals of ether and of the token, one that officers approve, one
/// that screening refuses, a transfer.
pub struct Fixed {
    name: String,
    accounts: BTreeMap<&'static str, String>,
    wishes: BTreeMap<&'static str, String>,
}

/// What is left: for two runs of the scenario the same.
#[derive(Debug, PartialEq, Eq)]
pub struct Picture {
    /// By account, asset and book; a client's fees, which the chain's pace decides, are added to what it has.
    balances: BTreeMap<String, Balance>,
    /// How each wish ended.
    ends: BTreeMap<String, String>,
    /// What each receiver got.
    paid: BTreeMap<String, u128>,
    /// Transactions of the hot wallet that were mined: each pays one wish.
    mined: u64,
    /// Lines of SQL: entries by account and reason, token legs to the unit, payments, deposits, events by kind.
    rows: Vec<String>,
}

fn receiver(wish: &str) -> alloy::primitives::Address {
    World::stranger(&format!("fixed {wish}"))
}

impl Fixed {
    /// Opens the clients, pays in, and asks for everything. `name` sets it apart from another run in the same world.
    pub async fn begin(world: &World, name: &str) -> anyhow::Result<Self> {
        let mut accounts = BTreeMap::new();
        for client in ["ada", "bob"] {
            let (account, address) = world.client(&format!("{name}-{client}")).await?;
            world.chain.pay(address, FUNDS).await?;
            world.chain.pay_token(world.token, address, FUNDS).await?;
            accounts.insert(client, account);
        }
        world.chain.mine(CONFIRMATIONS).await?;
        for account in accounts.values() {
            for asset in ["ETH", "TUSD"] {
                world.bank.has(account, asset, Balance::available(FUNDS)).await?;
            }
        }
        let mut fixed = Self { name: name.to_owned(), accounts, wishes: BTreeMap::new() };
        let refused = world.refused;
        for (wish, client, asset, amount, to) in [
            ("ether", "ada", "ETH", "1.5", None),
            ("token", "ada", "TUSD", "12.25", None),
            ("approved", "bob", "ETH", APPROVAL_LIMIT, None),
            ("screened", "bob", "ETH", "2", Some(refused)),
        ] {
            let key = format!("{name}-{wish}");
            let to = to.unwrap_or_else(|| receiver(&key));
            let asked = Withdrawal { key: &key, asset, amount, to, fee_max: FEE_MAX };
            let id = world.bank.withdraw(fixed.account(client)?, &asked).await?;
            fixed.wishes.insert(wish, id.map_err(|refused| anyhow::anyhow!("{wish}: {}", refused.body))?);
        }
        let poor = format!("{name}-poor");
        let asked = Withdrawal { key: &poor, asset: "TUSD", amount: "400", to: receiver(&poor), fee_max: FEE_MAX };
        let answer = world.bank.withdraw(fixed.account("bob")?, &asked).await?;
        ensure!(matches!(&answer, Err(Refused { code, .. }) if code == "insufficient-funds"), "{answer:?}");
        let (from, to) = (fixed.account("bob")?.to_owned(), fixed.account("ada")?.to_owned());
        fixed.wishes.insert("transfer", world.bank.transfer(&from, &format!("{name}-transfer"), &to, "TUSD", "7").await?);
        Ok(fixed)
    }

    fn account(&self, client: &str) -> anyhow::Result<&str> {
        self.accounts.get(client).map(String::as_str).with_context(|| client.to_owned())
    }

    /// The operation of a wish.
    pub fn wish(&self, wish: &str) -> anyhow::Result<&str> {
        self.wishes.get(wish).map(String::as_str).with_context(|| wish.to_owned())
    }

    /// Officers approve, blocks come, everything ends; each receiver has exactly what was meant for it.
    pub async fn finish(&self, world: &World) -> anyhow::Result<()> {
        let approved = self.wish("approved")?;
        until("officers are asked", SHORT, || async {
            let asked = world.bank.operation(approved).await?.pointer("/metadata/awaits_approval").and_then(Value::as_bool);
            Ok((asked == Some(true)).then_some(()))
        })
        .await?;
        for officer in ["anna", "bert"] {
            let key = world.installation.officer_key(officer)?;
            let taken = world.officers.decide(approved, (officer, &key), "approve").await?;
            taken.map_err(|refused| anyhow::anyhow!("{officer}: {}", refused.body))?;
        }
        let all: Vec<&str> = self.wishes.values().map(String::as_str).collect();
        world.mine_until_done(&all).await?;
        for (receiver, paid) in self.paid(world).await? {
            let meant = match receiver.as_str() {
                "ether" => 3 * ETHER / 2,
                "token" => 49 * ETHER / 4,
                "approved" => 5 * ETHER,
                _ => 0,
            };
            ensure!(paid == meant, "`{receiver}` got {paid}, and {meant} was meant for it");
        }
        Ok(())
    }

    async fn paid(&self, world: &World) -> anyhow::Result<BTreeMap<String, u128>> {
        let mut paid = BTreeMap::new();
        for wish in ["ether", "token", "approved", "poor"] {
            let to = receiver(&format!("{}-{wish}", self.name));
            let got = world.chain.balance(to).await? + world.chain.token_balance(world.token, to).await?;
            paid.insert(wish.to_owned(), got);
        }
        paid.insert("screened".to_owned(), world.chain.balance(world.refused).await?);
        Ok(paid)
    }

    /// Everything that is left, once all that is in the inboxes is applied.
    pub async fn picture(&self, world: &World) -> anyhow::Result<Picture> {
        // A mark passes through every inbox, behind all that was in it before.
        world.chain.mine(1).await?;
        world.caught_up().await?;
        let mut fees: BTreeMap<&str, u128> = BTreeMap::new();
        let mut ends = BTreeMap::new();
        for (wish, id) in &self.wishes {
            let operation = world.bank.operation(id).await?;
            let code = operation.pointer("/error/code").and_then(Value::as_str).unwrap_or_default();
            ends.insert((*wish).to_owned(), format!("{} {} {code}", id, text(&operation, "/metadata/status")?));
        }
        for (wish, client) in [("ether", "ada"), ("approved", "bob")] {
            let view = world.bank.withdrawal(self.wish(wish)?).await?;
            *fees.entry(client).or_default() +=
                base_units(view.pointer("/payment/fee").context("a payment without a fee")?)?;
        }
        let mut balances = BTreeMap::new();
        for (client, account) in &self.accounts {
            for asset in ["ETH", "TUSD"] {
                let mut balance = world.bank.balance(account, asset).await?;
                balance.available += if asset == "ETH" { fees.get(client).copied().unwrap_or_default() } else { 0 };
                balances.insert(format!("{client} {asset}"), balance);
            }
        }
        let (paid, mined) = (self.paid(world).await?, world.chain.mined_of(world.hot).await?);
        Ok(Picture { balances, ends, paid, mined, rows: rows(world).await? })
    }
}

async fn rows(world: &World) -> anyhow::Result<Vec<String>> {
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&world.database()).await?;
    let mut rows = Vec::new();
    let mut take = |name: &str, found: Vec<AnyRow>| -> anyhow::Result<()> {
        for row in found {
            let cells = (0..row.len()).map(|at| cell(&row, at)).collect::<anyhow::Result<Vec<String>>>()?;
            rows.push(format!("{name}: {}", cells.join(" ")));
        }
        Ok(())
    };
    for (name, sql) in [
        ("entries", "SELECT account, reason, COUNT(*) FROM journal_entries GROUP BY account, reason"),
        (
            "token legs",
            "SELECT holder, book, side, a0, a1, a2, a3, COUNT(*) FROM journal_legs WHERE asset = 'TUSD' \
             GROUP BY holder, book, side, a0, a1, a2, a3",
        ),
        ("token balances", "SELECT holder, book, d0, d1, d2, d3 FROM balances WHERE asset = 'TUSD'"),
        ("payments", "SELECT saga, status, succeeded FROM payments"),
        (
            "deposits",
            "SELECT account, asset, amount, status, COUNT(*) FROM deposits GROUP BY account, asset, amount, status",
        ),
        ("transfers", "SELECT saga, sender, receiver, asset, amount FROM transfers"),
        ("decisions", "SELECT saga, officer, verdict FROM decisions"),
        (
            "screenings",
            "SELECT o.account, s.step, s.clear, COUNT(*) FROM screenings s JOIN operations o ON o.saga = s.saga \
             GROUP BY o.account, s.step, s.clear",
        ),
        (
            "steps",
            "SELECT o.kind, s.saga, s.step, s.phase, COUNT(*) FROM operation_steps s JOIN operations o ON o.saga = s.saga \
             WHERE o.kind <> 'deposit' GROUP BY o.kind, s.saga, s.step, s.phase",
        ),
        ("accounts", "SELECT account, client_key FROM accounts"),
    ] {
        take(name, sqlx::query(sql).fetch_all(&pool).await.context(name)?)?;
    }
    let kinds = sqlx::query("SELECT kind, COUNT(*) FROM events GROUP BY kind").fetch_all(&pool).await?;
    take("events", kinds)?;
    pool.close().await;
    rows.retain(|row| !PACE.iter().any(|kind| row.contains(kind)));
    rows.sort_unstable();
    Ok(rows)
}

fn cell(row: &AnyRow, at: usize) -> anyhow::Result<String> {
    let number = row.try_get::<Option<i64>, _>(at).map(|number| number.map(|number| number.to_string()));
    let told = number
        .or_else(|_| row.try_get::<Option<String>, _>(at))
        .or_else(|_| row.try_get::<Option<Vec<u8>>, _>(at).map(|bytes| bytes.map(hex::encode)))?;
    Ok(told.unwrap_or_else(|| "-".to_owned()))
}
