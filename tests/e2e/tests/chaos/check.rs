//! The checker: what is not as it must be, by the chain, by the log and by the REST door, each read for itself and held against the
//! others. It shares no arithmetic with the product.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::Address;
use anyhow::Context;
use custos_domain::AssetId;
use custos_e2e::{Mined, Paid, Stream, World, only_owners_committed, read_all};
use custos_messages::events::{Event, EventBody, JournalEntry, Request, Side};
use custos_messages::{Message, Topic};

/// What was found.
#[derive(Default)]
pub struct Verdict {
    /// Payments to clients' receivers that are in the chain.
    pub payments: usize,
    /// Transactions of shards, each by its owner.
    pub transactions: u64,
    /// What is not as it must be, in words.
    pub found: Vec<String>,
    sagas: usize,
    entries: usize,
}

impl Verdict {
    /// An error is a violation, too: something did not come to its end.
    pub fn note(&mut self, outcome: anyhow::Result<()>) {
        self.found.extend(outcome.err().map(|error| format!("{error:#}")));
    }

    /// What was looked at, in words.
    pub fn told(&self) -> String {
        format!("{} sagas and {} journal entries in the log", self.sagas, self.entries)
    }
}

/// Looks at everything.
pub async fn all(world: &World, stream: &mut Stream) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    match stream.differences(world).await {
        Ok(found) => verdict.found.extend(found),
        Err(error) => verdict.found.push(format!("{error:#}")),
    }
    chain(world, stream, &mut verdict).await?;
    log(world, stream, &mut verdict).await?;
    door(world, &mut verdict).await?;
    Ok(verdict)
}

/// What the hot wallet has paid is what was asked for, each once, and nothing else.
async fn chain(world: &World, stream: &Stream, verdict: &mut Verdict) -> anyhow::Result<()> {
    let mined = world.chain.mined(world.hot).await?;
    let asked = stream.asked().map(|(to, asset, amount)| ((asset == "ETH", to), amount)).collect();
    verdict.paid(&mined, asked, (world.hot, world.token));
    Ok(())
}

/// Every saga ended once; a withdrawal has one nonce and a nonce one withdrawal; entries sum to zero; only owners committed.
async fn log(world: &World, stream: &Stream, verdict: &mut Verdict) -> anyhow::Result<()> {
    let mut events = Vec::new();
    for entry in read_all(world, Topic::Events).await?.into_iter().flatten() {
        let kind = entry.record.headers.get("ce_type").context("an event without a type")?;
        let value = entry.record.value.as_deref().context("an event of nothing")?;
        events.push(Event::decode(std::str::from_utf8(kind)?, value)?);
    }
    verdict.happened(events, stream.asked().count());
    match only_owners_committed(world).await {
        Ok((transactions, _)) => verdict.transactions = transactions,
        Err(error) => verdict.found.push(format!("{error:#}")),
    }
    Ok(())
}

/// What is known of one saga.
#[derive(Default)]
struct Saga {
    withdrawal: bool,
    ended: usize,
    nonces: BTreeSet<u64>,
}

impl Verdict {
    /// Holds what is in the chain against what was asked for, by whether it is ether, and receiver.
    fn paid(&mut self, mined: &[Mined], mut asked: BTreeMap<(bool, Address), u128>, (hot, ours): (Address, Address)) {
        for Mined { hash, succeeded, paid } in mined {
            let (ether, to, amount) = match *paid {
                // A transaction that fills a gap in the nonces pays nothing, to itself.
                Paid::Ether { to, amount: 0 } if to == hot => continue,
                Paid::Ether { to, amount } => (true, to, amount),
                Paid::Token { token, to, amount } if token == ours => (false, to, amount),
                Paid::Token { token, .. } => {
                    self.found.push(format!("{hash}: a transfer of the unknown token {token}"));
                    continue;
                }
            };
            if !succeeded {
                self.found.push(format!("{hash}: failed in its block"));
                continue;
            }
            match asked.remove(&(ether, to)) {
                Some(asked) if asked == amount => self.payments += 1,
                Some(asked) => self.found.push(format!("{hash}: {to} was to get {asked} and got {amount}")),
                None => self.found.push(format!("{hash}: {to} got {amount} a second time, or unasked")),
            }
        }
        self.found.extend(asked.into_iter().map(|((_, to), amount)| format!("{to} was never paid {amount}")));
    }

