//! A payment's record.

use custos_domain::{ChainId, CommandId, Digest, EthAddress, Timestamp, TxHash, WalletId};
use custos_messages::Message;
use custos_messages::accounts::{Inclusion, PaymentRefusal};
use custos_messages::treasury::{TakePayment, TreasuryInput};

use super::{amount, at_in, at_out, fixed, policy_in, policy_out, wire};
use crate::state::{Attempt, Bump, End, Ended, Fees, Flight, Lack, Order, Outlay, Payment, Purpose, Quoting, Stage};

use wire::payment::{Purpose as WirePurpose, Stage as WireStage};

pub(super) fn out(payment: &Payment) -> wire::Payment {
    wire::Payment {
        chain: payment.chain.as_str().to_owned(),
        deadline_ms: payment.deadline.0,
        consumed: payment.consumed.as_ref().map(inclusion_out),
        outlay: payment.outlay.map(|outlay| wire::Outlay {
            native: outlay.native.to_be_bytes().to_vec(),
            token: outlay.token.to_be_bytes().to_vec(),
        }),
        purpose: Some(match &payment.purpose {
            Purpose::Client(take) => {
                let message = TreasuryInput::TakePayment(take.clone());
                WirePurpose::Client(wire::Client { kind: message.kind().to_owned(), bytes: message.encode() })
            }
            Purpose::NoOp { nonce, fee_max, hot } => {
                WirePurpose::NoOp(wire::NoOp { nonce: *nonce, fee_max: fee_max.to_be_bytes().to_vec(), hot: hot.0.to_vec() })
            }
        }),
        stage: Some(stage_out(&payment.stage)),
    }
}

pub(super) fn read(wallet: WalletId, held: wire::Payment) -> Result<Payment, &'static str> {
    let outlay = |held: wire::Outlay| {
        Ok::<_, &'static str>(Outlay {
            native: amount(&held.native, "outlay.native")?,
            token: amount(&held.token, "outlay.token")?,
        })
    };
    Ok(Payment {
        wallet,
        chain: ChainId::new(&held.chain).map_err(|_| "chain")?,
        deadline: Timestamp(held.deadline_ms),
        consumed: held.consumed.map(inclusion_in).transpose()?,
        outlay: held.outlay.map(outlay).transpose()?,
        purpose: match held.purpose.ok_or("purpose")? {
            WirePurpose::Client(client) => Purpose::Client(take_in(&client)?),
            WirePurpose::NoOp(noop) => Purpose::NoOp {
                nonce: noop.nonce,
                fee_max: amount(&noop.fee_max, "no_op.fee_max")?,
                hot: EthAddress(fixed(&noop.hot, "no_op.hot")?),
            },
        },
        stage: stage_in(held.stage.ok_or("stage")?)?,
    })
}

fn take_in(client: &wire::Client) -> Result<Box<TakePayment>, &'static str> {
    match TreasuryInput::decode(&client.kind, &client.bytes) {
        Ok(TreasuryInput::TakePayment(take)) => Ok(take),
        _ => Err("client"),
    }
}

fn stage_out(stage: &Stage) -> WireStage {
    let settled = |flight: &Flight, inclusion: &Inclusion| wire::Settled {
        flight: Some(flight_out(flight)),
        inclusion: Some(inclusion_out(inclusion)),
    };
    match stage {
        Stage::Quoting(quoting) => WireStage::Quoting(wire::Quoting {
            asked: quoting.asked,
            question: quoting.question.0.to_vec(),
            open: quoting.open,
            lack: match quoting.lack {
                None => wire::Lack::Unspecified,
                Some(Lack::Fee) => wire::Lack::Fee,
                Some(Lack::Funds) => wire::Lack::Funds,
            }
            .into(),
            outbid: quoting.outbid.as_ref().map(fees_out),
        }),
        Stage::Signing(order) => WireStage::Signing(order_out(order)),
        Stage::Sent(flight) => WireStage::Sent(flight_out(flight)),
        Stage::Seen(flight, inclusion) => WireStage::Seen(settled(flight, inclusion)),
        // Never stored: `Desk::keep` gives an ended payment its own record.
        Stage::Ended(_) | Stage::Parked => WireStage::Parked(wire::Empty {}),
    }
}

