//! What belongs to a client: the account, its addresses and balances, and what came in.

use std::collections::BTreeMap;

use custos_domain::{AccountId, Amount, AssetId, BlockRef, ChainId, EthAddress, SagaId, Timestamp, WalletId};
use custos_messages::accounts::Deposit;
use custos_messages::events::{ClientBook, Position, Side};
use sqlx::any::AnyRow;

use crate::books::limbs_of;
use crate::cell::Fields;
use crate::names::Named as _;
use crate::page::{List, Order};
use crate::{DepositStatus, Page, PageRequest, ReadError, ReadModel};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Which.
    pub account: AccountId,
    /// The bank.
    pub tenant: String,
    /// The bank's own reference.
    pub key: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The event that opened it.
    pub position: Position,
}

/// A deposit address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRow {
    /// The chain.
    pub chain: ChainId,
    /// The address.
    pub address: EthAddress,
    /// Whose.
    pub account: AccountId,
    /// The saga that issued it.
    pub saga: Option<SagaId>,
    /// The wallet with the key.
    pub wallet: WalletId,
    /// The derivation path.
    pub path: String,
    /// Deposits after this block are seen.
    pub watched_from: BlockRef,
    /// When it was issued.
    pub issued_at: Timestamp,
}

/// What an account has of an asset, in base units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balances {
    /// The asset.
    pub asset: AssetId,
    /// Free to use.
    pub available: Amount,
    /// Taken out of available for running operations.
    pub held: Amount,
    /// Arrived, not final.
    pub pending: Amount,
    /// Arrived, and refused by screening.
    pub frozen: Amount,
}

/// A deposit and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepositView {
    /// What arrived, in the block where it was seen last.
    pub deposit: Deposit,
    /// Whose.
    pub account: AccountId,
    /// Its saga.
    pub saga: Option<SagaId>,
    /// Where it stands.
    pub status: DepositStatus,
    /// When it was first seen.
    pub seen_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The event that first told of it.
    pub position: Position,
}

/// Money that came from another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferView {
    /// The sender's saga.
    pub saga: SagaId,
    /// Who sent it.
    pub sender: AccountId,
    /// Who received it.
    pub receiver: AccountId,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// When.
    pub at: Timestamp,
    /// The event.
    pub position: Position,
}

impl ReadModel {
    /// The account, if it is open.
    pub async fn account(&self, account: &AccountId) -> Result<Option<Account>, ReadError> {
        sqlx::query("SELECT * FROM accounts WHERE account = $1")
            .bind(account.as_bytes().to_vec())
            .fetch_optional(self.pool())
            .await
            .map_err(ReadError::sql("account"))?
            .as_ref()
            .map(read_account)
            .transpose()
    }

    /// All accounts, oldest first.
    pub async fn accounts(&self, request: PageRequest) -> Result<Page<Account>, ReadError> {
        let key = ["opened_at", "partition", "sequence"];
        let list = List { select: "SELECT * FROM accounts", key, names: key, order: Order::OldestFirst, equal: vec![] };
        list.page(self.pool(), request, read_account).await
    }

    /// The account's deposit addresses, oldest first.
    pub async fn addresses(&self, account: &AccountId) -> Result<Vec<AddressRow>, ReadError> {
        let rows = sqlx::query("SELECT * FROM addresses WHERE account = $1 ORDER BY sequence")
            .bind(account.as_bytes().to_vec())
            .fetch_all(self.pool())
            .await
            .map_err(ReadError::sql("addresses"))?;
        rows.iter().map(read_address).collect()
    }

    /// Whose address it is, if it is ours.
    pub async fn address(&self, chain: &ChainId, address: &EthAddress) -> Result<Option<AddressRow>, ReadError> {
        sqlx::query("SELECT * FROM addresses WHERE chain = $1 AND address = $2")
            .bind(chain.as_str().to_owned())
            .bind(address.0.to_vec())
            .fetch_optional(self.pool())
            .await
            .map_err(ReadError::sql("address"))?
            .as_ref()
            .map(read_address)
            .transpose()
    }

    /// Every deposit address on `chain`, whoever's: where coins of ours may lie besides the hot address.
    pub async fn addresses_of_chain(&self, chain: &ChainId) -> Result<Vec<EthAddress>, ReadError> {
        let rows = sqlx::query("SELECT address FROM addresses WHERE chain = $1 ORDER BY address")
            .bind(chain.as_str().to_owned())
            .fetch_all(self.pool())
            .await
            .map_err(ReadError::sql("addresses of a chain"))?;
        rows.iter().map(|row| Fields(row).address("address")).collect()
    }