    /// Looks at what the log says has happened.
    fn happened(&mut self, events: Vec<Event>, withdrawals_asked: usize) {
        let mut sagas: BTreeMap<String, Saga> = BTreeMap::new();
        for event in events {
            if let EventBody::Posted(posted) = &event.body {
                self.posted(posted);
            }
            let Some(saga) = event.saga else { continue };
            let known = sagas.entry(saga.to_string()).or_default();
            match event.body {
                EventBody::Started(request) => known.withdrawal = matches!(request, Request::Withdrawal { .. }),
                EventBody::Ended(_) => known.ended += 1,
                EventBody::PaymentSigned { nonce, .. } => {
                    known.nonces.insert(nonce);
                }
                _ => {}
            }
        }
        let mut used: BTreeMap<u64, &String> = BTreeMap::new();
        for (id, saga) in &sagas {
            if saga.ended != 1 {
                self.found.push(format!("saga {id} ended {} times", saga.ended));
            }
            if saga.nonces.len() > 1 {
                self.found.push(format!("saga {id} was signed at several nonces: {:?}", saga.nonces));
            }
            for nonce in &saga.nonces {
                if let Some(other) = used.insert(*nonce, id) {
                    self.found.push(format!("nonce {nonce} was signed for {other} and for {id}"));
                }
            }
        }
        let withdrawals = sagas.values().filter(|saga| saga.withdrawal).count();
        if withdrawals != withdrawals_asked {
            self.found.push(format!("{withdrawals_asked} withdrawals were asked for, the log has {withdrawals}"));
        }
        self.sagas = sagas.len();
    }

    fn posted(&mut self, posted: &JournalEntry) {
        self.entries += 1;
        let mut sums: BTreeMap<&AssetId, (u128, u128)> = BTreeMap::new();
        for leg in &posted.legs {
            let (debit, credit) = sums.entry(&leg.asset).or_default();
            let side = if leg.side == Side::Debit { debit } else { credit };
            *side += leg.amount.base_units();
        }
        if posted.legs.is_empty() || sums.values().any(|(debit, credit)| debit != credit) {
            self.found.push(format!("an entry that does not sum to zero: {posted:?}"));
        }
    }
}

