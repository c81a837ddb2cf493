//! Inputs per second through the accounts machine without a journal: deposits and withdrawals from the first word to the last.
//!
//! The stream is recorded once, with the answers that the machine's own questions get, and then replayed on an empty state:
//! as decoded inputs, with the state records and the root of each batch, and as sealed records through the shard's own batch,
//! which opens and decodes each, and seals what it causes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use custos_accounts::Accounts;
use custos_accounts::state::{Entity, Key};
use custos_domain::{Digest, SagaId, Timestamp};
use custos_journal::{Entry, LogIdentity};
use custos_messages::accounts::{
    AccountsInput, Deposit, DepositFact, DepositNews, Finding, Inclusion, OpenAccount, PaymentFact, PaymentNews,
    RequestWithdrawal, Screened,
};
use custos_messages::{Keyring, Postmark, Record, ShardName, Source, Topic};
use custos_runtime::shard::{Batch, Identity, LOGIC, Manifest, Memory, Overlay, StateRoot};
use custos_saga::machine::{Cause, Command, Context, Effects, Machine, Touched, View};
use custos_testkit as kit;
use serde_json::{Value, json};

use crate::usage;

/// Inputs of one transaction, as in production.
const BATCH: usize = 1_000;
const AT: Timestamp = Timestamp(1_700_000_000_000);

/// An input, and who says it.
pub type Said = (Source, AccountsInput);

/// What a replay cost. Processor time is what counts on a machine that others use, in steps of 10 ms.
#[derive(Clone, Copy, Debug)]
struct Cost {
    took: Duration,
    processor_ms: u64,
    records: u64,
}

impl Cost {
    fn since((began, processor_ms): (Instant, u64), records: u64) -> Self {
        let processor_ms = usage::processor_ms(std::process::id()).saturating_sub(processor_ms);
        Self { took: began.elapsed(), processor_ms, records }
    }
}

/// Measures a stream of `clients` accounts with `rounds` deposits and withdrawals each.
///
/// # Errors
/// The policy of the fixtures cannot be signed, or the stream does not do what it is made for.
pub fn measure(clients: u64, rounds: u64, mut tell: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    let stream = Stream::record(clients, rounds)?;
    let inputs = stream.said.len();
    let events = stream.events;
    let mut say = |what: &str, Cost { took, processor_ms, records }: Cost| {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let count = u64::try_from(inputs).unwrap_or(u64::MAX);
        tell(&json!({
            "bench": "machine",
            "what": what,
            "inputs": count,
            "events": events,
            "state_records": records,
            "took_us": micros,
            "inputs_per_second": count.saturating_mul(1_000_000) / micros,
            "ns_per_input": micros.saturating_mul(1_000) / count.max(1),
            "processor_ms": processor_ms,
            "inputs_per_processor_second": count.saturating_mul(1_000) / processor_ms.max(1),
        }))
    };
    let copies = || stream.said.chunks(BATCH).map(<[Said]>::to_vec).collect();
    say(Path::Apply.about(), applied(copies(), Keep::Nothing))?;
    say(Path::Records.about(), applied(copies(), Keep::Records))?;
    let keyring = Arc::new(kit::keyring());
    say(Path::Whole.about(), whole(entries(&stream.said, &keyring), keyring))
}

/// A path through the machine that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Path {
    /// The stream is made ready, and that is all.
    Nothing,
    /// Inputs are applied.
    Apply,
    /// And each batch gives its state records and its root.
    Records,
    /// Sealed records are opened and decoded.
    Decode,
    /// Everything that a shard does between the log and the log.
    Whole,
}

