//! The record of a payment that has ended, and of what the house's books say of a nonce.

use custos_domain::{AssetId, ChainId, CommandId, Digest, IntentId, SagaId, TxHash, WalletId};
use custos_messages::accounts::PaidFor;

use super::payment::{fees_in, fees_out, inclusion_in, inclusion_out, refusal_in, refusal_out};
use super::{amount, fixed, wire};
use crate::state::{Closed, ClosedPurpose, End, Ended, Entity, Payment, Spent, Stage, Unanswered};

use wire::closed::{End as WireEnd, Purpose as WirePurpose};

/// A payment as it was written before ended ones had a record of their own.
pub(super) fn upcast(payment: Payment) -> Entity {
    match &payment.stage {
        Stage::Ended(ended) => Entity::Closed(Box::new(Closed::of(&payment, (**ended).clone()))),
        _ => Entity::Payment(Box::new(payment)),
    }
}

pub(super) fn out(closed: &Closed) -> wire::Closed {
    wire::Closed {
        chain: closed.chain.as_str().to_owned(),
        purpose: Some(match &closed.purpose {
            ClosedPurpose::Client { paid, request } => WirePurpose::Paid(wire::Paid {
                saga: paid.saga.to_bytes().to_vec(),
                request: request.as_bytes().to_vec(),
                asset: paid.asset.as_str().to_owned(),
                amount: paid.amount.to_be_bytes().to_vec(),
            }),
            ClosedPurpose::NoOp { nonce } => WirePurpose::NoOpNonce(*nonce),
        }),
        signatures: closed.ended.signatures.iter().map(|tx| tx.0.to_vec()).collect(),
        raw: closed.ended.raw.clone(),
        unanswered: closed
            .ended
            .unanswered
            .map(|order| wire::Unanswered { id: order.id.0.to_vec(), attempt: order.attempt }),
        end: Some(match &closed.ended.end {
            End::Final(inclusion) => WireEnd::Final(inclusion_out(inclusion)),
            End::Impossible(inclusion) => WireEnd::Impossible(inclusion_out(inclusion)),
            End::Refused(reason) => WireEnd::Refused(refusal_out(*reason)),
        }),
        highest: closed.ended.highest.as_ref().map(fees_out),
    }
}

pub(super) fn read((wallet, intent): (WalletId, IntentId), held: wire::Closed) -> Result<Closed, &'static str> {
    let purpose = match held.purpose.ok_or("purpose")? {
        WirePurpose::Paid(paid) => ClosedPurpose::Client {
            paid: PaidFor {
                saga: SagaId::from_slice(&paid.saga).map_err(|_| "paid.saga")?,
                asset: AssetId::new(&paid.asset).map_err(|_| "paid.asset")?,
                amount: amount(&paid.amount, "paid.amount")?,
            },
            request: Digest(fixed(&paid.request, "paid.request")?),
        },
        WirePurpose::NoOpNonce(nonce) if IntentId::noop(&wallet, nonce) == intent => ClosedPurpose::NoOp { nonce },
        WirePurpose::NoOpNonce(_) => return Err("no_op_nonce"),
    };
    let signature = |tx: &Vec<u8>| Ok::<_, &'static str>(TxHash(fixed(tx, "signatures")?));
    let unanswered = |order: wire::Unanswered| {
        Ok::<_, &'static str>(Unanswered { id: CommandId(fixed(&order.id, "unanswered.id")?), attempt: order.attempt })
    };
    let end = match held.end.ok_or("end")? {
        WireEnd::Final(inclusion) => End::Final(inclusion_in(inclusion)?),
        WireEnd::Impossible(inclusion) => End::Impossible(inclusion_in(inclusion)?),
        WireEnd::Refused(refusal) => End::Refused(refusal_in(refusal)?),
    };
    let ended = Ended {
        end,
        signatures: held.signatures.iter().map(signature).collect::<Result<_, _>>()?,
        raw: held.raw,
        unanswered: held.unanswered.map(unanswered).transpose()?,
        highest: held.highest.is_some().then(|| fees_in(held.highest)).transpose()?,
    };
    Ok(Closed { wallet, chain: ChainId::new(&held.chain).map_err(|_| "chain")?, intent, purpose, ended })
}

pub(super) fn spent_out(spent: &Spent) -> wire::Spent {
    wire::Spent {
        version: spent.version,
        settled: spent.settled.as_ref().map(inclusion_out),
        now: spent.now.as_ref().map(inclusion_out),
    }
}

pub(super) fn spent_in(held: wire::Spent) -> Result<Spent, &'static str> {
    if held.version == 0 {
        return Err("spent.version");
    }
    Ok(Spent {
        version: held.version,
        settled: held.settled.map(inclusion_in).transpose()?,
        now: held.now.map(inclusion_in).transpose()?,
    })
}