/// The books say what the chain says.
async fn door(world: &World, verdict: &mut Verdict) -> anyhow::Result<()> {
    for asset in ["ETH", "TUSD"] {
        let books = world.bank.books(asset).await?;
        let difference = books.get("difference").and_then(serde_json::Value::as_str).unwrap_or("unknown");
        if difference.chars().any(|digit| digit != '0' && digit != '.') {
            verdict.found.push(format!("books and chain differ by {difference} {asset}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy::primitives::TxHash;
    use custos_domain::{AccountId, Amount, Digest, SagaId, Timestamp};
    use custos_messages::events::{Ending, EntryReason, HouseBook, LedgerAccount, Leg};

    use super::*;

    const HOT: Address = Address::repeat_byte(1);
    const TOKEN: Address = Address::repeat_byte(2);
    const ANNA: Address = Address::repeat_byte(3);
    const BERT: Address = Address::repeat_byte(4);

    fn mined(byte: u8, paid: Paid) -> Mined {
        Mined { hash: TxHash::repeat_byte(byte), succeeded: true, paid }
    }

    fn ether(byte: u8, to: Address, amount: u128) -> Mined {
        mined(byte, Paid::Ether { to, amount })
    }

    /// Anna is to get 5 wei, Bert 7 units of the token: what is found, and how many payments count.
    fn paid(chain: &[Mined]) -> (Vec<String>, usize) {
        let mut verdict = Verdict::default();
        verdict.paid(chain, BTreeMap::from([((true, ANNA), 5), ((false, BERT), 7)]), (HOT, TOKEN));
        (verdict.found, verdict.payments)
    }

    #[test]
    fn payments_that_are_missing_doubled_unasked_wrong_or_failed_are_found() {
        let tokens = |byte| mined(byte, Paid::Token { token: TOKEN, to: BERT, amount: 7 });
        let good = [ether(1, ANNA, 5), tokens(2), ether(3, HOT, 0)];
        assert_eq!(paid(&good), (Vec::new(), 2), "the gap in the nonces was filled");
        let finds = |chain: &[Mined], words: &str| {
            let (found, _) = paid(chain);
            assert!(matches!(found.as_slice(), [only] if only.contains(words)), "{words}: {found:?}");
        };
        finds(&good[..1], "was never paid 7");
        finds(&[&good[..], &[ether(4, ANNA, 5)]].concat(), "a second time");
        finds(&[&good[..], &[tokens(4)]].concat(), "a second time");
        finds(&[&good[..], &[ether(4, HOT, 1)]].concat(), "unasked");
        finds(&[ether(1, ANNA, 6), tokens(2)], "was to get 5 and got 6");
        finds(&[&good[..], &[Mined { succeeded: false, ..ether(4, BERT, 1) }]].concat(), "failed");
        finds(&[&good[..], &[mined(4, Paid::Token { token: ANNA, to: BERT, amount: 1 })]].concat(), "unknown token");
    }

    fn event(saga: u8, body: EventBody) -> Event {
        let account = AccountId([9; 16]);
        Event { account, sequence: 1, at: Timestamp(0), saga: Some(SagaId { account, local: [saga; 16] }), body }
    }

    fn signed(saga: u8, nonce: u64) -> Event {
        let digest = Digest::of_parts("a test", &[]);
        event(saga, EventBody::PaymentSigned { tx: custos_domain::TxHash([saga; 32]), nonce, digest, attempt: 1 })
    }

    fn found(events: Vec<Event>) -> Vec<String> {
        let mut verdict = Verdict::default();
        verdict.happened(events, 0);
        verdict.found
    }

    #[test]
    fn sagas_that_do_not_end_once_and_nonces_used_twice_are_found() {
        let ended = |saga| event(saga, EventBody::Ended(Ending::Completed));
        assert_eq!(found(vec![signed(1, 0), signed(1, 0), ended(1), signed(2, 1), ended(2)]), Vec::<String>::new());
        assert!(found(vec![signed(1, 0)])[0].contains("ended 0 times"));
        assert!(found(vec![ended(1), ended(1)])[0].contains("ended 2 times"));
        assert!(found(vec![signed(1, 0), signed(1, 1), ended(1)])[0].contains("several nonces"));
        assert!(found(vec![signed(1, 0), ended(1), signed(2, 0), ended(2)])[0].contains("nonce 0"));
        let mut verdict = Verdict::default();
        verdict.happened(Vec::new(), 1);
        assert!(verdict.found[0].contains("1 withdrawals were asked for, the log has 0"));
    }

    #[test]
    fn an_entry_that_does_not_sum_to_zero_is_found() {
        let leg = |side, units| Leg {
            ledger: LedgerAccount::House { partition: 0, book: HouseBook::Gas },
            asset: AssetId::new("ETH").unwrap(),
            amount: Amount::new(units),
            side,
        };
        let entry = |legs| JournalEntry { reason: EntryReason::HouseGas, block: None, legs };
        let found = |legs| {
            let mut verdict = Verdict::default();
            verdict.posted(&entry(legs));
            verdict.found.len()
        };
        assert_eq!(found(vec![leg(Side::Debit, 3), leg(Side::Credit, 2), leg(Side::Credit, 1)]), 0);
        assert_eq!(found(vec![leg(Side::Debit, 3), leg(Side::Credit, 2)]), 1);
        assert_eq!(found(vec![]), 1);
    }
}
