//! The door: requests of the bank. Each gets an answer: accepted, a business no, or a reused key.
//!
//! Invariants: a no changes nothing and leaves no event; the same key with the same body gets the same answer for ever, with
//! another body a conflict.

use custos_domain::{AccountId, Amount, AssetId, Digest, Fee, Intent, IntentId, SagaId, WalletId};
use custos_messages::accounts::{Decision, OpenAccount, RequestAddress, RequestTransfer, RequestWithdrawal};
use custos_messages::events::{EventBody, Refusal, Request};
use custos_messages::gateway::Subject;
use custos_policy::{Policy, verify_decision};
use custos_saga::machine::Reply;
use custos_saga::{Phase, Shape};

use crate::cases::{Answer, hear, live, start};
use crate::desk::Desk;
use crate::ended::ended;
use crate::issue_address::ISSUE_ADDRESS;
use crate::state::{Account, Case, Entity, IssueAddress, Key, Transfer, Withdrawal};
use crate::transfer::TRANSFER;
use crate::withdrawal::WITHDRAWAL;

/// Opens an account, once.
pub(crate) fn open_account(desk: &mut Desk<'_>, request: OpenAccount) {
    let Some(in_force) = desk.policy() else { return desk.refuse(Refusal::NoPolicy) };
    let derived = AccountId::derive(&request.tenant, request.key.as_str());
    if request.tenant != in_force.policy.tenant || request.account != derived {
        return desk.refuse(Refusal::UnknownAccount);
    }
    if desk.account(&request.account).is_none() {
        let account = Account {
            tenant: request.tenant.clone(),
            key: request.key.clone(),
            sequence: 0,
            balances: std::collections::BTreeMap::new(),
            sent: std::collections::BTreeMap::new(),
        };
        desk.rows.put(Key::Account(request.account), Entity::Account(Box::new(account)));
        desk.tell(&request.account, EventBody::AccountOpened { tenant: request.tenant, key: request.key });
    } else {
        desk.drop_input("repeat");
    }
    desk.reply(Reply::Accepted(Subject::Account(request.account)));
}

/// The answer to a key that was used before.
fn known(desk: &mut Desk<'_>, id: SagaId, fingerprint: &Digest) -> bool {
    let same = match desk.rows.get(&Key::Saga(id)) {
        Some(Entity::Saga(record)) => record.fingerprint == *fingerprint,
        _ => match ended(desk.rows, &id) {
            Some(ended) => ended.came_from(fingerprint),
            None => return false,
        },
    };
    desk.drop_input("repeat");
    desk.reply(if same { Reply::Accepted(Subject::Operation(id)) } else { Reply::KeyReused });
    true
}

fn accept(desk: &mut Desk<'_>, id: SagaId, fingerprint: Digest, request: Request, case: Case) {
    desk.saga = Some(id);
    desk.tell(&id.account, EventBody::Started(request));
    start(desk, id, fingerprint, case);
    desk.reply(Reply::Accepted(Subject::Operation(id)));
}

/// Asks for a deposit address.
pub(crate) fn request_address(desk: &mut Desk<'_>, request: RequestAddress) {
    let id = SagaId::derive(&request.account, ISSUE_ADDRESS.name(), request.key.as_str().as_bytes());
    if known(desk, id, &request.fingerprint) {
        return;
    }
    let Some(in_force) = desk.policy() else { return desk.refuse(Refusal::NoPolicy) };
    if desk.account(&request.account).is_none() {
        return desk.refuse(Refusal::UnknownAccount);
    }
    if !in_force.policy.chains.contains_key(&request.chain) {
        return desk.refuse(Refusal::UnknownChain);
    }
    let wallet = WalletId::omnibus(&in_force.policy.tenant, &request.chain);
    let case = IssueAddress { account: request.account, chain: request.chain.clone(), wallet };
    let said = Request::Address { key: request.key, chain: request.chain };
    accept(desk, id, request.fingerprint, said, Case::IssueAddress(case));
}

/// Asks for a payment.
pub(crate) fn request_withdrawal(desk: &mut Desk<'_>, request: RequestWithdrawal) {
    let id = SagaId::derive(&request.account, WITHDRAWAL.name(), request.key.as_str().as_bytes());
    if known(desk, id, &request.fingerprint) {
        return;
    }
    let Some(in_force) = desk.policy() else { return desk.refuse(Refusal::NoPolicy) };
    match admit_withdrawal(desk, &in_force.policy, id, &request) {
        Err(refusal) => desk.refuse(refusal),
        Ok(case) => {
            let said = Request::Withdrawal {
                key: request.key,
                asset: request.asset,
                amount: request.amount,
                to: request.to,
                fee_max: request.fee_max,
                fee_asset: case.intent.fee.asset.clone(),
                intent: case.intent.id,
            };
            accept(desk, id, request.fingerprint, said, Case::Withdrawal(case));
        }
    }
}

