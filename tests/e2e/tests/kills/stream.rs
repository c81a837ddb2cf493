//! Everything that a bank does, without an end, and what must be true after it: deposits and withdrawals of ether and of a token,
//! some of them with officers, transfers between clients, and new addresses.

use std::collections::BTreeSet;

use alloy::primitives::Address;
use anyhow::{Context, bail, ensure};
use custos_e2e::{APPROVAL_LIMIT, Balance, Bank, CONFIRMATIONS, ETHER, LONG, Withdrawal, World, base_units, text, until};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What every client begins with, of ether and of the token.
const FUNDS: u128 = 400 * ETHER;
const FEE_MAX: &str = "0.01";
const CLIENTS: [&str; 3] = ["first", "second", "third"];
const OFFICERS: [&str; 2] = ["anna", "bert"];
const SMALL: &str = "0.05";
const SMALL_UNITS: u128 = ETHER / 20;
const DEPOSIT_UNITS: u128 = ETHER / 100;
/// One round in so many has a withdrawal that officers must approve.
const APPROVED_EVERY: usize = 3;
/// How long a wish is repeated for: longer than the door is ever away.
const PATIENCE: u32 = 3;

struct Client {
    account: String,
    address: Address,
    /// What came and went beyond the funds of the beginning, without withdrawals.
    ether: Flow,
    tokens: Flow,
}

#[derive(Clone, Copy, Default)]
struct Flow {
    into: u128,
    out: u128,
}

/// A wish, on its way to a yes that is repeated for until it is heard: its operation.
type Wish = JoinHandle<anyhow::Result<String>>;

struct Payment {
    client: usize,
    asset: &'static str,
    amount: u128,
    to: Address,
    operation: Wish,
}

struct Transfer {
    from: usize,
    to: usize,
    asset: &'static str,
    operation: Wish,
}

/// The clients and everything they asked for.
pub struct Stream {
    clients: Vec<Client>,
    payments: Vec<Payment>,
    transfers: Vec<Transfer>,
    addresses: Vec<Wish>,
    approvals: usize,
    deposits: usize,
    /// The round, for officers, who take their time.
    round: watch::Sender<usize>,
}