impl Path {
    /// What it does, in words.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Apply => "apply",
            Self::Records => "apply, state records and root",
            Self::Decode => "open and decode",
            Self::Whole => "open, decode, apply, seal outputs, state records and root",
        }
    }

    /// Runs it once on a stream of `clients` accounts with `rounds` deposits and withdrawals each; the number of its inputs.
    ///
    /// # Errors
    /// The stream cannot be made, or a record of it cannot be opened.
    pub fn run(self, clients: u64, rounds: u64) -> Result<u64> {
        let said = Stream::record(clients, rounds)?.said;
        let keyring = Arc::new(kit::keyring());
        let copies: Vec<Vec<Said>> = said.chunks(BATCH).map(<[Said]>::to_vec).collect();
        let sealed = entries(&said, &keyring);
        match self {
            Self::Nothing => drop((copies, sealed)),
            Self::Apply => drop(applied(copies, Keep::Nothing)),
            Self::Records => drop(applied(copies, Keep::Records)),
            Self::Decode => {
                for entry in sealed.iter().flatten() {
                    keyring.open_message::<AccountsInput>(Topic::Inbox(Accounts::KIND), &entry.record)?;
                }
            }
            Self::Whole => drop(whole(sealed, keyring)),
        }
        Ok(u64::try_from(said.len()).unwrap_or(u64::MAX))
    }
}

/// What is done at the end of each batch besides taking the changes over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    Records,
}

/// When and where every input of the bench is applied.
pub const fn context() -> Context {
    Context { at: AT, partition: 0, partitions: 1, logic: LOGIC }
}

fn applied(copies: Vec<Vec<Said>>, keep: Keep) -> Cost {
    let mut memory = Memory::<Accounts>::default();
    let mut records = 0;
    let began = (Instant::now(), usage::processor_ms(std::process::id()));
    for batch in copies {
        let mut overlay = Overlay::<Accounts>::default();
        for (source, message) in batch {
            let mut view = View::new(&memory.entities, &mut overlay.entities);
            drop(Accounts::apply(&mut view, Cause::Message { source, message }, &context()));
        }
        let mut roots = memory.roots;
        if keep == Keep::Records {
            let (changed, after) = overlay.records(&memory);
            records += u64::try_from(changed.len()).unwrap_or(0);
            roots = after;
        }
        memory.merge(overlay, roots);
    }
    Cost::since(began, records)
}

fn whole(sealed: Vec<Vec<Entry>>, keyring: Arc<Keyring>) -> Cost {
    let shard = ShardName { machine: Accounts::KIND, partition: 0 };
    let identity = Identity { shard, partitions: 1, source: Source::Accounts, keyring, ahead: true };
    let mut memory = Memory::<Accounts>::default();
    let mut manifest = first_manifest();
    let mut records = 0;
    let began = (Instant::now(), usage::processor_ms(std::process::id()));
    for entries in sealed {
        let mut batch = Batch::<Accounts>::on(&manifest);
        for entry in entries {
            batch.take(&identity, &memory, entry, AT);
        }
        let (changed, roots) = batch.overlay.records(&memory);
        records += u64::try_from(changed.len()).unwrap_or(0);
        manifest = Manifest {
            transaction: manifest.transaction.saturating_add(1),
            next: batch.next,
            last: batch.last,
            event_sequence: batch.event_sequence,
            event_hash: batch.event_hash,
            state_root: roots.state.digest(),
            outbox_root: roots.outbox.digest(),
            ..manifest
        };
        drop(manifest.record());
        memory.merge(batch.overlay, roots);
    }
    Cost::since(began, records)
}

fn entries(said: &[Said], keyring: &Keyring) -> Vec<Vec<Entry>> {
    let topic = Topic::Inbox(Accounts::KIND);
    let record = |(source, message): &Said| -> Record { keyring.seal_message(topic, *source, message, Postmark::default()) };
    let placed: Vec<Entry> = (0_u64..)
        .zip(said)
        .map(|(offset, said)| Entry { partition: 0, offset, at: Some(AT), record: record(said) })
        .collect();
    placed.chunks(BATCH).map(<[Entry]>::to_vec).collect()
}

