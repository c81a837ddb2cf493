//! The signing guard's database, as a model: records survive the process, and a write that was not acknowledged may be there or not.
//!
//! What it decides is decided by the guard's own rule. The negative control lets everything pass.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use custos_domain::{Amount, ChainId, CommandId, Digest, IntentId, WalletId};
use custos_messages::treasury::SignRefusal;
use custos_wallet::{
    Binding, Checkpoint, CheckpointStore, Claim, FirstLimit, Grant, Guard, Holder, Known, Mark, Outcome, SignedBytes,
    Verdict, Wallet, WalletError, Whose, rule,
};
use futures::executor::block_on;

use crate::chance::Chance;
use crate::diary::Diary;
use crate::surroundings::house::{Defence, House};

const DAY_MS: u64 = 86_400_000;

/// How often a call of the database fails, once in so many: never if zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuardFaults {
    /// Nothing was done.
    pub refused: u64,
    /// It was done, and the answer is lost.
    pub unanswered: u64,
}

/// The database. Clones are the same one.
#[derive(Clone)]
pub struct GuardBase(Arc<Mutex<Base>>);

struct Base {
    records: Vec<Record>,
    intents: BTreeMap<IntentId, Bound>,
    attempts: BTreeMap<Digest, usize>,
    refused: BTreeMap<CommandId, SignRefusal>,
    policy_version: u32,
    chance: Chance,
    faults: GuardFaults,
    diary: Diary,
}

/// A signature that exists.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it pays.
    pub intent: IntentId,
    /// Its nonce.
    pub nonce: u64,
    /// The bytes.
    pub signed: SignedBytes,
    fees: (Amount, Amount),
    running: Digest,
}

#[derive(Clone)]
struct Bound {
    content: Digest,
    wallet: WalletId,
    chain: ChainId,
    nonce: u64,
    house_day: Option<u64>,
}

/// The way of one signer process to the database.
#[derive(Clone)]
pub struct SimulatedGuard {
    base: GuardBase,
    without: Option<Defence>,
}

/// A signer's checkpoint file: survives the process.
#[derive(Clone, Debug, Default)]
pub struct CheckpointPaper(Arc<Mutex<Option<String>>>);