impl Stream {
    /// Opens the clients and gives them funds.
    pub async fn open(world: &World) -> anyhow::Result<Self> {
        let opened = futures::future::try_join_all(CLIENTS.map(|name| world.client(name))).await?;
        let client = |(account, address)| Client { account, address, ether: Flow::default(), tokens: Flow::default() };
        let clients: Vec<Client> = opened.into_iter().map(client).collect();
        for client in &clients {
            world.chain.pay(client.address, FUNDS).await?;
            world.chain.pay_token(world.token, client.address, FUNDS).await?;
        }
        world.chain.mine(CONFIRMATIONS).await?;
        for client in &clients {
            for asset in ["ETH", "TUSD"] {
                world.bank.has(&client.account, asset, Balance::available(FUNDS)).await?;
            }
        }
        let (payments, transfers, addresses) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { clients, payments, transfers, addresses, approvals: 0, deposits: 0, round: watch::Sender::new(0) })
    }

    /// One withdrawal and one deposit of each asset, a transfer, a new address and one block more; now and then a withdrawal that
    /// officers must approve, which they do in the next round. Waits for nothing.
    pub async fn flow(&mut self, world: &World) -> anyhow::Result<()> {
        let round = *self.round.borrow() + 1;
        self.round.send_replace(round);
        for asset in ["ETH", "TUSD"] {
            self.pay(world, asset, (SMALL, SMALL_UNITS))?;
        }
        if round % APPROVED_EVERY == 1 {
            self.approvals += 1;
            self.pay(world, "ETH", (APPROVAL_LIMIT, 5 * ETHER))?;
        }
        self.transfer(world, round)?;
        let account = self.client(round)?.account.clone();
        self.addresses.push(tokio::spawn(ask_address(world.bank.clone(), account, format!("address-{round}"))));
        let (for_ether, for_tokens) = (round, round + 1);
        world.chain.pay(self.client(for_ether)?.address, DEPOSIT_UNITS).await?;
        self.client(for_ether)?.ether.into += DEPOSIT_UNITS;
        world.chain.pay_token(world.token, self.client(for_tokens)?.address, DEPOSIT_UNITS).await?;
        self.client(for_tokens)?.tokens.into += DEPOSIT_UNITS;
        self.deposits += 2;
        world.chain.mine(1).await
    }

    fn client(&mut self, turn: usize) -> anyhow::Result<&mut Client> {
        let index = turn % self.clients.len();
        self.clients.get_mut(index).context("a client")
    }

    fn pay(&mut self, world: &World, asset: &'static str, (amount, units): (&'static str, u128)) -> anyhow::Result<()> {
        let number = self.payments.len();
        let client = number % self.clients.len();
        let to = World::stranger(&format!("killed {number}"));
        let account = self.client(number)?.account.clone();
        let asking = ask(world.bank.clone(), account, format!("payment-{number}"), (asset, amount), to);
        let operation = if amount == APPROVAL_LIMIT {
            let (bank, keys) = (world.officers.clone(), officers(world)?);
            let (mut rounds, asked) = (self.round.subscribe(), *self.round.borrow());
            tokio::spawn(async move {
                let id = asking.await?;
                rounds.wait_for(|round| *round > asked).await?;
                for (officer, key) in OFFICERS.iter().zip(&keys) {
                    approve(&bank, &id, (officer, key)).await?;
                }
                Ok(id)
            })
        } else {
            tokio::spawn(asking)
        };
        self.payments.push(Payment { client, asset, amount: units, to, operation });
        Ok(())
    }

    fn transfer(&mut self, world: &World, round: usize) -> anyhow::Result<()> {
        let (from, to) = (round % self.clients.len(), (round + 1) % self.clients.len());
        let asset = if round.is_multiple_of(2) { "ETH" } else { "TUSD" };
        let (account, receiver) = (self.client(from)?.account.clone(), self.client(to)?.account.clone());
        let (bank, key) = (world.bank.clone(), format!("transfer-{round}"));
        let operation = tokio::spawn(async move {
            until(&format!("`{key}` is accepted"), PATIENCE * LONG, || async {
                bank.transfer(&account, &key, &receiver, asset, SMALL).await.map(Some)
            })
            .await
        });
        self.transfers.push(Transfer { from, to, asset, operation });
        Ok(())
    }

    /// Waits until all is done: each receiver has exactly what was sent, and each account exactly the rest.
    pub async fn ends_exact(&mut self, world: &World) -> anyhow::Result<()> {
        self.round.send_replace(usize::MAX);
        self.payments_are_made_once(world).await?;
        for transfer in std::mem::take(&mut self.transfers) {
            completed(world, transfer.operation).await?;
            for (index, out) in [(transfer.from, SMALL_UNITS), (transfer.to, 0)] {
                let client = self.client(index)?;
                let flow = if transfer.asset == "ETH" { &mut client.ether } else { &mut client.tokens };
                (flow.into, flow.out) = (flow.into + (SMALL_UNITS - out), flow.out + out);
            }
        }
        let mut issued = BTreeSet::new();
        let asked = self.addresses.len();
        for wish in self.addresses.drain(..) {
            let done = completed(world, wish).await?;
            issued.insert(text(&done, "/response/address/address")?.to_owned());
        }
        ensure!(issued.len() == asked, "{asked} addresses were asked for, {} different ones were issued", issued.len());
        world.chain.mine(CONFIRMATIONS).await?;
        world.caught_up().await?;
        for client in &self.clients {
            for (asset, flow) in [("ETH", client.ether), ("TUSD", client.tokens)] {
                let left = (FUNDS + flow.into).checked_sub(flow.out).context("more went than there was")?;
                world.bank.has(&client.account, asset, Balance::available(left)).await?;
            }
        }
        Ok(())
    }

    async fn payments_are_made_once(&mut self, world: &World) -> anyhow::Result<()> {
        for payment in &mut self.payments {
            let id = (&mut payment.operation).await??;
            let done = world.mine_until(&format!("operation {id} is done"), || world.bank.ended(&id)).await?;
            ensure!(text(&done, "/metadata/status")? == "completed", "{done}");
            let ether = payment.asset == "ETH";
            let got = if ether {
                world.chain.balance(payment.to).await?
            } else {
                world.chain.token_balance(world.token, payment.to).await?
            };
            ensure!(got == payment.amount, "{id} is paid exactly once, but {} got {got}", payment.to);
            let client = self.clients.get_mut(payment.client).context("a client")?;
            if ether {
                let view = world.bank.withdrawal(&id).await?;
                let fee = base_units(view.pointer("/payment/fee").context("a payment without a fee")?)?;
                client.ether.out += payment.amount + fee;
            } else {
                client.tokens.out += payment.amount;
            }
        }
        Ok(())
    }

    /// The clients' accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        self.clients.iter().map(|client| client.account.as_str())
    }

    /// What was done, in words.
    pub fn told(&self) -> String {
        format!(
            "{} withdrawals, each paid exactly once ({} of them with officers); {} deposits besides the first ones; {} rounds",
            self.payments.len(),
            self.approvals,
            self.deposits,
            self.deposits / 2,
        )
    }
}

