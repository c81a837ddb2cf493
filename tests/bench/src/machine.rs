//! Inputs per second through the machines without a journal. Accounts: deposits and withdrawals from the first word to the last.

use anyhow::{Context as _, Result};
use custos_accounts::Accounts;
use custos_accounts::state::Key;
use custos_domain::{Digest, SagaId};
use custos_messages::Source;
use custos_messages::accounts::{
    AccountsInput, Deposit, DepositFact, DepositNews, Finding, Inclusion, OpenAccount, PaymentFact, PaymentNews,
    RequestWithdrawal, Screened,
};
use custos_saga::machine::{Command, Effects, Machine};
use custos_testkit as kit;
use serde_json::{Value, json};

use crate::blocks::blocks;
use crate::payments::payments;
use crate::tape::{Cost, Path, Tape};

/// How often each path is played; the fastest counts, because whatever disturbs a run makes it slower.
const RUNS: usize = 5;

/// The machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// Deposits and withdrawals.
    Accounts,
    /// Payments.
    Treasury,
    /// Blocks.
    Chain,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Accounts, Self::Treasury, Self::Chain];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Treasury => "treasury",
            Self::Chain => "chain",
        }
    }

    /// Plays the tape of `clients` and `rounds` along `path`, once; the number of its inputs.
    ///
    /// # Errors
    /// The tape cannot be made, or a record of it cannot be opened.
    pub fn run(self, path: Path, clients: u64, rounds: u64) -> Result<u64> {
        fn play<M: Machine<Input: Clone>>(tape: &Tape<M>, path: Path) -> Result<u64> {
            tape.play(path)?;
            Ok(u64::try_from(tape.said.len())?)
        }
        match self {
            Self::Accounts => play(&deposits_and_withdrawals(clients, rounds)?, path),
            Self::Treasury => play(&payments(clients, rounds)?, path),
            Self::Chain => play(&blocks(clients, rounds)?, path),
        }
    }
}

/// Measures each machine, and hands each figure to `tell`.
///
/// # Errors
/// The policy of the fixtures cannot be signed, or a tape does not do what it is made for.
pub fn measure(clients: u64, rounds: u64, mut tell: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    each_path(Subject::Accounts, &deposits_and_withdrawals(clients, rounds)?, &mut tell)?;
    each_path(Subject::Treasury, &payments(clients, rounds)?, &mut tell)?;
    each_path(Subject::Chain, &blocks(clients, rounds)?, &mut tell)
}

fn each_path<M: Machine<Input: Clone>>(
    subject: Subject,
    tape: &Tape<M>,
    tell: &mut impl FnMut(&Value) -> Result<()>,
) -> Result<()> {
    let paths = [Path::Apply, Path::Records, Path::Decode, Path::Whole];
    let mut best: Vec<Option<Cost>> = vec![None; paths.len()];
    for _ in 0..RUNS {
        for (path, best) in paths.iter().zip(&mut best) {
            let cost = tape.play(*path)?;
            *best = Some(best.filter(|best| best.took <= cost.took).unwrap_or(cost));
        }
    }
    for (path, cost) in paths.iter().zip(best) {
        let Cost { took, processor_ms, records } = cost.context("each path was played")?;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let count = u64::try_from(tape.said.len())?;
        tell(&json!({
            "bench": "machine",
            "machine": subject.name(),
            "what": path.about(),
            "inputs": count,
            "events": tape.events,
            "state_records": records,
            "took_us": micros,
            "inputs_per_second": count.saturating_mul(1_000_000) / micros,
            "ns_per_input": micros.saturating_mul(1_000) / count.max(1),
            "processor_ms": processor_ms,
            "inputs_per_processor_second": count.saturating_mul(1_000) / processor_ms.max(1),
        }))?;
    }
    Ok(())
}

