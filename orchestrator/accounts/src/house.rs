//! The house's side of a nonce: what no client pays for is booked here, once, under the block that shows it.
//!
//! Invariants: the books hold exactly what treasury said last about a nonce; a repeat or a lower version changes nothing; what is no
//! longer true is taken back under its own block before what is true is entered. What a payment's saga settled is never edited: it
//! is taken back and entered again here, and only the difference stays. Deliberately absent: nonces and their order, which are
//! treasury's.

use custos_messages::accounts::{AlarmCode, HouseSpent, Inclusion};
use custos_messages::events::{EntryReason, EventBody, HouseBook};

use crate::desk::Desk;
use crate::ledger::{LEDGER_FAULT, LedgerError};
use crate::state::{Entity, Key};

/// Which way coins go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Out of custody.
    Out,
    /// Back into it.
    Back,
}

/// An inclusion that the house's books hold, and which way.
type Held<'a> = (Way, &'a Inclusion);

/// Treasury says what a nonce costs the house.
pub(crate) fn heard(desk: &mut Desk<'_>, said: &HouseSpent) {
    if desk.policy().is_none() {
        return desk.drop_input("no-policy");
    }
    let key = Key::HouseSpend(said.wallet, said.nonce);
    let before = match desk.rows.get(&key) {
        Some(Entity::HouseSpend(before)) => Some(before.clone()),
        _ => None,
    };
    if before.as_ref().is_some_and(|before| before.version >= said.version) {
        return desk.drop_input("repeat");
    }
    desk.saga = said.payment.as_ref().map(|payment| payment.saga);
    // Noted before the entries: should one of them be refused, the next version does not make the others twice.
    desk.rows.put(key, Entity::HouseSpend(Box::new(said.clone())));
    desk.tell_house(EventBody::HouseSpent(said.clone()));
    if bring(desk, before.as_deref(), said).is_err() {
        desk.alarm(AlarmCode::SagaParked, format!("{}/{}", said.wallet, said.nonce));
        desk.drop_input(LEDGER_FAULT);
    }
}

/// Brings the books from what was said `before` to what is said `now`.
fn bring(desk: &mut Desk<'_>, before: Option<&HouseSpent>, now: &HouseSpent) -> Result<(), LedgerError> {
    let (was, is) = (before.map(held).unwrap_or_default(), held(now));
    if let Some(before) = before {
        for (way, inclusion) in was.iter().filter(|item| !is.contains(item)) {
            enter(desk, before, inclusion, way.other())?;
        }
    }
    is.iter().filter(|item| !was.contains(item)).try_for_each(|(way, inclusion)| enter(desk, now, inclusion, *way))
}

/// What the house's books hold when `said` is true: the chain's inclusion in place of the settled one, or nothing when they agree.
fn held(said: &HouseSpent) -> Vec<Held<'_>> {
    if said.settled == said.now {
        return Vec::new();
    }
    let back = said.settled.iter().map(|settled| (Way::Back, settled));
    back.chain(said.now.iter().map(|now| (Way::Out, now))).collect()
}

/// An inclusion's entry: its gas, and what it pays out for a payment, against custody.
fn enter(desk: &mut Desk<'_>, said: &HouseSpent, inclusion: &Inclusion, way: Way) -> Result<(), LedgerError> {
    let Some(in_force) = desk.policy() else { return Err(LedgerError::Foreign) };
    let house = desk.house_account(&in_force.policy.tenant);
    let mut legs = desk.legs(&house).debit_house(HouseBook::Gas, &said.gas_asset, inclusion.fee).credit_house(
        HouseBook::Custody,
        &said.gas_asset,
        inclusion.fee,
    );
    if let Some(payment) = said.payment.as_ref().filter(|_| inclusion.succeeded) {
        // A client who settled has paid; one who got everything back has not, and the house looks for the money.
        let paid = said.settled.as_ref().is_some_and(|settled| settled.succeeded);
        let against = if paid { HouseBook::InFlight } else { HouseBook::Suspense };
        legs = legs.debit_house(against, &payment.asset, payment.amount).credit_house(
            HouseBook::Custody,
            &payment.asset,
            payment.amount,
        );
    }
    let (legs, reason) = match way {
        Way::Out => (legs, EntryReason::HouseSpent),
        Way::Back => (legs.reversed(), EntryReason::HouseUnspent),
    };
    desk.post(&house, reason, Some((said.chain.clone(), inclusion.block)), legs)
}

impl Way {
    const fn other(self) -> Self {
        match self {
            Self::Out => Self::Back,
            Self::Back => Self::Out,
        }
    }
}