fn officers(world: &World) -> anyhow::Result<Vec<String>> {
    OFFICERS.iter().map(|officer| world.installation.officer_key(officer)).collect()
}

async fn completed(world: &World, wish: Wish) -> anyhow::Result<Value> {
    let id = wish.await??;
    let done = world.mine_until(&format!("operation {id} is done"), || world.bank.ended(&id)).await?;
    if text(&done, "/metadata/status")? == "completed" { Ok(done) } else { bail!("{done}") }
}

/// Asks under one key until there is an answer, however often the door is away.
async fn ask(
    bank: Bank,
    account: String,
    key: String,
    (asset, amount): (&'static str, &'static str),
    to: Address,
) -> anyhow::Result<String> {
    until(&format!("`{key}` is accepted"), PATIENCE * LONG, || async {
        let wish = Withdrawal { key: &key, asset, amount, to, fee_max: FEE_MAX };
        match bank.withdraw(&account, &wish).await? {
            Ok(id) => Ok(Some(Ok(id))),
            Err(refused) => Ok(Some(Err(anyhow::anyhow!("refused: {} {}", refused.status, refused.body)))),
        }
    })
    .await?
}

async fn ask_address(bank: Bank, account: String, key: String) -> anyhow::Result<String> {
    until(&format!("`{key}` is accepted"), PATIENCE * LONG, || async {
        let body = json!({ "chain": World::chain_name() });
        match bank.post(&format!("/accounts/{account}/addresses"), &key, &body).await? {
            Ok(id) => Ok(Some(Ok(id))),
            Err(refused) => Ok(Some(Err(anyhow::anyhow!("refused: {} {}", refused.status, refused.body)))),
        }
    })
    .await?
}

/// Decides as soon as officers are asked, and again until it was taken.
async fn approve(bank: &Bank, id: &str, officer: (&str, &str)) -> anyhow::Result<()> {
    until(&format!("{} approves {id}", officer.0), PATIENCE * LONG, || async {
        let waits = bank.operation(id).await?.pointer("/metadata/awaits_approval").and_then(Value::as_bool);
        if waits != Some(true) {
            return Ok(None);
        }
        match bank.decide(id, officer, "approve").await? {
            Ok(_) => Ok(Some(())),
            Err(refused) => bail!("{} {}", refused.status, refused.body),
        }
    })
    .await
}