pub(super) fn refusal_out(reason: PaymentRefusal) -> wire::Refusal {
    let reason = match reason {
        PaymentRefusal::FeeAboveEnvelope => wire::RefusalReason::FeeAboveEnvelope,
        PaymentRefusal::WalletShort => wire::RefusalReason::WalletShort,
        PaymentRefusal::SignerRefused => wire::RefusalReason::SignerRefused,
        PaymentRefusal::Expired => wire::RefusalReason::Expired,
        PaymentRefusal::WouldRevert => wire::RefusalReason::WouldRevert,
    };
    wire::Refusal { reason: reason.into() }
}

pub(super) fn refusal_in(held: wire::Refusal) -> Result<PaymentRefusal, &'static str> {
    Ok(match wire::RefusalReason::try_from(held.reason).map_err(|_| "refused.reason")? {
        wire::RefusalReason::Unspecified => return Err("refused.reason"),
        wire::RefusalReason::FeeAboveEnvelope => PaymentRefusal::FeeAboveEnvelope,
        wire::RefusalReason::WalletShort => PaymentRefusal::WalletShort,
        wire::RefusalReason::SignerRefused => PaymentRefusal::SignerRefused,
        wire::RefusalReason::Expired => PaymentRefusal::Expired,
        wire::RefusalReason::WouldRevert => PaymentRefusal::WouldRevert,
    })
}

fn stage_in(stage: WireStage) -> Result<Stage, &'static str> {
    let settled = |held: wire::Settled| {
        let flight = flight_in(held.flight.ok_or("stage.flight")?)?;
        Ok::<_, &'static str>((flight, inclusion_in(held.inclusion.ok_or("stage.inclusion")?)?))
    };
    Ok(match stage {
        WireStage::Quoting(held) => Stage::Quoting(Quoting {
            asked: held.asked,
            question: CommandId(fixed(&held.question, "quoting.question")?),
            open: held.open,
            lack: match wire::Lack::try_from(held.lack).map_err(|_| "quoting.lack")? {
                wire::Lack::Unspecified => None,
                wire::Lack::Fee => Some(Lack::Fee),
                wire::Lack::Funds => Some(Lack::Funds),
            },
            outbid: held.outbid.map(|fees| fees_in(Some(fees))).transpose()?,
        }),
        WireStage::Signing(order) => Stage::Signing(Box::new(order_in(order)?)),
        WireStage::Sent(flight) => Stage::Sent(flight_in(flight)?),
        WireStage::Seen(held) => settled(held).map(|(flight, inclusion)| Stage::Seen(flight, inclusion))?,
        WireStage::Final(held) => {
            settled(held).map(|(flight, paid)| Stage::Ended(Box::new(Ended::mined(End::Final(paid), &flight))))?
        }
        WireStage::Impossible(held) => Stage::Ended(Box::new(Ended::consumed(inclusion_in(held)?))),
        WireStage::Refused(held) => Stage::Ended(Box::new(Ended::refused(refusal_in(held)?))),
        WireStage::Parked(_) => Stage::Parked,
    })
}

pub(super) fn inclusion_out(held: &Inclusion) -> wire::Inclusion {
    wire::Inclusion {
        tx: held.tx.0.to_vec(),
        nonce: held.nonce,
        block: Some(at_out(held.block)),
        fee: held.fee.to_be_bytes().to_vec(),
        succeeded: held.succeeded,
    }
}