impl GuardBase {
    /// An empty database.
    #[must_use]
    pub fn new(chance: Chance, faults: GuardFaults, diary: Diary) -> Self {
        Self(Arc::new(Mutex::new(Base {
            records: Vec::new(),
            intents: BTreeMap::new(),
            attempts: BTreeMap::new(),
            refused: BTreeMap::new(),
            policy_version: 0,
            chance,
            faults,
            diary,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Base> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on no call fails.
    pub fn heal(&self) {
        self.lock().faults = GuardFaults::default();
    }

    /// Every signature that exists, oldest first.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    /// A signer process on this database.
    ///
    /// # Errors
    /// The database fails at once, or was rolled back.
    pub fn signer(&self, house: &House, paper: &CheckpointPaper) -> Result<Wallet<SimulatedGuard>, WalletError> {
        let guard = SimulatedGuard { base: self.clone(), without: house.without };
        let checkpoint = Checkpoint::kept_in(paper.clone())?;
        block_on(Wallet::with_checkpoint(house.wallet(), Arc::clone(&house.keys), guard, checkpoint))
    }
}

impl Base {
    fn head(&self) -> Mark {
        let count = u64::try_from(self.records.len()).unwrap_or(u64::MAX);
        let running = self.records.last().map_or(Mark::START.running, |record| record.running);
        Mark { count, running, policy_version: self.policy_version }
    }

    fn prove(&self, seen: &Mark) -> Result<(), WalletError> {
        let database = self.head().count;
        let place = usize::try_from(seen.count).ok().and_then(|count| count.checked_sub(1));
        match place.map(|place| self.records.get(place)) {
            None => {}
            Some(None) => return Err(WalletError::RolledBack { checkpoint: seen.count, database }),
            Some(Some(record)) if record.running != seen.running => {
                return Err(WalletError::OtherHistory { checkpoint: seen.count });
            }
            Some(Some(_)) => {}
        }
        if self.policy_version < seen.policy_version {
            let (checkpoint, database) = (seen.policy_version, self.policy_version);
            return Err(WalletError::PolicyRolledBack { checkpoint, database });
        }
        Ok(())
    }

    fn recalled(&self, attempt: &Digest) -> Option<SignedBytes> {
        self.attempts.get(attempt).and_then(|place| self.records.get(*place)).map(|record| record.signed.clone())
    }

    /// What was decided before, by whichever signer.
    fn decided(&self, order: &CommandId, attempt: &Digest) -> Option<Verdict> {
        let signed = self.recalled(attempt).map(|signed| Outcome::Granted(Grant::Same, signed));
        let outcome = signed.or_else(|| self.refused.get(order).copied().map(Outcome::Refused))?;
        Some(Verdict { outcome, head: self.head() })
    }

    fn refuse(&mut self, order: CommandId, reason: SignRefusal) -> Result<Verdict, WalletError> {
        self.diary.note("guard", format_args!("refuses {order}: {reason:?}"));
        self.diary.sometimes("the guard refuses a signature");
        self.refused.insert(order, reason);
        if self.chance.once_in(self.faults.unanswered) {
            return Err(failed("commit"));
        }
        Ok(Verdict { outcome: Outcome::Refused(reason), head: self.head() })
    }

    fn known(&self, claim: &Claim) -> Known {
        let highest = self.highest(&claim.intent);
        let binding = self.intents.get(&claim.intent).map(|bound| Binding {
            content: bound.content,
            wallet: bound.wallet,
            chain: bound.chain.clone(),
            nonce: bound.nonce,
            highest,
        });
        let today = house_day(claim);
        let houses = self.intents.values().filter(|bound| bound.wallet == claim.wallet && bound.house_day == today);
        let house_today = if today.is_some() { u64::try_from(houses.count()).unwrap_or(u64::MAX) } else { 0 };
        Known { binding, holder: self.holder(claim), house_today, policy_version: self.policy_version }
    }

    /// Another intent at the claim's nonce, the house's before a client's.
    fn holder(&self, claim: &Claim) -> Option<Holder> {
        let there = |bound: &Bound| bound.wallet == claim.wallet && bound.nonce == claim.nonce;
        let others = self.intents.iter().filter(|(intent, bound)| **intent != claim.intent && there(bound));
        let (intent, bound) = others.max_by_key(|(_, bound)| bound.house_day)?;
        let whose = if bound.house_day.is_some() { Whose::House } else { Whose::Client };
        Some(Holder { whose, highest: self.highest(intent) })
    }

    /// The highest of each fee field among the attempts of an intent.
    fn highest(&self, intent: &IntentId) -> (Amount, Amount) {
        let fees = self.records.iter().filter(|record| record.intent == *intent).map(|record| record.fees);
        fees.fold((Amount::ZERO, Amount::ZERO), |(fee, tip), more| (fee.max(more.0), tip.max(more.1)))
    }

    fn record(&mut self, claim: &Claim, signed: &SignedBytes) {
        let Claim { intent, content, wallet, chain, nonce, .. } = claim.clone();
        let house_day = house_day(claim);
        self.intents.entry(intent).or_insert(Bound { content, wallet, chain, nonce, house_day });
        self.attempts.insert(claim.attempt, self.records.len());
        let before = self.head();
        let count = before.count.saturating_add(1).to_be_bytes();
        let running =
            Digest::of_parts("simulated guard record", &[&before.running.0, &count, &claim.attempt.0, &signed.raw]);
        let fees = (claim.max_fee_per_gas, claim.max_priority_fee_per_gas);
        self.records.push(Record { intent, nonce, signed: signed.clone(), fees, running });
    }

    /// Whether a call fails before anything is done.
    fn refuses(&mut self) -> Result<(), WalletError> {
        if self.chance.once_in(self.faults.refused) { Err(failed("take its turn")) } else { Ok(()) }
    }
}

impl Guard for SimulatedGuard {
    async fn recall(&self, attempt: &Digest, seen: &Mark) -> Result<(Option<SignedBytes>, Mark), WalletError> {
        let mut base = self.base.lock();
        base.refuses()?;
        base.prove(seen)?;
        Ok((base.recalled(attempt), base.head()))
    }

    async fn policy_shown(&self, version: u32, seen: &Mark) -> Result<u32, WalletError> {
        let mut base = self.base.lock();
        base.refuses()?;
        base.prove(seen)?;
        base.policy_version = base.policy_version.max(version);
        Ok(base.policy_version)
    }

    async fn refuse(
        &self,
        order: &CommandId,
        attempt: &Digest,
        reason: SignRefusal,
        seen: &Mark,
    ) -> Result<Verdict, WalletError> {
        let mut base = self.base.lock();
        base.refuses()?;
        base.prove(seen)?;
        match base.decided(order, attempt) {
            Some(verdict) => Ok(verdict),
            None => base.refuse(*order, reason),
        }
    }

    async fn claim<S>(&self, claim: &Claim, seen: &Mark, sign: S) -> Result<Verdict, WalletError>
    where
        S: FnOnce() -> Result<SignedBytes, WalletError> + Send,
    {
        let mut base = self.base.lock();
        base.refuses()?;
        base.policy_version = base.policy_version.max(claim.policy_version);
        base.prove(seen)?;
        if let Some(verdict) = base.decided(&claim.order, &claim.attempt) {
            return Ok(verdict);
        }
        let grant = match rule(claim, &base.known(claim)) {
            Ok(grant) => grant,
            Err(_) if self.without == Some(Defence::Guard) => Grant::Fresh,
            Err(reason) => return base.refuse(claim.order, reason),
        };
        let signed = sign()?;
        base.record(claim, &signed);
        base.diary.note("guard", format_args!("{grant:?} signature of {} at nonce {}", claim.intent, claim.nonce));
        if grant == Grant::Replacement {
            base.diary.sometimes("a payment is replaced at a higher fee");
        }
        let Base { chance, faults, .. } = &mut *base;
        if chance.once_in(faults.unanswered) {
            base.diary.sometimes("a signature is on record and its answer lost");
            return Err(failed("commit"));
        }
        Ok(Verdict { outcome: Outcome::Granted(grant, signed), head: base.head() })
    }
}

fn house_day(claim: &Claim) -> Option<u64> {
    match claim.first {
        FirstLimit::Until(_) => None,
        FirstLimit::PerDay(_) => claim.at.0.checked_div(DAY_MS),
    }
}

const fn failed(operation: &'static str) -> WalletError {
    WalletError::Guard { operation, source: sqlx::Error::PoolTimedOut }
}

impl CheckpointStore for CheckpointPaper {
    fn read(&self) -> io::Result<String> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        text.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn replace(&self, text: String) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        Box::pin(std::future::ready(Ok(())))
    }

    fn path(&self) -> &Path {
        Path::new("paper")
    }
}