    /// What the account has, by asset in order of codes. Assets that it never had are absent.
    ///
    /// # Errors
    /// [`ReadError::Amount`] if a book is below zero: the books are wrong, and no figure of them is to be shown.
    pub async fn balances(&self, account: &AccountId) -> Result<Vec<Balances>, ReadError> {
        let rows = sqlx::query("SELECT * FROM balances WHERE holder = $1")
            .bind(account.as_bytes().to_vec())
            .fetch_all(self.pool())
            .await
            .map_err(ReadError::sql("balances"))?;
        let mut found: BTreeMap<AssetId, Balances> = BTreeMap::new();
        for row in &rows {
            let fields = Fields(row);
            let asset = fields.asset("asset")?;
            let book: ClientBook = fields.named("book")?;
            let amount = |source| ReadError::Amount { column: book.word(), source };
            let amount = limbs_of(&fields)?.net().and_then(|net| net.on(Side::Credit)).map_err(amount)?;
            let balances = found.entry(asset.clone()).or_insert_with(|| Balances::none(asset));
            match book {
                ClientBook::Available => balances.available = amount,
                ClientBook::Held => balances.held = amount,
                ClientBook::Pending => balances.pending = amount,
                ClientBook::Frozen => balances.frozen = amount,
            }
        }
        Ok(found.into_values().collect())
    }

    /// Deposits, newest first: of one account, or of all.
    pub async fn deposits(&self, account: Option<&AccountId>, request: PageRequest) -> Result<Page<DepositView>, ReadError> {
        let key = ["seen_at", "partition", "sequence"];
        let equal = account.map(|account| ("account", account.as_bytes().into())).into_iter().collect();
        let list = List { select: "SELECT * FROM deposits", key, names: key, order: Order::NewestFirst, equal };
        list.page(self.pool(), request, read_deposit).await
    }

    /// Transfers that the account received, newest first.
    pub async fn transfers_received(
        &self,
        account: &AccountId,
        request: PageRequest,
    ) -> Result<Page<TransferView>, ReadError> {
        let key = ["happened_at", "partition", "sequence"];
        let equal = vec![("receiver", account.as_bytes().into())];
        let list = List { select: "SELECT * FROM transfers", key, names: key, order: Order::NewestFirst, equal };
        list.page(self.pool(), request, read_transfer).await
    }
}

impl Balances {
    /// Nothing of `asset`.
    #[must_use]
    pub const fn none(asset: AssetId) -> Self {
        Self { asset, available: Amount::ZERO, held: Amount::ZERO, pending: Amount::ZERO, frozen: Amount::ZERO }
    }
}

/// The place that a row names as `partition` and `sequence`.
pub(crate) fn position(fields: &Fields<'_>) -> Result<Position, ReadError> {
    Ok(Position { partition: fields.u32("partition")?, sequence: fields.u64("sequence")? })
}

fn read_account(row: &AnyRow) -> Result<Account, ReadError> {
    let fields = Fields(row);
    Ok(Account {
        account: fields.account("account")?,
        tenant: fields.text("tenant")?,
        key: fields.text("client_key")?,
        opened_at: fields.time("opened_at")?,
        position: position(&fields)?,
    })
}

fn read_address(row: &AnyRow) -> Result<AddressRow, ReadError> {
    let fields = Fields(row);
    Ok(AddressRow {
        chain: fields.chain("chain")?,
        address: fields.address("address")?,
        account: fields.account("account")?,
        saga: fields.maybe_saga("saga")?,
        wallet: fields.wallet("wallet")?,
        path: fields.text("path")?,
        watched_from: fields.block("watched_number", "watched_hash")?,
        issued_at: fields.time("issued_at")?,
    })
}

fn read_deposit(row: &AnyRow) -> Result<DepositView, ReadError> {
    let fields = Fields(row);
    let deposit = Deposit {
        chain: fields.chain("chain")?,
        tx: fields.maybe_tx("tx")?.ok_or(ReadError::Column { column: "tx", problem: "absent" })?,
        index: fields.u32("place")?,
        block: fields.block("block_number", "block_hash")?,
        from: fields.address("sender")?,
        to: fields.address("receiver")?,
        asset: fields.asset("asset")?,
        amount: fields.amount("amount")?,
    };
    Ok(DepositView {
        deposit,
        account: fields.account("account")?,
        saga: fields.maybe_saga("saga")?,
        status: fields.named("status")?,
        seen_at: fields.time("seen_at")?,
        updated_at: fields.time("updated_at")?,
        position: position(&fields)?,
    })
}

fn read_transfer(row: &AnyRow) -> Result<TransferView, ReadError> {
    let fields = Fields(row);
    Ok(TransferView {
        saga: fields.saga("saga")?,
        sender: fields.account("sender")?,
        receiver: fields.account("receiver")?,
        asset: fields.asset("asset")?,
        amount: fields.amount("amount")?,
        at: fields.time("happened_at")?,
        position: position(&fields)?,
    })
}