fn admit_withdrawal(
    desk: &Desk<'_>,
    policy: &Policy,
    id: SagaId,
    request: &RequestWithdrawal,
) -> Result<Withdrawal, Refusal> {
    let entry = policy.assets.get(&request.asset).ok_or(Refusal::UnknownAsset)?;
    let chain = &entry.asset.chain;
    let rules = policy.chains.get(chain).ok_or(Refusal::UnknownChain)?;
    admit(desk, &request.account, request.amount)?;
    if request.fee_max > rules.fee_max {
        return Err(Refusal::FeeAbovePolicy);
    }
    if request.to == rules.hot {
        return Err(Refusal::SameAccount);
    }
    let needs_approval = policy.needs_approval(&request.asset, request.amount);
    let case = Withdrawal {
        account: request.account,
        intent: Intent {
            id: IntentId::of_saga(&id),
            chain: chain.clone(),
            from: rules.hot,
            to: request.to,
            asset: request.asset.clone(),
            amount: request.amount,
            fee: Fee { max: request.fee_max, asset: rules.native.clone() },
            expires: desk.context.at.after(policy.intent_validity),
            policy_version: policy.version,
        },
        kind: entry.asset.kind.clone(),
        wallet: WalletId::omnibus(&policy.tenant, chain),
        quorum: if needs_approval { policy.quorum.max(1) } else { 0 },
        approvals: Vec::new(),
        sent_hour: 0,
        taken: false,
        attempt: 0,
        seen: None,
        outcome: None,
    };
    let hold = case.hold().map_err(|_| Refusal::InsufficientFunds)?;
    affords(desk, &request.account, &request.asset, hold)?;
    Ok(case)
}

/// Asks for a transfer to another account of the bank.
pub(crate) fn request_transfer(desk: &mut Desk<'_>, request: RequestTransfer) {
    let id = SagaId::derive(&request.account, TRANSFER.name(), request.key.as_str().as_bytes());
    if known(desk, id, &request.fingerprint) {
        return;
    }
    let Some(in_force) = desk.policy() else { return desk.refuse(Refusal::NoPolicy) };
    match admit_transfer(desk, &in_force.policy, &request) {
        Err(refusal) => desk.refuse(refusal),
        Ok(case) => {
            let said = Request::Transfer { key: request.key, to: request.to, asset: request.asset, amount: request.amount };
            accept(desk, id, request.fingerprint, said, Case::Transfer(case));
        }
    }
}

fn admit_transfer(desk: &Desk<'_>, policy: &Policy, request: &RequestTransfer) -> Result<Transfer, Refusal> {
    if !policy.assets.contains_key(&request.asset) {
        return Err(Refusal::UnknownAsset);
    }
    admit(desk, &request.account, request.amount)?;
    if request.to == request.account {
        return Err(Refusal::SameAccount);
    }
    affords(desk, &request.account, &request.asset, request.amount)?;
    Ok(Transfer {
        account: request.account,
        to: request.to,
        asset: request.asset.clone(),
        amount: request.amount,
        sent_hour: 0,
    })
}

fn admit(desk: &Desk<'_>, account: &AccountId, amount: Amount) -> Result<(), Refusal> {
    if desk.account(account).is_none() {
        Err(Refusal::UnknownAccount)
    } else if amount.is_zero() {
        Err(Refusal::ZeroAmount)
    } else {
        Ok(())
    }
}

fn affords(desk: &Desk<'_>, account: &AccountId, asset: &AssetId, amount: Amount) -> Result<(), Refusal> {
    if desk.available(account, asset) < amount { Err(Refusal::InsufficientFunds) } else { Ok(()) }
}

/// An officer decides about a withdrawal that waits for it.
pub(crate) fn decide(desk: &mut Desk<'_>, decision: Decision) {
    let id = decision.saga;
    let Some(in_force) = desk.policy() else { return desk.refuse(Refusal::NoPolicy) };
    let Some(record) = live(desk, &id) else { return desk.refuse(Refusal::NothingToDecide) };
    let Case::Withdrawal(case) = &record.case else { return desk.refuse(Refusal::NothingToDecide) };
    let digest = case.intent.digest();
    if verify_decision(&in_force.policy, &decision, &digest).is_err() {
        return desk.refuse(Refusal::BadDecision);
    }
    let waits = record.instance.phase == Phase::Waiting
        && WITHDRAWAL.row(record.instance.step).is_some_and(|row| row.name == "approve");
    if waits {
        hear(desk, id, None, &Answer::Decided(decision));
    } else if case.approvals.contains(&decision) {
        desk.drop_input("repeat");
    } else {
        return desk.refuse(Refusal::NothingToDecide);
    }
    desk.reply(Reply::Accepted(Subject::Operation(id)));
}
