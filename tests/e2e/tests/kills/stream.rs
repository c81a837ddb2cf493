//! Withdrawals and deposits without an end, and what must be true after them.

use alloy::primitives::Address;
use anyhow::{Context, ensure};
use custos_e2e::{Balance, Bank, CONFIRMATIONS, ETHER, LONG, Withdrawal, World, base_units, text, until};
use tokio::task::JoinHandle;

/// What every client begins with, of ether and of the token.
const FUNDS: u128 = 20 * ETHER;
const FEE_MAX: &str = "0.01";
const CLIENTS: [&str; 3] = ["first", "second", "third"];
const AMOUNT: &str = "0.05";
const AMOUNT_UNITS: u128 = ETHER / 20;

struct Client {
    account: String,
    address: Address,
    /// What was paid in, beyond the funds of the beginning.
    ether_in: u128,
}

/// A wish, on its way to a yes that is repeated for until it is heard.
struct Payment {
    client: usize,
    asset: &'static str,
    to: Address,
    accepted: JoinHandle<anyhow::Result<String>>,
}

/// The clients and everything they asked for.
pub struct Stream {
    clients: Vec<Client>,
    payments: Vec<Payment>,
}

impl Stream {
    /// Opens the clients and gives them funds.
    pub async fn open(world: &World) -> anyhow::Result<Self> {
        let opened = futures::future::try_join_all(CLIENTS.map(|name| world.client(name))).await?;
        let clients: Vec<Client> =
            opened.into_iter().map(|(account, address)| Client { account, address, ether_in: 0 }).collect();
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
        Ok(Self { clients, payments: Vec::new() })
    }

    /// One withdrawal of each asset, one deposit and one block more. Waits for nothing.
    pub async fn flow(&mut self, world: &World) -> anyhow::Result<()> {
        for asset in ["ETH", "TUSD"] {
            let number = self.payments.len();
            let client = number % self.clients.len();
            let to = World::stranger(&format!("killed {number}"));
            let account = self.clients.get(client).context("a client")?.account.clone();
            let accepted = tokio::spawn(ask(world.bank.clone(), account, format!("payment-{number}"), asset, to));
            self.payments.push(Payment { client, asset, to, accepted });
        }
        let turn = self.payments.len() / 2 % self.clients.len();
        let client = self.clients.get_mut(turn).context("a client")?;
        let amount = ETHER / 100;
        world.chain.pay(client.address, amount).await?;
        client.ether_in += amount;
        world.chain.mine(1).await
    }

    /// The account that asked last.
    pub fn newest_account(&self) -> Option<&str> {
        let client = self.payments.last()?.client;
        Some(&self.clients.get(client)?.account)
    }

    /// Waits until all is done: each receiver has exactly what was sent, and each account exactly the rest.
    pub async fn ends_exact(&mut self, world: &World) -> anyhow::Result<()> {
        let mut fees = vec![0_u128; self.clients.len()];
        let mut spent = vec![(0_u128, 0_u128); self.clients.len()];
        for payment in &mut self.payments {
            let id = (&mut payment.accepted).await??;
            let done = world.mine_until(&format!("operation {id} is done"), || world.bank.ended(&id)).await?;
            ensure!(text(&done, "/metadata/status")? == "completed", "{done}");
            let ether = payment.asset == "ETH";
            let got = if ether {
                world.chain.balance(payment.to).await?
            } else {
                world.chain.token_balance(world.token, payment.to).await?
            };
            ensure!(got == AMOUNT_UNITS, "{id} is paid exactly once, but {} got {got}", payment.to);
            let (ether_spent, tokens_spent) = spent.get_mut(payment.client).context("a client")?;
            if ether {
                let view = world.bank.withdrawal(&id).await?;
                *fees.get_mut(payment.client).context("a client")? +=
                    base_units(view.pointer("/payment/fee").context("a payment without a fee")?)?;
                *ether_spent += AMOUNT_UNITS;
            } else {
                *tokens_spent += AMOUNT_UNITS;
            }
        }
        world.chain.mine(CONFIRMATIONS).await?;
        for ((client, fee), (ether, tokens)) in self.clients.iter().zip(fees).zip(spent) {
            let left = FUNDS + client.ether_in - ether - fee;
            world.bank.has(&client.account, "ETH", Balance::available(left)).await?;
            world.bank.has(&client.account, "TUSD", Balance::available(FUNDS - tokens)).await?;
        }
        eprintln!("{} withdrawals, each paid exactly once", self.payments.len());
        Ok(())
    }
}

/// Asks under one key until there is an answer, however often the door is away.
async fn ask(bank: Bank, account: String, key: String, asset: &'static str, to: Address) -> anyhow::Result<String> {
    until(&format!("`{key}` is accepted"), 3 * LONG, || async {
        let wish = Withdrawal { key: &key, asset, amount: AMOUNT, to, fee_max: FEE_MAX };
        match bank.withdraw(&account, &wish).await? {
            Ok(id) => Ok(Some(Ok(id))),
            Err(refused) => Ok(Some(Err(anyhow::anyhow!("refused: {} {}", refused.status, refused.body)))),
        }
    })
    .await?
}