pub(super) fn inclusion_in(held: wire::Inclusion) -> Result<Inclusion, &'static str> {
    Ok(Inclusion {
        tx: TxHash(fixed(&held.tx, "inclusion.tx")?),
        nonce: held.nonce,
        block: at_in(held.block.ok_or("inclusion.block")?)?,
        fee: amount(&held.fee, "inclusion.fee")?,
        succeeded: held.succeeded,
    })
}

pub(super) fn fees_out(fees: &Fees) -> wire::Fees {
    wire::Fees {
        gas_limit: fees.gas_limit,
        max_fee_per_gas: fees.max_fee_per_gas.to_be_bytes().to_vec(),
        max_priority_fee_per_gas: fees.max_priority_fee_per_gas.to_be_bytes().to_vec(),
    }
}

pub(super) fn fees_in(fees: Option<wire::Fees>) -> Result<Fees, &'static str> {
    let fees = fees.ok_or("fees")?;
    Ok(Fees {
        gas_limit: fees.gas_limit,
        max_fee_per_gas: amount(&fees.max_fee_per_gas, "fees.max_fee_per_gas")?,
        max_priority_fee_per_gas: amount(&fees.max_priority_fee_per_gas, "fees.max_priority_fee_per_gas")?,
    })
}

fn order_out(order: &Order) -> wire::Order {
    wire::Order {
        id: order.id.0.to_vec(),
        attempt: order.attempt,
        nonce: order.nonce,
        fees: Some(fees_out(&order.fees)),
        policy: Some(policy_out(&order.policy)),
        at_ms: order.at.0,
        overdue: order.overdue,
    }
}

fn order_in(order: wire::Order) -> Result<Order, &'static str> {
    Ok(Order {
        id: CommandId(fixed(&order.id, "order.id")?),
        attempt: order.attempt,
        nonce: order.nonce,
        fees: fees_in(order.fees)?,
        policy: policy_in(order.policy.ok_or("order.policy")?),
        at: Timestamp(order.at_ms),
        overdue: order.overdue,
    })
}

fn flight_out(flight: &Flight) -> wire::Flight {
    use wire::flight::Bump as Wire;
    let attempt = |attempt: &Attempt| wire::Attempt {
        tx: attempt.tx.0.to_vec(),
        raw: attempt.raw.clone(),
        digest: attempt.digest.0.to_vec(),
        fees: Some(fees_out(&attempt.fees)),
    };
    wire::Flight {
        nonce: flight.nonce,
        attempts: flight.attempts.iter().map(attempt).collect(),
        bump: Some(match &flight.bump {
            Bump::Idle => Wire::Idle(wire::Empty {}),
            Bump::Asked(question) => Wire::AskedQuestion(question.0.to_vec()),
            Bump::Ordered(order) => Wire::Ordered(order_out(order)),
        }),
        since_ms: flight.since.0,
        asked: flight.asked,
        stuck: flight.stuck,
    }
}

fn flight_in(flight: wire::Flight) -> Result<Flight, &'static str> {
    use wire::flight::Bump as Wire;
    let attempt = |held: wire::Attempt| {
        Ok::<_, &'static str>(Attempt {
            tx: TxHash(fixed(&held.tx, "attempts.tx")?),
            digest: Digest(fixed(&held.digest, "attempts.digest")?),
            fees: fees_in(held.fees)?,
            raw: held.raw,
        })
    };
    if flight.attempts.is_empty() {
        return Err("attempts");
    }
    Ok(Flight {
        nonce: flight.nonce,
        attempts: flight.attempts.into_iter().map(attempt).collect::<Result<_, _>>()?,
        bump: match flight.bump.ok_or("bump")? {
            Wire::Idle(_) => Bump::Idle,
            Wire::AskedQuestion(question) => Bump::Asked(CommandId(fixed(&question, "bump.asked_question")?)),
            Wire::Ordered(order) => Bump::Ordered(Box::new(order_in(order)?)),
        },
        since: Timestamp(flight.since_ms),
        asked: flight.asked,
        stuck: flight.stuck,
    })
}
