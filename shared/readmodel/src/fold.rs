//! What events change in the tables: a pure fold over the rows that a batch touches.
//!
//! Invariant: the same events give the same rows, however they are cut into batches.

use std::collections::{BTreeMap, BTreeSet};

use custos_domain::SagaId;
use custos_messages::Message as _;
use custos_messages::accounts::{Deposit, Inclusion};
use custos_messages::events::{Ending, EventBody, JournalEntry, LedgerAccount, Leg, Side, StepPhase};

use crate::cell::{Cell, int, maybe_bytes, maybe_saga, maybe_text};
use crate::limbs::Limbs;
use crate::names::{DepositStatus, Named as _, OperationStatus, PaymentStatus, refusal_code};
use crate::rows::{DepositRow, OperationRow, PaymentRow};
use crate::{Arrival, ReadError};

/// The step at which officers are asked.
const APPROVE: &str = "approve";

/// Everything that a batch changes. Append-only tables are rows to insert; the others are rows as they stand afterwards.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) operations: BTreeMap<SagaId, OperationRow>,
    pub(crate) payments: BTreeMap<SagaId, PaymentRow>,
    pub(crate) deposits: BTreeMap<(String, [u8; 32], u32), DepositRow>,
    pub(crate) balances: BTreeMap<(Vec<u8>, &'static str, String), Limbs>,
    pub(crate) marks: BTreeMap<(u32, String, &'static str), Vec<Cell>>,
    pub(crate) accounts: Vec<Vec<Cell>>,
    pub(crate) addresses: Vec<Vec<Cell>>,
    pub(crate) steps: Vec<Vec<Cell>>,
    pub(crate) signatures: Vec<Vec<Cell>>,
    pub(crate) transfers: Vec<Vec<Cell>>,
    pub(crate) approvals: Vec<Vec<Cell>>,
    pub(crate) decisions: Vec<Vec<Cell>>,
    pub(crate) screenings: Vec<Vec<Cell>>,
    pub(crate) alarms: Vec<Vec<Cell>>,
    pub(crate) policies: Vec<Vec<Cell>>,
    pub(crate) entries: Vec<Vec<Cell>>,
    pub(crate) legs: Vec<Vec<Cell>>,
    /// Per partition the first and last sequence of an entry.
    pub(crate) unsealed: BTreeMap<u32, (u64, u64)>,
}

/// The sagas whose rows a batch may change.
pub(crate) fn sagas(batch: &[&Arrival]) -> BTreeSet<SagaId> {
    batch.iter().filter_map(|arrival| arrival.event.saga).collect()
}

/// The saga in whose story the event stands.
pub(crate) fn story_of(arrival: &Arrival) -> Option<SagaId> {
    match &arrival.event.body {
        EventBody::TransferReceived { from, .. } => Some(*from),
        _ => arrival.event.saga,
    }
}

impl Changes {
    /// Folds one event.
    pub(crate) fn take(&mut self, arrival: &Arrival) -> Result<(), ReadError> {
        self.move_operation(arrival);
        let event = &arrival.event;
        match &event.body {
            EventBody::AccountOpened { tenant, key } => {
                let [partition, sequence] = arrival.place_cells()?;
                let account = event.account.as_bytes().into();
                self.accounts.push(vec![
                    account,
                    tenant.as_str().into(),
                    key.as_str().into(),
                    arrival.time()?,
                    partition,
                    sequence,
                ]);
            }
            // Deposits have their row from the facts about them; the others live in `operations` alone.
            EventBody::Started(_) | EventBody::Ended(_) | EventBody::Parked { .. } => {}
            // Its entries carry the money; a payment that ended stays as it ended.
            EventBody::HouseSpent(_) => {}
            EventBody::Moved { step, phase } => {
                if let Some(saga) = event.saga {
                    let what = [saga.into(), step.as_str().into(), phase.word().into(), arrival.time()?];
                    self.steps.push(arrival.row(what)?);
                }
            }
            EventBody::DepositSeen(deposit) => self.deposit(arrival, deposit, DepositStatus::Pending),
            EventBody::DepositUnseen(deposit) => self.deposit(arrival, deposit, DepositStatus::Unseen),
            EventBody::DepositCredited(deposit) => self.deposit(arrival, deposit, DepositStatus::Credited),
            EventBody::DepositQuarantined(deposit) => self.deposit(arrival, deposit, DepositStatus::Quarantined),
            EventBody::DepositReversed(deposit) => self.deposit(arrival, deposit, DepositStatus::Reversed),
            EventBody::PaymentTaken { .. }
            | EventBody::PaymentSigned { .. }
            | EventBody::PaymentSeen(_)
            | EventBody::PaymentUnseen(_)
            | EventBody::PaymentFinal(_)
            | EventBody::PaymentImpossible(_) => self.payment(arrival)?,
            EventBody::Posted(entry) => self.post(arrival, entry)?,
            EventBody::TransferReceived { from, asset, amount } => {
                self.transfers.push(arrival.row([
                    (*from).into(),
                    from.account.as_bytes().into(),
                    event.account.as_bytes().into(),
                    asset.as_str().into(),
                    (*amount).into(),
                    arrival.time()?,
                ])?);
            }
            EventBody::Screened { .. } | EventBody::ApprovalAsked { .. } | EventBody::Decided { .. } => {
                self.judged(arrival)?
            }
            EventBody::AddressIssued { .. }
            | EventBody::Marked(_)
            | EventBody::Alarm { .. }
            | EventBody::PolicyAdopted { .. } => self.noted(arrival)?,
        }
        Ok(())
    }

    /// Terminal states absorb: what comes after an ending is in the story and changes the operation's state no more.
    fn move_operation(&mut self, arrival: &Arrival) {
        let event = &arrival.event;
        let Some(saga) = event.saga.filter(|saga| saga.account == event.account) else { return };
        if let EventBody::Started(request) = &event.body {
            let begin = || OperationRow::begin(saga, request, event, arrival.partition, arrival.place.sequence);
            self.operations.entry(saga).or_insert_with(begin);
        }
        let Some(row) = self.operations.get_mut(&saga) else { return };
        row.updated_at = event.at;
        row.updated_sequence = arrival.place.sequence;
        if row.status.is_final() {
            return;
        }
        match &event.body {
            EventBody::Moved { step, phase } => {
                row.status = OperationStatus::Running;
                row.parked_code = None;
                row.step = Some(step.clone());
                row.phase = Some(*phase);
                if step == APPROVE && *phase != StepPhase::Asked {
                    row.awaits_approval = false;
                }
            }
            EventBody::Parked { step, code } => {
                row.status = OperationStatus::Parked;
                row.step = Some(step.clone());
                row.parked_code = Some(code.clone());
            }
            EventBody::ApprovalAsked { .. } => row.awaits_approval = true,
            EventBody::PaymentTaken { .. } => row.awaits_approval = false,
            EventBody::Ended(ending) => {
                row.awaits_approval = false;
                row.parked_code = None;
                row.ended_at = Some(event.at);
                row.ended_sequence = Some(arrival.place.sequence);
                (row.status, row.refusal) = match ending {
                    Ending::Completed => (OperationStatus::Completed, None),
                    Ending::Refused(refusal) => (OperationStatus::Refused, Some(refusal_code(refusal).to_owned())),
                };
            }
            _ => {}
        }
    }

    fn deposit(&mut self, arrival: &Arrival, deposit: &Deposit, status: DepositStatus) {
        let event = &arrival.event;
        let key = (deposit.chain.as_str().to_owned(), deposit.tx.0, deposit.index);
        let row = self.deposits.entry(key).or_insert_with(|| DepositRow {
            deposit: deposit.clone(),
            account: event.account,
            saga: event.saga,
            status,
            seen_at: event.at,
            updated_at: event.at,
            partition: arrival.partition,
            sequence: arrival.place.sequence,
        });
        row.deposit.block = deposit.block;
        row.saga = event.saga.or(row.saga);
        row.status = status;
        row.updated_at = event.at;
    }

    fn payment(&mut self, arrival: &Arrival) -> Result<(), ReadError> {
        let event = &arrival.event;
        let Some(saga) = event.saga else { return Ok(()) };
        if let EventBody::PaymentSigned { tx, nonce, digest, attempt } = &event.body {
            self.signatures.push(arrival.row([
                saga.into(),
                (*attempt).into(),
                tx.as_bytes().into(),
                int("nonce", *nonce)?,
                digest.as_bytes().into(),
                arrival.time()?,
            ])?);
        }
        let row = self.payments.entry(saga).or_insert_with(|| PaymentRow::begin(saga, event.at));
        if matches!(row.status, PaymentStatus::Final | PaymentStatus::Impossible) {
            return Ok(());
        }
        row.updated_at = event.at;
        match &event.body {
            EventBody::PaymentTaken { intent } => row.intent = Some(*intent),
            EventBody::PaymentSigned { tx, nonce, .. } => {
                row.attempts = row.attempts.saturating_add(1);
                // A late signature does not hide the transaction that is already in a block.
                if row.included.is_none() {
                    (row.status, row.tx, row.nonce) = (PaymentStatus::Signed, Some(*tx), Some(*nonce));
                }
            }
            EventBody::PaymentSeen(inclusion) => row.include(PaymentStatus::Seen, inclusion),
            EventBody::PaymentUnseen(_) => (row.status, row.included) = (PaymentStatus::Signed, None),
            EventBody::PaymentFinal(inclusion) => row.include(PaymentStatus::Final, inclusion),
            EventBody::PaymentImpossible(inclusion) => row.include(PaymentStatus::Impossible, inclusion),
            _ => {}
        }
        Ok(())
    }

    fn post(&mut self, arrival: &Arrival, entry: &JournalEntry) -> Result<(), ReadError> {
        let event = &arrival.event;
        let (partition, sequence) = (arrival.partition, arrival.place.sequence);
        let chain = maybe_text(entry.block.as_ref().map(|(chain, _)| chain.as_str()));
        let number = crate::cell::maybe_int("block", entry.block.as_ref().map(|(_, block)| block.number))?;
        let count = u64::try_from(entry.legs.len()).unwrap_or(u64::MAX);
        self.entries.push(arrival.row([
            event.account.as_bytes().into(),
            maybe_saga(event.saga),
            entry.reason.word().into(),
            chain.clone(),
            number.clone(),
            maybe_bytes(entry.block.as_ref().map(|(_, block)| block.hash.as_bytes())),
            arrival.time()?,
            int("legs", count)?,
            Cell::Int(Some(0)),
        ])?);
        for (leg, at) in entry.legs.iter().zip(0_u32..) {
            let (holder, book) = holder_and_book(&leg.ledger);
            let [a0, a1, a2, a3] = Limbs::of(leg.amount, Side::Debit).0;
            let side = Cell::from(matches!(leg.side, Side::Credit));
            self.legs.push(arrival.row([
                at.into(),
                holder.as_slice().into(),
                book.into(),
                leg.asset.as_str().into(),
                side,
                a0.into(),
                a1.into(),
                a2.into(),
                a3.into(),
                chain.clone(),
                number.clone(),
            ])?);
            self.add_to_balance(holder, book, leg)?;
        }
        let range = self.unsealed.entry(partition).or_insert((sequence, sequence));
        range.1 = sequence;
        Ok(())
    }

    fn add_to_balance(&mut self, holder: Vec<u8>, book: &'static str, leg: &Leg) -> Result<(), ReadError> {
        let balance = self.balances.entry((holder, book, leg.asset.as_str().to_owned())).or_default();
        let overflow = ReadError::Column { column: "balances", problem: "a batch moves more than its columns hold" };
        *balance = balance.plus(Limbs::of(leg.amount, leg.side)).ok_or(overflow)?;
        Ok(())
    }

    fn judged(&mut self, arrival: &Arrival) -> Result<(), ReadError> {
        let saga = arrival.event.saga;
        match &arrival.event.body {
            EventBody::Screened { step, clear, codes, versions } => self.screenings.push(arrival.row([
                maybe_saga(saga),
                step.as_str().into(),
                (*clear).into(),
                codes.join("\n").as_str().into(),
                versions.join("\n").as_str().into(),
                arrival.time()?,
            ])?),
            EventBody::ApprovalAsked { intent, digest, quorum } => {
                if let Some(saga) = saga {
                    let [partition, sequence] = arrival.place_cells()?;
                    let (digest, intent) = (digest.as_bytes().into(), intent.as_slice().into());
                    let quorum = (*quorum).into();
                    self.approvals.push(vec![saga.into(), digest, intent, quorum, arrival.time()?, partition, sequence]);
                }
            }
            EventBody::Decided { officer, verdict, digest, policy_version } => {
                if let Some(saga) = saga {
                    self.decisions.push(arrival.row([
                        saga.into(),
                        officer.as_str().into(),
                        verdict.word().into(),
                        digest.as_bytes().into(),
                        (*policy_version).into(),
                        arrival.time()?,
                    ])?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn noted(&mut self, arrival: &Arrival) -> Result<(), ReadError> {
        let event = &arrival.event;
        let [partition, sequence] = arrival.place_cells()?;
        match &event.body {
            EventBody::AddressIssued { chain, address, wallet, path, watched_from } => self.addresses.push(vec![
                chain.as_str().into(),
                address.0.as_slice().into(),
                event.account.as_bytes().into(),
                maybe_saga(event.saga),
                wallet.as_bytes().into(),
                path.as_str().into(),
                int("block", watched_from.number)?,
                watched_from.hash.as_bytes().into(),
                arrival.time()?,
                partition,
                sequence,
            ]),
            EventBody::Marked(mark) => {
                let path = mark.path.word();
                let key = (arrival.partition, mark.chain.as_str().to_owned(), path);
                let number = int("block", mark.block.number)?;
                let hash = mark.block.hash.as_bytes().into();
                let row = vec![partition, mark.chain.as_str().into(), path.into(), number, hash, arrival.time()?];
                self.marks.insert(key, row);
            }
            EventBody::Alarm { code, subject } => self.alarms.push(arrival.row([
                event.account.as_bytes().into(),
                maybe_saga(event.saga),
                code.word().into(),
                subject.as_str().into(),
                arrival.time()?,
            ])?),
            EventBody::PolicyAdopted { version, digest } => {
                self.policies.push(vec![partition, (*version).into(), digest.as_bytes().into(), arrival.time()?, sequence]);
            }
            _ => {}
        }
        Ok(())
    }
}

impl PaymentRow {
    fn include(&mut self, status: PaymentStatus, inclusion: &Inclusion) {
        self.status = status;
        self.tx = Some(inclusion.tx);
        self.nonce = Some(inclusion.nonce);
        self.included = Some(inclusion.clone());
    }
}

/// The holder's bytes and the book's word: an account's sixteen bytes, or four bytes of a partition for the house.
pub(crate) fn holder_and_book(ledger: &LedgerAccount) -> (Vec<u8>, &'static str) {
    match ledger {
        LedgerAccount::Client { account, book } => (account.as_bytes().to_vec(), book.word()),
        LedgerAccount::House { partition, book } => (partition.to_be_bytes().to_vec(), book.word()),
    }
}

impl Arrival {
    fn time(&self) -> Result<Cell, ReadError> {
        int("time", self.event.at.0)
    }

    fn place_cells(&self) -> Result<[Cell; 2], ReadError> {
        Ok([self.partition.into(), int("sequence", self.place.sequence)?])
    }

    /// A row that begins with the event's place.
    fn row<const N: usize>(&self, rest: [Cell; N]) -> Result<Vec<Cell>, ReadError> {
        Ok(self.place_cells()?.into_iter().chain(rest).collect())
    }

    /// The event's own row, with the feed id that it is given.
    pub(crate) fn event_row(&self, feed_id: i64) -> Result<Vec<Cell>, ReadError> {
        self.row([
            feed_id.into(),
            self.event.account.as_bytes().into(),
            int("sequence", self.event.sequence)?,
            maybe_saga(story_of(self)),
            self.event.kind().into(),
            self.time()?,
            self.payload.as_slice().into(),
            self.place.hash.as_bytes().into(),
        ])
    }
}
