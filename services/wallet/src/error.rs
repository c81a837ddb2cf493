//! Everything that can stop the signer, and whether trying again can help.

use std::path::PathBuf;

use custos_runtime::service::Setback;

/// Why the signer could not do what it was asked. A business "no" is a `SignRefused` and never one of these.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The place is taken; a keystore is never overwritten.
    #[error("a file exists already at {path}; a keystore is never overwritten")]
    KeystoreExists {
        /// Where.
        path: PathBuf,
    },
    /// Writing a keystore failed; nothing was left at its path.
    #[error("cannot write the keystore {path}")]
    KeystoreWrite {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Reading a keystore failed.
    #[error("cannot read the keystore {path}")]
    KeystoreRead {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Encryption failed.
    #[error("cannot encrypt the keystore")]
    KeystoreEncrypt(#[source] age::EncryptError),
    /// Wrong passphrase, or the file was altered.
    #[error("cannot decrypt the keystore {path}: wrong passphrase or altered file")]
    KeystoreDecrypt {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: age::DecryptError,
    },
    /// Decrypted, but neither a mnemonic nor a seed.
    #[error("the keystore holds neither a BIP39 mnemonic nor `seed:` and 32 or 64 bytes in hexadecimal")]
    KeystoreContent,
    /// Not a BIP39 mnemonic.
    #[error("not a BIP39 mnemonic")]
    Mnemonic(#[source] bip39::Error),
    /// The operating system gave no randomness.
    #[error("cannot draw randomness")]
    Randomness(#[source] getrandom::Error),
    /// The passphrase's file cannot be read.
    #[error("cannot read the passphrase from {path}")]
    PassphraseFile {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The environment variable with the passphrase is absent or not text.
    #[error("cannot read the passphrase from the environment variable `{name}`")]
    PassphraseVariable {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: std::env::VarError,
    },
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty")]
    PassphraseEmpty,
    /// A key cannot be derived.
    #[error("cannot derive the key at {path}")]
    Derivation {
        /// The BIP32 path.
        path: String,
        /// Why.
        #[source]
        source: bip32::Error,
    },
    /// The curve refused to sign.
    #[error("cannot sign")]
    Curve(#[source] k256::ecdsa::Error),
    /// A fresh signature does not recover to the hot address: the key back end is faulty.
    #[error("a fresh signature does not recover to the hot address; it was not released")]
    FaultySignature,
    /// The guard's database failed.
    #[error("the signing guard cannot {operation}")]
    Guard {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The guard's database holds something that this program never writes.
    #[error("the signing guard's column `{column}` is malformed")]
    GuardMalformed {
        /// Which.
        column: &'static str,
    },
    /// The guard's database was written by another version of this program.
    #[error("the signing guard has schema {found}, this program knows {known}")]
    GuardSchema {
        /// In the database.
        found: i64,
        /// Known here.
        known: i64,
    },
    /// The guard's database has lost records that a signature was released under.
    #[error(
        "the signing guard was rolled back: the checkpoint stands at record {checkpoint}, the database ends at {database}"
    )]
    RolledBack {
        /// Records that this signer has seen.
        checkpoint: u64,
        /// Records in the database.
        database: u64,
    },
    /// The guard's database has another history than the one this signer saw.
    #[error(
        "the signing guard's record {checkpoint} is not the one that the checkpoint names: another or an altered database"
    )]
    OtherHistory {
        /// Where the histories differ, at the latest.
        checkpoint: u64,
    },
    /// The guard's database forgot a policy version that this signer has seen.
    #[error("the signing guard was rolled back: the checkpoint has seen policy {checkpoint}, the database only {database}")]
    PolicyRolledBack {
        /// Highest version seen by this signer.
        checkpoint: u32,
        /// Highest version in the database.
        database: u32,
    },
    /// The checkpoint cannot be read or written.
    #[error("cannot {operation} the checkpoint {path}")]
    Checkpoint {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The checkpoint is there but not whole.
    #[error("the checkpoint {path} is torn or altered; compare the guard's database with its backups before replacing it")]
    CheckpointTorn {
        /// Where.
        path: PathBuf,
    },
    /// A worker thread was lost.
    #[error("a worker thread was lost")]
    Thread(#[source] tokio::task::JoinError),
}

impl WalletError {
    /// Whether the same command may succeed later without a human.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Guard { .. } | Self::Thread(_) => true,
            Self::KeystoreExists { .. }
            | Self::KeystoreWrite { .. }
            | Self::KeystoreRead { .. }
            | Self::KeystoreEncrypt(_)
            | Self::KeystoreDecrypt { .. }
            | Self::KeystoreContent
            | Self::Mnemonic(_)
            | Self::Randomness(_)
            | Self::PassphraseFile { .. }
            | Self::PassphraseVariable { .. }
            | Self::PassphraseEmpty
            | Self::Derivation { .. }
            | Self::Curve(_)
            | Self::FaultySignature
            | Self::GuardMalformed { .. }
            | Self::GuardSchema { .. }
            | Self::RolledBack { .. }
            | Self::OtherHistory { .. }
            | Self::PolicyRolledBack { .. }
            | Self::Checkpoint { .. }
            | Self::CheckpointTorn { .. } => false,
        }
    }

    /// What the service's skeleton does about it.
    #[must_use]
    pub fn into_setback(self) -> Setback {
        if self.retryable() { Setback::retry(self) } else { Setback::halt(self) }
    }
}
