//! What a withdrawal rests on and leads to: screenings, approvals, decisions, signatures, the payment.

use custos_domain::{Digest, IntentDigest, IntentId, OfficerId, SagaId, Timestamp, TxHash};
use custos_messages::accounts::{Inclusion, Verdict};
use custos_messages::events::Position;
use sqlx::any::AnyRow;

use crate::cell::Fields;
use crate::clients::position;
use crate::rows::PaymentRow;
use crate::{PaymentStatus, ReadError, ReadModel};

/// A payment in treasury's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The withdrawal.
    pub saga: SagaId,
    /// Where it stands.
    pub status: PaymentStatus,
    /// The intent.
    pub intent: Option<IntentId>,
    /// The transaction that was signed last, or that is in a block.
    pub tx: Option<TxHash>,
    /// Its nonce.
    pub nonce: Option<u64>,
    /// Signatures made.
    pub attempts: u64,
    /// The block, fee and success of the transaction; for an impossible payment, of what consumed the nonce.
    pub included: Option<Inclusion>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A signature that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The transaction.
    pub tx: TxHash,
    /// Its nonce.
    pub nonce: u64,
    /// From 1; above 1 it replaces the former.
    pub attempt: u32,
    /// Digest of the signed bytes.
    pub digest: Digest,
    /// When.
    pub at: Timestamp,
}

/// What officers are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The withdrawal.
    pub saga: SagaId,
    /// The intent's canonical bytes.
    pub intent: Vec<u8>,
    /// Their digest: what officers sign.
    pub digest: IntentDigest,
    /// How many must agree.
    pub quorum: u32,
    /// When they were asked.
    pub asked_at: Timestamp,
}

/// What an officer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionView {
    /// Who.
    pub officer: OfficerId,
    /// Yes or no.
    pub verdict: Verdict,
    /// About which intent.
    pub digest: IntentDigest,
    /// The policy in which the officer's key stands.
    pub policy_version: u32,
    /// When.
    pub at: Timestamp,
    /// The event.
    pub position: Position,
}

/// What a screening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScreeningView {
    /// The step that asked.
    pub step: String,
    /// Whether nothing was found.
    pub clear: bool,
    /// What was found, by code.
    pub codes: Vec<String>,
    /// What the answer rests on, `name@version`.
    pub versions: Vec<String>,
    /// When it was answered.
    pub at: Timestamp,
}

impl ReadModel {
    /// The payment of the withdrawal, if treasury has it.
    pub async fn payment(&self, saga: &SagaId) -> Result<Option<Payment>, ReadError> {
        let rows = self.of_saga("SELECT * FROM payments WHERE saga = $1", saga).await?;
        rows.first().map(|row| PaymentRow::read(row).map(Payment::from)).transpose()
    }

    /// The withdrawal whose payment has this transaction, in any attempt.
    pub async fn payment_of_tx(&self, tx: &TxHash) -> Result<Option<Payment>, ReadError> {
        let row = sqlx::query(
            "SELECT * FROM payments WHERE tx = $1 OR saga IN (SELECT saga FROM payment_signatures WHERE tx = $1) LIMIT 1",
        )
        .bind(tx.as_bytes().to_vec())
        .fetch_optional(self.pool())
        .await
        .map_err(ReadError::sql("payment of a transaction"))?;
        row.as_ref().map(|row| PaymentRow::read(row).map(Payment::from)).transpose()
    }

    /// Signatures of the withdrawal in order.
    pub async fn signatures(&self, saga: &SagaId) -> Result<Vec<Signature>, ReadError> {
        let rows =
            self.of_saga("SELECT * FROM payment_signatures WHERE saga = $1 ORDER BY partition, sequence", saga).await?;
        let read = |row: &AnyRow| {
            let fields = Fields(row);
            Ok(Signature {
                tx: fields.maybe_tx("tx")?.ok_or(ReadError::Column { column: "tx", problem: "absent" })?,
                nonce: fields.u64("nonce")?,
                attempt: fields.u32("attempt")?,
                digest: fields.digest("digest")?,
                at: fields.time("happened_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// What officers were asked about the withdrawal, newest first: bytes to sign, digest and quorum.
    pub async fn approvals(&self, saga: &SagaId) -> Result<Vec<Approval>, ReadError> {
        let rows = self.of_saga("SELECT * FROM approvals WHERE saga = $1 ORDER BY sequence DESC", saga).await?;
        let read = |row: &AnyRow| {
            let fields = Fields(row);
            Ok(Approval {
                saga: fields.saga("saga")?,
                intent: fields.bytes("intent")?,
                digest: fields.digest("digest")?,
                quorum: fields.u32("quorum")?,
                asked_at: fields.time("asked_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// What officers said about the withdrawal, in order.
    pub async fn decisions(&self, saga: &SagaId) -> Result<Vec<DecisionView>, ReadError> {
        let rows = self.of_saga("SELECT * FROM decisions WHERE saga = $1 ORDER BY partition, sequence", saga).await?;
        let read = |row: &AnyRow| {
            let fields = Fields(row);
            let officer = OfficerId::new(&fields.text("officer")?);
            Ok(DecisionView {
                officer: officer.map_err(|source| ReadError::Id { column: "officer", source })?,
                verdict: fields.named("verdict")?,
                digest: fields.digest("digest")?,
                policy_version: fields.u32("policy_version")?,
                at: fields.time("happened_at")?,
                position: position(&fields)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Screenings of the saga in order.
    pub async fn screenings(&self, saga: &SagaId) -> Result<Vec<ScreeningView>, ReadError> {
        let rows = self.of_saga("SELECT * FROM screenings WHERE saga = $1 ORDER BY partition, sequence", saga).await?;
        let lines = |text: String| text.lines().map(str::to_owned).collect();
        let read = |row: &AnyRow| {
            let fields = Fields(row);
            Ok(ScreeningView {
                step: fields.text("step")?,
                clear: fields.yes("clear")?,
                codes: lines(fields.text("codes")?),
                versions: lines(fields.text("versions")?),
                at: fields.time("happened_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    async fn of_saga(&self, sql: &'static str, saga: &SagaId) -> Result<Vec<AnyRow>, ReadError> {
        let query = sqlx::query(sql).bind(saga.to_bytes().to_vec());
        query.fetch_all(self.pool()).await.map_err(ReadError::sql(sql))
    }
}

impl From<PaymentRow> for Payment {
    fn from(row: PaymentRow) -> Self {
        let PaymentRow { saga, status, intent, tx, nonce, attempts, included, updated_at } = row;
        Self { saga, status, intent, tx, nonce, attempts, included, updated_at }
    }
}
