//! The most that somebody with every key can do: change what the accounts machine was told, and write its state and all its events
//! anew as the product's own code makes them of it. Such a log is whole in itself. Only a head that was noted before tells.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use custos_accounts::Accounts;
use custos_domain::{Amount, IdempotencyKey};
use custos_e2e::{Hand, LogCopy};
use custos_journal::{EmbeddedJournal, Entry};
use custos_messages::accounts::{AccountsInput, RequestWithdrawal};
use custos_messages::{Headers, Keyring, Machine, Postmark, ShardName, Source, Topic};
use custos_runtime::audit::Head;
use custos_runtime::replay::{replay_into, standing};

use crate::audit::Earlier;
use crate::copies::{Case, hash_at};

const INBOX: Topic = Topic::Inbox(Machine::Accounts);
const STATE: Topic = Topic::State(Machine::Accounts);

/// What the bank asked for, as it stands in the inbox.
struct Asked {
    at: usize,
    entry: Entry,
    reply: Postmark,
    wish: RequestWithdrawal,
}

type Change = fn(&mut Vec<Entry>, &Asked, &Keyring) -> anyhow::Result<()>;

const CHANGES: [(&str, Change); 5] = [
    ("altered-by-the-inbox", |inbox, asked, keyring| {
        let wish = RequestWithdrawal { amount: Amount::new(asked.wish.amount.base_units() + 1), ..asked.wish.clone() };
        *inbox.get_mut(asked.at).context("the request")? = asked.sealed(wish, keyring);
        Ok(())
    }),
    ("removed-by-the-inbox", |inbox, asked, _| {
        inbox.remove(asked.at);
        Ok(())
    }),
    ("inserted-by-the-inbox", |inbox, asked, keyring| {
        let wish = RequestWithdrawal { key: IdempotencyKey::new("a second one")?, ..asked.wish.clone() };
        inbox.insert(asked.at + 1, asked.sealed(wish, keyring));
        Ok(())
    }),
    ("moved-in-the-inbox", |inbox, asked, _| {
        let request = inbox.remove(asked.at);
        inbox.push(Entry { at: inbox.last().and_then(|last| last.at), ..request });
        Ok(())
    }),
    ("cut-off-with-the-inbox", |inbox, asked, _| {
        inbox.truncate(asked.at);
        Ok(())
    }),
];

/// Two cases for each change: without a noted head the log is proven, with one it is found.
pub fn cases(hand: &Hand, earlier: &Earlier, folder: &Path) -> anyhow::Result<Vec<Case>> {
    let mut copy = LogCopy::of(hand)?;
    let partitions = hand.partitions(INBOX)?;
    let (partition, asked) = (0..partitions)
        .find_map(|partition| Some((partition, Asked::find(copy.records(INBOX, partition).ok()?, hand.keyring())?)))
        .context("nobody asked for a withdrawal")?;
    let heads = earlier.heads.iter().map(|head| Ok(head.parse()?)).collect::<anyhow::Result<Vec<Head>>>()?;
    let noted = heads.into_iter().find(|head| head.partition == partition).context("a noted head")?;
    let keyring = Arc::new(Keyring::clone(hand.keyring()));
    let mut cases = Vec::new();
    for (name, change) in CHANGES {
        let mut copy = copy.clone();
        change(copy.records(INBOX, partition)?, &asked, &keyring)?;
        let log = folder.join(name);
        told_anew(&mut copy, &log, (partition, partitions), &keyring)?;
        copy.write(&log)?;
        let finding = finding(copy.records(Topic::Events, partition)?, noted)?;
        let case = |trusts, finding, says| Case { name, log: log.clone(), trusts, finding, says };
        cases.push(case(Vec::new(), None, "no trusted head was given"));
        cases.push(case(earlier.heads.clone(), Some(finding), ""));
    }
    Ok(cases)
}

impl Asked {
    fn find(inbox: &[Entry], keyring: &Keyring) -> Option<Self> {
        inbox.iter().enumerate().find_map(|(at, entry)| match keyring.open_message(INBOX, &entry.record).ok()? {
            (envelope, AccountsInput::RequestWithdrawal(wish)) => {
                let reply = Postmark { time: envelope.time, reply_to: envelope.reply_to, ..Postmark::default() };
                Some(Self { at, entry: entry.clone(), reply, wish })
            }
            _ => None,
        })
    }

    /// The gateway's seal under another wish.
    fn sealed(&self, wish: RequestWithdrawal, keyring: &Keyring) -> Entry {
        let wish = AccountsInput::RequestWithdrawal(wish);
        Entry { record: keyring.seal_message(INBOX, Source::Gateway, &wish, self.reply.clone()), ..self.entry.clone() }
    }
}

/// Writes state and events of the accounts shard as its inbox now gives them, as one transaction.
fn told_anew(copy: &mut LogCopy, log: &Path, place: (u32, u32), keyring: &Arc<Keyring>) -> anyhow::Result<()> {
    let (partition, _) = place;
    copy.write(log)?;
    let mut events = Vec::new();
    let (manifest, replayed) = {
        let journal = EmbeddedJournal::open(log)?;
        let (manifest, _) = standing(&journal, ShardName { machine: Machine::Accounts, partition })?;
        let mut note = |topic: Topic, record: &custos_messages::Record| {
            if topic == Topic::Events {
                events.push(record.clone());
            }
        };
        (manifest, replay_into::<Accounts>(&journal, keyring, place, None, &mut note)?)
    };
    let template = copy.records(Topic::Events, partition)?.first().context("an event")?.clone();
    let entry = |record| Entry { record, ..template.clone() };
    let manifest = custos_runtime::shard::Manifest {
        next: replayed.next,
        last: replayed.last,
        event_sequence: replayed.event_sequence,
        event_hash: replayed.event_hash,
        state_root: replayed.state_root,
        logic: replayed.logic,
        ..manifest
    };
    let state = replayed.state.into_iter();
    let state = state.map(|(key, value)| custos_messages::Record { key, value: Some(value), headers: Headers::new() });
    *copy.records(STATE, partition)? = state.chain([manifest.record()]).map(entry).collect();
    *copy.records(Topic::Events, partition)? = events.into_iter().map(entry).collect();
    Ok(())
}

/// What an audit that trusts `noted` must say of these events.
fn finding(events: &[Entry], noted: Head) -> anyhow::Result<String> {
    let Head { partition, sequence, hash } = noted;
    let last = events.len();
    if u64::try_from(last)? < sequence {
        return Ok(format!(
            "events/{partition}: FOUND: the log ends at event {last}, and had event {sequence} when it was noted: its tail was cut off"
        ));
    }
    let (found, hash) = (hash_at(events, sequence)?, hex::encode(hash.0));
    ensure!(found != hash, "event {sequence} is what it was: nothing was rewritten");
    Ok(format!(
        "events/{partition}: FOUND: offset {}: event {sequence} has hash {found}, and had {hash} when it was noted: history was rewritten",
        sequence - 1
    ))
}
