//! Everything that a bank does, without an end, and what must be true after it: deposits and withdrawals of ether and of a token,
//! some of them with officers, transfers between clients, and new addresses.

use std::collections::BTreeSet;

use crate::{APPROVAL_LIMIT, Balance, Bank, CONFIRMATIONS, ETHER, LONG, Withdrawal, World, base_units, text, until};
use alloy::primitives::Address;
use anyhow::{Context, bail, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
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
/// How long a wish is repeated for: longer than the door is ever away.
const PATIENCE: u32 = 3;
/// Operations that are looked at together, at the end: of an hour there are thousands.
const LOOKED_AT_TOGETHER: usize = 16;

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

impl Payment {
    /// What its receiver has, by the chain.
    async fn arrived(&self, world: &World) -> anyhow::Result<u128> {
        if self.asset == "ETH" {
            world.chain.balance(self.to).await
        } else {
            world.chain.token_balance(world.token, self.to).await
        }
    }

    /// How it ended.
    async fn made(&mut self, world: &World) -> anyhow::Result<Made> {
        let ended = accomplished(world, &mut self.operation).await;
        let got = self.arrived(world).await?;
        let id = match ended {
            Ok((id, _)) => id,
            Err(error) => {
                let otherwise = format!("a payment to {}, which got {got}: {error:#}", self.to);
                return Ok(Made { cost: 0, otherwise: Some(otherwise) });
            }
        };
        let wrong = || format!("{id} is {} to be paid once, but {} got {got}", self.amount, self.to);
        let otherwise = (got != self.amount).then(wrong);
        if self.asset != "ETH" {
            return Ok(Made { cost: self.amount, otherwise });
        }
        let view = world.bank.withdrawal(&id).await?;
        let fee = base_units(view.pointer("/payment/fee").context("a payment without a fee")?)?;
        Ok(Made { cost: self.amount + fee, otherwise })
    }
}

/// What became of a payment.
struct Made {
    /// What it took from its client, of its asset.
    cost: u128,
    /// What is not as it must be, in words.
    otherwise: Option<String>,
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
    /// One round in so many has a withdrawal that officers must approve.
    approved_every: usize,
    /// The round, for officers, who take their time.
    round: watch::Sender<usize>,
}

impl Stream {
    /// Opens the clients and gives them funds. One round in so many has a withdrawal that officers must approve.
    ///
    /// # Errors
    /// They are not in the books in time.
    pub async fn open(world: &World, approved_every: usize) -> anyhow::Result<Self> {
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
        let round = watch::Sender::new(0);
        Ok(Self { clients, payments, transfers, addresses, approvals: 0, deposits: 0, approved_every, round })
    }

    /// One withdrawal and one deposit of each asset, a transfer, a new address and one block more; now and then a withdrawal that
    /// officers must approve, which they do in the next round. Waits for nothing.
    ///
    /// # Errors
    /// The chain does not answer.
    pub async fn flow(&mut self, world: &World) -> anyhow::Result<()> {
        let round = *self.round.borrow() + 1;
        self.round.send_replace(round);
        for asset in ["ETH", "TUSD"] {
            self.pay(world, self.payments.len(), asset, (SMALL, SMALL_UNITS))?;
        }
        if round % self.approved_every == 1 {
            // Each client in turn: all of them from one would empty it within the hour.
            self.pay(world, self.approvals, "ETH", (APPROVAL_LIMIT, 5 * ETHER))?;
            self.approvals += 1;
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

    fn pay(
        &mut self,
        world: &World,
        turn: usize,
        asset: &'static str,
        (amount, units): (&'static str, u128),
    ) -> anyhow::Result<()> {
        let number = self.payments.len();
        let client = turn % self.clients.len();
        let to = World::stranger(&format!("killed {number}"));
        let account = self.client(turn)?.account.clone();
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

    /// How many wishes nobody has said yes to so far.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        let payments = self.payments.iter().map(|payment| &payment.operation);
        let transfers = self.transfers.iter().map(|transfer| &transfer.operation);
        payments.chain(transfers).chain(&self.addresses).filter(|wish| !wish.is_finished()).count()
    }

    /// What was asked to be paid: to whom, of which asset, how much.
    pub fn asked(&self) -> impl Iterator<Item = (Address, &'static str, u128)> {
        self.payments.iter().map(|payment| (payment.to, payment.asset, payment.amount))
    }

    /// Officers wait for no further round.
    pub fn over(&self) {
        self.round.send_replace(usize::MAX);
    }

    /// Waits until all is done: each receiver has exactly what was sent, and each account exactly the rest.
    ///
    /// # Errors
    /// Something is not so, with all that is not.
    pub async fn ends_exact(&mut self, world: &World) -> anyhow::Result<()> {
        let found = self.differences(world).await?;
        ensure!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    }

    /// Waits until all is done, and says in words whatever is not as it must be: an operation that does not end well, a receiver or
    /// an account that has something else.
    ///
    /// # Errors
    /// The chain does not answer, or the books are not complete in time.
    pub async fn differences(&mut self, world: &World) -> anyhow::Result<Vec<String>> {
        self.over();
        let mut found = self.payments_made_otherwise(world).await?;
        let transfers = stream::iter(std::mem::take(&mut self.transfers)).map(|transfer| async move {
            let Transfer { from, to, asset, operation } = transfer;
            ((from, to, asset), completed(world, operation).await)
        });
        for ((from, to, asset), ended) in transfers.buffered(LOOKED_AT_TOGETHER).collect::<Vec<_>>().await {
            if let Err(error) = ended {
                found.push(format!("a transfer: {error:#}"));
                continue;
            }
            for (index, out) in [(from, SMALL_UNITS), (to, 0)] {
                let client = self.client(index)?;
                let flow = if asset == "ETH" { &mut client.ether } else { &mut client.tokens };
                (flow.into, flow.out) = (flow.into + (SMALL_UNITS - out), flow.out + out);
            }
        }
        let mut issued = BTreeSet::new();
        let addresses = stream::iter(std::mem::take(&mut self.addresses)).map(|wish| completed(world, wish));
        for ended in addresses.buffered(LOOKED_AT_TOGETHER).collect::<Vec<_>>().await {
            let address = match ended {
                Ok(done) => text(&done, "/response/address/address")?.to_owned(),
                Err(error) => {
                    found.push(format!("an address: {error:#}"));
                    continue;
                }
            };
            if let Some(twice) = issued.replace(address) {
                found.push(format!("{twice} was issued twice"));
            }
        }
        world.chain.mine(CONFIRMATIONS).await?;
        world.caught_up().await?;
        for client in &self.clients {
            for (asset, flow) in [("ETH", client.ether), ("TUSD", client.tokens)] {
                let left = (FUNDS + flow.into).checked_sub(flow.out).context("more went than there was")?;
                if let Err(error) = world.bank.has(&client.account, asset, Balance::available(left)).await {
                    found.push(format!("{error:#}"));
                }
            }
        }
        Ok(found)
    }

    async fn payments_made_otherwise(&mut self, world: &World) -> anyhow::Result<Vec<String>> {
        let looking = stream::iter(&mut self.payments).map(|payment| async move {
            let made = payment.made(world).await?;
            anyhow::Ok((payment.client, payment.asset, made))
        });
        let looked: Vec<_> = looking.buffered(LOOKED_AT_TOGETHER).try_collect().await?;
        let mut found = Vec::new();
        for (client, asset, made) in looked {
            let client = self.clients.get_mut(client).context("a client")?;
            let flow = if asset == "ETH" { &mut client.ether } else { &mut client.tokens };
            flow.out += made.cost;
            found.extend(made.otherwise);
        }
        Ok(found)
    }

    /// What was asked for so far, deposits included.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.payments.len() + self.transfers.len() + self.addresses.len() + self.deposits
    }

    /// The clients' accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        self.clients.iter().map(|client| client.account.as_str())
    }

    /// What was done, in words.
    #[must_use]
    pub fn told(&self) -> String {
        format!(
            "{} withdrawals ({} of them with officers), {} deposits besides the first ones, {} rounds",
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

async fn completed(world: &World, mut wish: Wish) -> anyhow::Result<Value> {
    Ok(accomplished(world, &mut wish).await?.1)
}

/// The operation of a wish, and how it stands once it is done as asked.
async fn accomplished(world: &World, wish: &mut Wish) -> anyhow::Result<(String, Value)> {
    let id = wish.await??;
    // Most are done long ago, and a block for each of thousands would be work for nothing.
    let done = match world.bank.ended(&id).await {
        Ok(Some(done)) => done,
        Ok(None) | Err(_) => world.mine_until(&format!("operation {id} is done"), || world.bank.ended(&id)).await?,
    };
    if text(&done, "/metadata/status")? == "completed" { Ok((id, done)) } else { bail!("{done}") }
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

/// Signs as soon as officers are asked, and hands it in until there is an answer: the operation may have gone on since, without the
/// officer having heard it.
async fn approve(bank: &Bank, id: &str, officer: (&str, &str)) -> anyhow::Result<()> {
    let what = format!("{} approves {id}", officer.0);
    let word = until(&what, PATIENCE * LONG, || async {
        let waits = bank.operation(id).await?.pointer("/metadata/awaits_approval").and_then(Value::as_bool);
        if waits == Some(true) { bank.word(id, officer, "approve").await.map(Some) } else { Ok(None) }
    })
    .await?;
    until(&what, PATIENCE * LONG, || async {
        match bank.hand_in(&word).await? {
            Ok(_) => Ok(Some(())),
            Err(refused) => bail!("{} {}", refused.status, refused.body),
        }
    })
    .await
}
