//! The seed at rest: one passphrase-encrypted file.
//!
//! The file is a plain `age` file (scrypt recipient), so that the bank can open its backup without this program. Its content is
//! one line: a BIP39 mnemonic, or `seed:` and 32 or 64 bytes in hexadecimal. Invariants: a keystore is never overwritten, appears
//! whole or not at all, and is readable by its owner only; secrets are wiped after use and have no `Debug`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use age::scrypt;
use bip39::Mnemonic;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::WalletError;

/// Mnemonics made here have 24 words.
const ENTROPY_BYTES: usize = 32;
/// The heaviest file that is opened: 4 GiB of memory, so that a foreign file cannot exhaust the host.
const WORK_FACTOR_MAX: u8 = 22;

/// How hard guessing the passphrase is: scrypt with N = 2^factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkFactor(u8);

impl WorkFactor {
    /// About a second and 256 MiB a guess.
    pub const PRODUCTION: Self = Self(18);
    /// For demonstrations and tests, where the passphrase protects nothing.
    pub const DEMONSTRATION: Self = Self(4);
}

/// An opened seed.
pub struct KeyStore {
    seed: Zeroizing<Vec<u8>>,
}

impl KeyStore {
    /// Draws a new 24-word mnemonic and keeps it at `path`, with the passphrase and [`WorkFactor::PRODUCTION`].
    ///
    /// # Errors
    /// The path is taken, the passphrase is empty, or writing failed; then nothing is at `path`.
    pub fn create(path: &Path, passphrase: &SecretString) -> Result<Self, WalletError> {
        Self::create_with(path, passphrase, WorkFactor::PRODUCTION)
    }

    /// [`Self::create`] with a work factor.
    ///
    /// # Errors
    /// As of [`Self::create`].
    pub fn create_with(path: &Path, passphrase: &SecretString, work: WorkFactor) -> Result<Self, WalletError> {
        let mut entropy = Zeroizing::new([0; ENTROPY_BYTES]);
        getrandom::fill(entropy.as_mut_slice()).map_err(WalletError::Randomness)?;
        let mnemonic = Mnemonic::from_entropy(entropy.as_slice()).map_err(WalletError::Mnemonic)?;
        keep(path, passphrase, work, &Zeroizing::new(mnemonic.to_string()))
    }

    /// Keeps an existing BIP39 mnemonic (without a BIP39 passphrase) at `path`.
    ///
    /// # Errors
    /// Not a mnemonic; otherwise as of [`Self::create`].
    pub fn import(
        path: &Path,
        passphrase: &SecretString,
        work: WorkFactor,
        mnemonic: &SecretString,
    ) -> Result<Self, WalletError> {
        let mnemonic = Mnemonic::parse(mnemonic.expose_secret().trim()).map_err(WalletError::Mnemonic)?;
        keep(path, passphrase, work, &Zeroizing::new(mnemonic.to_string()))
    }

    /// Opens the keystore at `path`. Takes about a second at production strength: not for an async worker.
    ///
    /// # Errors
    /// Unreadable, wrong passphrase, altered, or not a keystore.
    pub fn open(path: &Path, passphrase: &SecretString) -> Result<Self, WalletError> {
        let sealed = fs::read(path).map_err(|source| WalletError::KeystoreRead { path: path.to_owned(), source })?;
        let mut identity = scrypt::Identity::new(passphrase.clone());
        identity.set_max_work_factor(WORK_FACTOR_MAX);
        let content = age::decrypt(&identity, &sealed)
            .map(Zeroizing::new)
            .map_err(|source| WalletError::KeystoreDecrypt { path: path.to_owned(), source })?;
        Self::read(std::str::from_utf8(&content).map_err(|_| WalletError::KeystoreContent)?.trim())
    }

    fn read(content: &str) -> Result<Self, WalletError> {
        let seed = if let Some(digits) = content.strip_prefix("seed:") {
            Zeroizing::new(hex::decode(digits).map_err(|_| WalletError::KeystoreContent)?)
        } else {
            let mnemonic = Mnemonic::parse(content).map_err(|_| WalletError::KeystoreContent)?;
            let seed = Zeroizing::new(mnemonic.to_seed(""));
            Zeroizing::new(seed.to_vec())
        };
        if matches!(seed.len(), 32 | 64) { Ok(Self { seed }) } else { Err(WalletError::KeystoreContent) }
    }

    /// The seed that all keys derive from.
    pub(crate) fn seed(&self) -> &[u8] {
        &self.seed
    }
}

fn keep(path: &Path, passphrase: &SecretString, work: WorkFactor, content: &str) -> Result<KeyStore, WalletError> {
    if passphrase.expose_secret().is_empty() {
        return Err(WalletError::PassphraseEmpty);
    }
    let store = KeyStore::read(content)?;
    let mut recipient = scrypt::Recipient::new(passphrase.clone());
    recipient.set_work_factor(work.0);
    let sealed = age::encrypt(&recipient, content.as_bytes()).map_err(WalletError::KeystoreEncrypt)?;
    place(path, &sealed).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => WalletError::KeystoreExists { path: path.to_owned() },
        _ => WalletError::KeystoreWrite { path: path.to_owned(), source },
    })?;
    Ok(store)
}

/// Puts `bytes` at `path`, whole, durably, and only if nothing is there: a hard link, unlike a rename, never replaces.
fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A name of this process alone, and made anew: nobody else's file or link is written through.
    let unfinished = beside(path, &format!("{}.new", std::process::id()));
    if unfinished.symlink_metadata().is_ok() {
        fs::remove_file(&unfinished)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let placed = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&unfinished, path));
    fs::remove_file(&unfinished)?;
    placed?;
    sync_folder(path)
}

/// The file next to `path` that carries it until it is whole.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// Makes the folder's entry for `path` durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn passphrase(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[test]
    fn a_keystore_opens_with_its_passphrase_only_and_gives_the_same_seed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.age");
        let made = KeyStore::create_with(&path, &passphrase("right"), WorkFactor::DEMONSTRATION).unwrap();
        let opened = KeyStore::open(&path, &passphrase("right")).unwrap();
        assert_eq!(made.seed(), opened.seed());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(KeyStore::open(&path, &passphrase("wrong")), Err(WalletError::KeystoreDecrypt { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing unfinished stays behind");
    }

    #[test]
    fn a_keystore_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.age");
        KeyStore::create_with(&path, &passphrase("p"), WorkFactor::DEMONSTRATION).unwrap();
        let before = fs::read(&path).unwrap();
        let again = KeyStore::create_with(&path, &passphrase("p"), WorkFactor::DEMONSTRATION);
        assert!(matches!(again, Err(WalletError::KeystoreExists { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn an_altered_keystore_and_an_empty_passphrase_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.age");
        let empty = KeyStore::create_with(&path, &passphrase(""), WorkFactor::DEMONSTRATION);
        assert!(matches!(empty, Err(WalletError::PassphraseEmpty)));
        KeyStore::create_with(&path, &passphrase("p"), WorkFactor::DEMONSTRATION).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(KeyStore::open(&path, &passphrase("p")).is_err());
    }

    #[test]
    fn a_seed_in_hexadecimal_must_be_32_or_64_bytes() {
        assert!(KeyStore::read(&format!("seed:{}", "ab".repeat(32))).is_ok());
        assert!(KeyStore::read(&format!("seed:{}", "ab".repeat(64))).is_ok());
        assert!(KeyStore::read(&format!("seed:{}", "ab".repeat(33))).is_err());
        assert!(KeyStore::read("seed:zz").is_err());
        assert!(KeyStore::read("test test").is_err());
    }
}