fn first_manifest() -> Manifest {
    Manifest {
        transaction: 1,
        attempt: 1,
        next: 0,
        last: None,
        event_sequence: 0,
        event_hash: Digest([0; 32]),
        state_root: StateRoot::default().digest(),
        outbox_root: StateRoot::default().digest(),
        logic: LOGIC,
        first_logic: LOGIC,
        log: LogIdentity { cluster: String::new(), inbox: String::new(), state: String::new(), partitions: 1 },
        owner: String::new(),
    }
}

/// A stream in the making.
pub struct Stream {
    /// Its inputs.
    pub said: Vec<Said>,
    /// What they leave.
    pub state: BTreeMap<Key, Entity>,
    events: u64,
}

impl Stream {
    /// Records the stream of `clients` accounts with `rounds` deposits and withdrawals each.
    ///
    /// # Errors
    /// The policy of the fixtures cannot be signed, or a saga does not end.
    pub fn record(clients: u64, rounds: u64) -> Result<Self> {
        let mut stream = Self { said: Vec::new(), state: BTreeMap::new(), events: 0 };
        let policy = kit::policy().sign(&kit::policy_root()).context("the policy of the fixtures")?;
        stream.hear(Source::Operator, AccountsInput::Policy(policy));
        for client in 0..clients {
            let key = kit::key(&format!("client-{client}"));
            let account = kit::account(key.as_str());
            let open = OpenAccount { tenant: kit::tenant(), account, key };
            stream.hear(Source::Gateway, AccountsInput::OpenAccount(open));
        }
        for round in 0..rounds {
            for client in 0..clients {
                stream.deposit(client, round);
            }
            for client in 0..clients {
                stream.withdraw(client, round);
            }
        }
        let live = stream.state.keys().filter(|key| matches!(key, Key::Saga(_))).count();
        anyhow::ensure!(live == 0, "{live} sagas of the stream did not end");
        Ok(stream)
    }

    fn hear(&mut self, source: Source, message: AccountsInput) -> Effects {
        self.said.push((source, message.clone()));
        let mut overlay = Touched::default();
        let mut view = View::new(&self.state, &mut overlay);
        let effects = Accounts::apply(&mut view, Cause::Message { source, message }, &context());
        for (key, entity) in overlay {
            match entity {
                Some(entity) => drop(self.state.insert(key, entity)),
                None => drop(self.state.remove(&key)),
            }
        }
        self.events = self.events.saturating_add(u64::try_from(effects.events.len()).unwrap_or(0));
        effects
    }

    /// Answers the screening that `effects` ask for.
    fn clear(&mut self, effects: &Effects) {
        for ordered in &effects.commands {
            if let Command::Screen(screen) = &ordered.command {
                let versions = vec!["lists@1".to_owned()];
                let answer = Screened { command: screen.id, saga: screen.saga, finding: Finding::Clear, versions };
                self.hear(Source::Compliance, AccountsInput::Screened(answer));
            }
        }
    }

    fn deposit(&mut self, client: u64, round: u64) {
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
        let seen = self.hear(Source::Chain, AccountsInput::Deposit(fact.clone()));
        self.clear(&seen);
        self.hear(Source::Chain, AccountsInput::Deposit(DepositFact { news: DepositNews::Final, ..fact }));
    }

    fn withdraw(&mut self, client: u64, round: u64) {
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
        let asked = self.hear(Source::Gateway, AccountsInput::RequestWithdrawal(request));
        self.clear(&asked);
        let inclusion =
            Inclusion { tx, nonce: round, block: kit::block("main", 120), fee: kit::ether("0.001"), succeeded: true };
        let signed = PaymentNews::Signed { tx, nonce: round, digest: Digest(tx.0), attempt: 1 };
        let seen = PaymentNews::Seen(inclusion.clone());
        for news in [PaymentNews::Taken, signed, seen, PaymentNews::Final(inclusion)] {
            self.hear(Source::Treasury, AccountsInput::Payment(PaymentFact { saga, news }));
        }
    }
}