/// The tape of `clients` accounts with `rounds` deposits and withdrawals each.
///
/// # Errors
/// The policy of the fixtures cannot be signed, or a saga does not end.
pub fn deposits_and_withdrawals(clients: u64, rounds: u64) -> Result<Tape<Accounts>> {
    of_clients(&(0..clients).collect::<Vec<_>>(), rounds)
}

/// The same of the accounts with these numbers.
///
/// # Errors
/// As [`deposits_and_withdrawals`].
pub fn of_clients(clients: &[u64], rounds: u64) -> Result<Tape<Accounts>> {
    let mut tape = Tape::new();
    let policy = kit::policy().sign(&kit::policy_root()).context("the policy of the fixtures")?;
    tape.hear(Source::Operator, AccountsInput::Policy(policy));
    for client in clients {
        let key = kit::key(&format!("client-{client}"));
        let account = kit::account(key.as_str());
        let open = OpenAccount { tenant: kit::tenant(), account, key };
        tape.hear(Source::Gateway, AccountsInput::OpenAccount(open));
    }
    for round in 0..rounds {
        for client in clients {
            deposit(&mut tape, *client, round);
        }
        for client in clients {
            withdraw(&mut tape, *client, round);
        }
    }
    let live = tape.state.keys().filter(|key| matches!(key, Key::Saga(_))).count();
    anyhow::ensure!(live == 0, "{live} sagas of the tape did not end");
    Ok(tape)
}

/// Answers the screening that `effects` ask for.
fn clear(tape: &mut Tape<Accounts>, effects: &Effects) {
    for ordered in &effects.commands {
        if let Command::Screen(screen) = &ordered.command {
            let versions = vec!["lists@1".to_owned()];
            let answer = Screened { command: screen.id, saga: screen.saga, finding: Finding::Clear, versions };
            tape.hear(Source::Compliance, AccountsInput::Screened(answer));
        }
    }
}

fn deposit(tape: &mut Tape<Accounts>, client: u64, round: u64) {
    let name = format!("client-{client}");
    let deposit = Deposit {
        chain: kit::chain(),
        tx: kit::tx(&format!("in-{client}-{round}")),
        index: 0,
        block: kit::block("main", 100),
        from: kit::address("payer"),
        to: kit::address(&name),
        asset: kit::asset("ETH"),
        amount: kit::ether("2"),
    };
    let fact = DepositFact { account: kit::account(&name), deposit, news: DepositNews::Seen };
    let seen = tape.hear(Source::Chain, AccountsInput::Deposit(fact.clone()));
    clear(tape, &seen);
    tape.hear(Source::Chain, AccountsInput::Deposit(DepositFact { news: DepositNews::Final, ..fact }));
}

fn withdraw(tape: &mut Tape<Accounts>, client: u64, round: u64) {
    let account = kit::account(&format!("client-{client}"));
    let key = kit::key(&format!("out-{client}-{round}"));
    let saga = SagaId::derive(&account, "withdrawal", key.as_str().as_bytes());
    let tx = kit::tx(key.as_str());
    let request = RequestWithdrawal {
        account,
        fingerprint: Digest::of(key.as_str().as_bytes()),
        key,
        asset: kit::asset("ETH"),
        amount: kit::ether("1"),
        to: kit::address("shop"),
        fee_max: kit::ether("0.01"),
    };
    let asked = tape.hear(Source::Gateway, AccountsInput::RequestWithdrawal(request));
    clear(tape, &asked);
    let inclusion =
        Inclusion { tx, nonce: round, block: kit::block("main", 120), fee: kit::ether("0.001"), succeeded: true };
    let signed = PaymentNews::Signed { tx, nonce: round, digest: Digest(tx.0), attempt: 1 };
    let seen = PaymentNews::Seen(inclusion.clone());
    for news in [PaymentNews::Taken, signed, seen, PaymentNews::Final(inclusion)] {
        tape.hear(Source::Treasury, AccountsInput::Payment(PaymentFact { saga, news }));
    }
}
