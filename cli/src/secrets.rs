//! Secrets on disk: the sources' keys, the policy root, officers' keys. Files of hexadecimal digits, readable by their owner only.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, anyhow};
use custos_messages::{Keyring, Secret, Source};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

/// The secrets of all sources in `folder`, from `<source>.key`.
///
/// # Errors
/// A missing file, or one that is not 64 hexadecimal digits.
pub fn read_keyring(folder: &Path) -> anyhow::Result<Keyring> {
    let mut secrets = BTreeMap::new();
    for source in Source::ALL {
        secrets.insert(source, read_secret(folder, source)?);
    }
    Ok(Keyring::new(secrets))
}

/// The secret of one source in `folder`.
///
/// # Errors
/// See [`read_keyring`].
pub fn read_secret(folder: &Path, source: Source) -> anyhow::Result<Secret> {
    let path = folder.join(format!("{}.key", source.name()));
    Secret::new(&*read_key(&path)?).ok_or_else(|| anyhow!("{} is not a key", path.display()))
}

/// Makes a fresh secret for every source.
///
/// # Errors
/// A file exists already or cannot be written.
pub fn create_keyring(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    Source::ALL.iter().try_for_each(|source| create_key(&folder.join(format!("{}.key", source.name()))).map(drop))
}

/// The Ed25519 key in a file.
///
/// # Errors
/// A missing file, or one that is not 64 hexadecimal digits.
pub fn read_signing_key(path: &Path) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::from_bytes(&*read_key(path)?))
}

/// Makes a fresh Ed25519 key.
///
/// # Errors
/// The file exists already or cannot be written.
pub fn create_signing_key(path: &Path) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::from_bytes(&*create_key(path)?))
}

fn read_key(path: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let text =
        Zeroizing::new(std::fs::read_to_string(path).with_context(|| format!("the key {} cannot be read", path.display()))?);
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), &mut *bytes)
        .with_context(|| format!("{} is not 64 hexadecimal digits", path.display()))?;
    Ok(bytes)
}

fn create_key(path: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| anyhow!("no randomness: {error}"))?;
    write_secret(path, &Zeroizing::new(hex::encode(*bytes)))?;
    Ok(bytes)
}

/// Writes a secret into a new file that only its owner may read.
///
/// # Errors
/// The file exists already or cannot be written.
pub fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("{} cannot be created", path.display()))?;
    writeln!(file, "{text}").with_context(|| format!("{} cannot be written", path.display()))?;
    file.sync_all().with_context(|| format!("{} cannot be made durable", path.display()))
}
