//! Issue-address: have treasury derive, record and watch a deposit address, and tell it to the client.
//!
//! Invariant: an address is told only when treasury says from which block on it is watched.

use custos_domain::Millis;
use custos_messages::Mail;
use custos_messages::events::{EventBody, Refusal};
use custos_messages::treasury::{AllocateAddress, TreasuryInput};
use custos_saga::{Ask, Judged, Saga};

use crate::cases::{Answer, Question};
use crate::desk::Desk;
use crate::state::IssueAddress;

type Step = custos_saga::Step<IssueAddress>;

/// The table.
pub const ISSUE_ADDRESS: Saga<IssueAddress> = Saga {
    name: "issue-address",
    version: 1,
    purpose: "Derive and watch a deposit address, and tell it to the client.",
    no_pivot: Some("no money moves, and an address that was allocated stays the account's own"),
    steps: &[Step::ask("allocate", allocate, address_ready)
        .about("treasury for the next address of the omnibus wallet, watched by the followers")
        .resend_every(Millis::minutes(1))
        .harmless("an address that nobody was told receives nothing")],
};

fn allocate(desk: &mut Desk<'_>, it: &mut IssueAddress) -> Ask<Question, Refusal> {
    let Some(saga) = desk.saga else { return Ask::Refuse(Refusal::UnknownAccount) };
    let order = AllocateAddress { saga, account: it.account, wallet: it.wallet, chain: it.chain.clone() };
    Ask::Send(Question::Mail(Box::new(Mail::Treasury(TreasuryInput::AllocateAddress(order)))))
}

fn address_ready(desk: &mut Desk<'_>, it: &mut IssueAddress, answer: &Answer) -> Judged<Refusal> {
    let Answer::Address(ready) = answer else { return Judged::NotMine("not-awaited") };
    if ready.wallet != it.wallet || ready.chain != it.chain {
        return Judged::Wrong("other-wallet");
    }
    let body = EventBody::AddressIssued {
        chain: ready.chain.clone(),
        address: ready.address,
        wallet: ready.wallet,
        path: ready.path.clone(),
        watched_from: ready.watched_from,
    };
    desk.tell(&it.account, body);
    Judged::Done
}
