//! The world state: accounts, code and storage, as a value that is cheap to copy.
//!
//! Invariant: a `World` never changes behind another's back. Every block keeps its own; what two blocks share is shared
//! memory until one of them writes (copy on write). Roots are the real Merkle Patricia roots.
//! What is absent: a disk, proofs, pruned tries.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
};

use alloy::primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, map::AddressMap};
use alloy_trie::{
    EMPTY_ROOT_HASH, TrieAccount,
    root::{state_root_unhashed, storage_root_unhashed},
};
use revm::{
    Database, DatabaseCommit,
    bytecode::Bytecode,
    state::{Account, AccountInfo},
};

#[derive(Debug, Clone)]
struct Entry {
    balance: U256,
    nonce: u64,
    code_hash: B256,
    storage: Arc<BTreeMap<U256, U256>>,
    // None after a write, until somebody asks for the root.
    storage_root: Option<B256>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            balance: U256::ZERO,
            nonce: 0,
            code_hash: KECCAK256_EMPTY,
            storage: Arc::default(),
            storage_root: Some(EMPTY_ROOT_HASH),
        }
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.balance.is_zero() && self.nonce == 0 && self.code_hash == KECCAK256_EMPTY
    }
}

/// All accounts after some block.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    accounts: Arc<BTreeMap<Address, Arc<Entry>>>,
    codes: Arc<HashMap<B256, Bytecode>>,
    root: Option<B256>,
}

impl World {
    pub(crate) fn balance(&self, address: Address) -> U256 {
        self.accounts.get(&address).map(|entry| entry.balance).unwrap_or_default()
    }

    pub(crate) fn nonce(&self, address: Address) -> u64 {
        self.accounts.get(&address).map(|entry| entry.nonce).unwrap_or_default()
    }

    pub(crate) fn code(&self, address: Address) -> Bytes {
        let code = self.accounts.get(&address).and_then(|entry| self.codes.get(&entry.code_hash));
        code.map(Bytecode::original_bytes).unwrap_or_default()
    }

    pub(crate) fn storage_at(&self, address: Address, slot: U256) -> U256 {
        self.accounts.get(&address).and_then(|entry| entry.storage.get(&slot).copied()).unwrap_or_default()
    }

    pub(crate) fn set_balance(&mut self, address: Address, wei: U256) {
        self.write(address, |entry| entry.balance = wei);
    }

    /// The Merkle Patricia root of all accounts, kept until the next write.
    pub(crate) fn root(&mut self) -> B256 {
        if let Some(root) = self.root {
            return root;
        }
        let stale: Vec<Address> =
            self.accounts.iter().filter(|(_, entry)| entry.storage_root.is_none()).map(|(address, _)| *address).collect();
        for address in stale {
            self.write(address, |entry| {
                entry.storage_root =
                    Some(storage_root_unhashed(entry.storage.iter().map(|(slot, value)| (B256::from(*slot), *value))));
            });
        }
        let root = state_root_unhashed(self.accounts.iter().map(|(address, entry)| {
            let account = TrieAccount {
                nonce: entry.nonce,
                balance: entry.balance,
                storage_root: entry.storage_root.unwrap_or(EMPTY_ROOT_HASH),
                code_hash: entry.code_hash,
            };
            (*address, account)
        }));
        self.root = Some(root);
        root
    }

    fn write(&mut self, address: Address, change: impl FnOnce(&mut Entry)) {
        self.root = None;
        let accounts = Arc::make_mut(&mut self.accounts);
        let entry = Arc::make_mut(accounts.entry(address).or_default());
        change(entry);
        // EIP-161: what is empty does not exist.
        if entry.is_empty() {
            accounts.remove(&address);
        }
    }

    fn apply(&mut self, address: Address, account: Account) {
        if !account.is_touched() {
            return;
        }
        if account.is_selfdestructed() {
            self.write(address, |entry| *entry = Entry::default());
            return;
        }
        let Account { info, storage, status, .. } = account;
        if let Some(code) = info.code.filter(|code| !code.is_empty())
            && !self.codes.contains_key(&info.code_hash)
        {
            Arc::make_mut(&mut self.codes).insert(info.code_hash, code);
        }
        let created = status.contains(revm::state::AccountStatus::Created);
        let changed: Vec<(U256, U256)> = storage
            .into_iter()
            .filter(|(_, slot)| slot.is_changed())
            .map(|(key, slot)| (key, slot.present_value()))
            .collect();
        self.write(address, |entry| {
            entry.balance = info.balance;
            entry.nonce = info.nonce;
            entry.code_hash = info.code_hash;
            if created {
                entry.storage = Arc::default();
                entry.storage_root = Some(EMPTY_ROOT_HASH);
            }
            if changed.is_empty() {
                return;
            }
            entry.storage_root = None;
            let slots = Arc::make_mut(&mut entry.storage);
            for (key, value) in changed {
                if value.is_zero() {
                    slots.remove(&key);
                } else {
                    slots.insert(key, value);
                }
            }
        });
    }
}

/// A world during execution, with the ancestors' hashes that `BLOCKHASH` may ask for.
#[derive(Debug)]
pub(crate) struct Scratch<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) ancestors: &'a BTreeMap<u64, B256>,
}

impl Database for Scratch<'_> {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.world.accounts.get(&address).map(|entry| AccountInfo {
            balance: entry.balance,
            nonce: entry.nonce,
            code_hash: entry.code_hash,
            account_id: None,
            code: Some(self.world.codes.get(&entry.code_hash).cloned().unwrap_or_default()),
        }))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.world.codes.get(&code_hash).cloned().unwrap_or_default())
    }

    fn storage(&mut self, address: Address, index: U256) -> Result<U256, Infallible> {
        Ok(self.world.storage_at(address, index))
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Infallible> {
        Ok(self.ancestors.get(&number).copied().unwrap_or_default())
    }
}

impl DatabaseCommit for Scratch<'_> {
    fn commit(&mut self, changes: AddressMap<Account>) {
        for (address, account) in changes {
            self.world.apply(address, account);
        }
    }
}
