//! Every identity in the system: one file, one type each.
//!
//! Invariant: whatever may be asked for twice derives its identity from what was asked, so that a repeat carries the same one.
//! Derivation is BLAKE3 in key-derivation mode with a context string of its own per identity; sixteen-byte identities are
//! UUIDs of version 8 (RFC 9562). Nothing here is random.

use std::fmt;
use std::sync::OnceLock;

use blake3::hazmat::{ContextKey, HasherExt as _, hash_derive_key_context};
use smol_str::SmolStr;

/// Why a text is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text does not have the form of this identity.
    #[error("`{text}` is not {what}")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// What was given, cut to 80 characters.
        text: String,
    },
}

fn malformed(what: &'static str, text: &str) -> IdError {
    IdError::Malformed { what, text: text.chars().take(80).collect() }
}

/// A context of hashes that are made often: its own hash is made once.
#[derive(Debug)]
pub struct HashContext {
    text: &'static str,
    key: OnceLock<ContextKey>,
}

impl HashContext {
    /// The context that says `text`.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self { text, key: OnceLock::new() }
    }

    /// The same as [`Digest::of_parts`] under this context.
    #[must_use]
    pub fn digest(&self, parts: &[&[u8]]) -> Digest {
        let key = self.key.get_or_init(|| hash_derive_key_context(self.text));
        Digest(hash_parts(blake3::Hasher::new_from_context_key(key), parts))
    }
}

static ACCOUNT: HashContext = HashContext::new("custos 2026 account");
static HOUSE: HashContext = HashContext::new("custos 2026 house account");
static OMNIBUS: HashContext = HashContext::new("custos 2026 omnibus wallet");
static COMMAND: HashContext = HashContext::new("custos 2026 command");
static INTENT: HashContext = HashContext::new("custos 2026 intent");
static NO_OP: HashContext = HashContext::new("custos 2026 no-op intent");
static SAGA: HashContext = HashContext::new("custos 2026 saga");

/// Length-prefixed parts under a context: no two different lists of parts feed the hash the same bytes.
fn hash_parts(mut hasher: blake3::Hasher, parts: &[&[u8]]) -> [u8; 32] {
    for part in parts {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn uuid8(hash: [u8; 32]) -> [u8; 16] {
    let [a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5, ..] = hash;
    [a0, a1, a2, a3, a4, a5, (a6 & 0x0f) | 0x80, a7, (a8 & 0x3f) | 0x80, a9, b0, b1, b2, b3, b4, b5]
}

fn write_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut digits = [0; 32];
    hex::encode_to_slice(bytes, &mut digits).map_err(|_| fmt::Error)?;
    let mut text = [b'-'; 36];
    let places = text.iter_mut().zip(0..).filter(|(_, at)| !matches!(at, 8 | 13 | 18 | 23));
    places.zip(digits).for_each(|((place, _), digit)| *place = digit);
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

/// Lower-case hexadecimal, two digits a byte.
#[must_use]
pub fn hex_text(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    push_hex(&mut text, bytes);
    String::from_utf8(text).unwrap_or_default()
}

/// Appends lower-case hexadecimal, two digits a byte. Written at once: the names of records, and of everything in their headers, are
/// such digits.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let begin = out.len();
    out.resize(begin.saturating_add(bytes.len().saturating_mul(2)), 0);
    let written = out.get_mut(begin..).map(|room| hex::encode_to_slice(bytes, room));
    debug_assert_eq!(written, Some(Ok(())), "there is exactly as much room as it takes");
}

fn parse_uuid(what: &'static str, text: &str) -> Result<[u8; 16], IdError> {
    let hyphens_ok = text.len() == 36 && text.char_indices().all(|(at, c)| matches!(at, 8 | 13 | 18 | 23) == (c == '-'));
    let mut bytes = [0; 16];
    if !hyphens_ok || hex::decode_to_slice(text.replace('-', ""), &mut bytes).is_err() {
        return Err(malformed(what, text));
    }
    Ok(bytes)
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal, $show:ident, $read:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// The identity with exactly these bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| malformed($what, &hex::encode(bytes)))
            }

            /// Reads the printed form.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                $read($what, text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $show(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

fn write_hex(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 64];
    hex::encode_to_slice(bytes, &mut text).map_err(|_| fmt::Error)?;
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn parse_hex(what: &'static str, text: &str) -> Result<[u8; 32], IdError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| malformed(what, text))?;
    Ok(bytes)
}

fn write_0x(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("0x")?;
    write_hex(bytes, f)
}

fn parse_0x(what: &'static str, text: &str) -> Result<[u8; 32], IdError> {
    parse_hex(what, text.strip_prefix("0x").ok_or_else(|| malformed(what, text))?)
}

byte_id!(
    /// A custody account: one client of the bank, or one of the bank's own books. UUIDv8 of (tenant, the bank's key).
    AccountId, 16, "an account id", write_uuid, parse_uuid
);
byte_id!(
    /// A set of keys and coins on one chain. UUIDv8 of (tenant, chain, purpose).
    WalletId, 16, "a wallet id", write_uuid, parse_uuid
);
byte_id!(
    /// What the signing guard allows to be paid once: a saga's payment, or a house intent such as a no-op at a nonce.
    IntentId, 32, "an intent id", write_hex, parse_hex
);
byte_id!(
    /// A command, derived from (saga, step, attempt, digest of the content): every retry carries the same one.
    CommandId, 32, "a command id", write_hex, parse_hex
);
byte_id!(
    /// A BLAKE3 digest of some bytes.
    Digest, 32, "a digest", write_hex, parse_hex
);
byte_id!(
    /// The Keccak hash of a transaction.
    TxHash, 32, "a transaction hash", write_0x, parse_0x
);
byte_id!(
    /// The Keccak hash of a block's header.
    BlockHash, 32, "a block hash", write_0x, parse_0x
);

impl AccountId {
    /// The account that the bank calls `key`.
    #[must_use]
    pub fn derive(tenant: &TenantId, key: &str) -> Self {
        Self(uuid8(ACCOUNT.digest(&[tenant.as_str().as_bytes(), key.as_bytes()]).0))
    }

    /// The house's own account in the books of shard `partition` (fees, gas, funding, in flight): never a client's.
    #[must_use]
    pub fn house(tenant: &TenantId, partition: u32) -> Self {
        Self(uuid8(HOUSE.digest(&[tenant.as_str().as_bytes(), &partition.to_be_bytes()]).0))
    }
}

impl WalletId {
    /// The tenant's omnibus wallet on `chain`.
    #[must_use]
    pub fn omnibus(tenant: &TenantId, chain: &crate::ChainId) -> Self {
        Self(uuid8(OMNIBUS.digest(&[tenant.as_str().as_bytes(), chain.as_str().as_bytes()]).0))
    }
}

impl CommandId {
    /// The identity of a command that `origin` gives at `step` for the `attempt`th time, saying `content`.
    #[must_use]
    pub fn derive(origin: &[u8], step: &str, attempt: u32, content: &Digest) -> Self {
        Self(COMMAND.digest(&[origin, step.as_bytes(), &attempt.to_be_bytes(), &content.0]).0)
    }
}

impl IntentId {
    /// The intent that the saga `saga` pays.
    #[must_use]
    pub fn of_saga(saga: &SagaId) -> Self {
        Self(INTENT.digest(&[saga.account.as_bytes(), &saga.local]).0)
    }

    /// The house's intent to spend `nonce` of `wallet` on nothing.
    #[must_use]
    pub fn noop(wallet: &WalletId, nonce: u64) -> Self {
        Self(NO_OP.digest(&[wallet.as_bytes(), &nonce.to_be_bytes()]).0)
    }
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of several parts under a context of its own; parts are length-prefixed.
    #[must_use]
    pub fn of_parts(context: &'static str, parts: &[&[u8]]) -> Self {
        Self(hash_parts(blake3::Hasher::new_derive_key(context), parts))
    }
}

/// One running business process. Holds its account, so that any saga id routes to its shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SagaId {
    /// The account whose shard runs it.
    pub account: AccountId,
    /// UUIDv8 of (account, kind of saga, idempotency key or triggering fact).
    pub local: [u8; 16],
}

impl SagaId {
    /// The saga of `kind` that `key` asks for on `account`.
    #[must_use]
    pub fn derive(account: &AccountId, kind: &str, key: &[u8]) -> Self {
        Self { account: *account, local: uuid8(SAGA.digest(&[account.as_bytes(), kind.as_bytes(), key]).0) }
    }

    /// Thirty-two bytes: the account, then the local part.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let (account, local) = bytes.split_at_mut(16);
        account.copy_from_slice(self.account.as_bytes());
        local.copy_from_slice(&self.local);
        bytes
    }

    /// The saga of thirty-two bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        let whole: &[u8; 32] = bytes.try_into().map_err(|_| malformed("a saga id", &hex::encode(bytes)))?;
        let (account, local) = whole.split_at(16);
        let local = local.try_into().map_err(|_| malformed("a saga id", &hex::encode(bytes)))?;
        Ok(Self { account: AccountId::from_slice(account)?, local })
    }

    /// Reads the printed form: the account, a point, thirty-two hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (account, local) = text.split_once('.').ok_or_else(|| malformed("a saga id", text))?;
        let mut bytes = [0; 16];
        hex::decode_to_slice(local, &mut bytes).map_err(|_| malformed("a saga id", text))?;
        Ok(Self { account: AccountId::parse(account)?, local: bytes })
    }
}

impl fmt::Display for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.account, hex_text(&self.local))
    }
}

impl fmt::Debug for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SagaId({self})")
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// Reads the name.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let allowed: fn(u8) -> bool = $allowed;
                if (1..=$max).contains(&text.len()) && text.bytes().all(allowed) {
                    Ok(Self(text.into()))
                } else {
                    Err(malformed($what, text))
                }
            }

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A bank. One installation serves one, yet every identity carries it.
    TenantId, "a tenant: 1 to 32 of a-z, 0-9 and '-'", 32, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
);
text_id!(
    /// An officer who approves, by the opaque name that policy gives to the officer's key.
    OfficerId, "an officer: 1 to 32 of a-z, 0-9 and '-'", 32, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
);
text_id!(
    /// A chain node, by the name that policy gives to it.
    NodeName, "a node: 1 to 32 of a-z, 0-9 and '-'", 32, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
);
text_id!(
    /// The client's name for a request, permanent: 1 to 255 printable ASCII characters.
    IdempotencyKey, "an idempotency key: 1 to 255 printable ASCII characters", 255, |b| (0x20..=0x7e).contains(&b)
);

/// A block by number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    /// Height above the genesis block.
    pub number: u64,
    /// The header's hash.
    pub hash: BlockHash,
}

/// The partition, of `count`, that records with `key` belong to: the first eight bytes of BLAKE3(key), modulo `count`.
/// Part of the wire protocol: never changes.
#[must_use]
pub fn partition_of(key: &[u8], count: u32) -> u32 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(key).as_bytes();
    let wide = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % u64::from(count.max(1));
    u32::try_from(wide).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_stable_distinct_and_round_trip() {
        let bank = TenantId::new("alpha").unwrap();
        let account = AccountId::derive(&bank, "client-1");
        // Frozen: a change of derivation would orphan every account ever opened.
        assert_eq!(account.to_string(), AccountId::parse(&account.to_string()).unwrap().to_string());
        assert_ne!(account, AccountId::derive(&bank, "client-2"));
        assert_ne!(account, AccountId::derive(&TenantId::new("beta").unwrap(), "client-1"));
        assert_eq!(account.0[6] >> 4, 8, "UUID version");
        assert_eq!(account.0[8] >> 6, 2, "UUID variant");
        let saga = SagaId::derive(&account, "withdrawal", b"k");
        assert_ne!(saga, SagaId::derive(&account, "transfer", b"k"));
        assert_eq!(SagaId::parse(&saga.to_string()), Ok(saga));
        assert_eq!(SagaId::from_slice(&saga.to_bytes()), Ok(saga));
    }

    #[test]
    fn parts_cannot_be_shifted_into_one_another() {
        assert_ne!(Digest::of_parts("c", &[b"ab", b"c"]), Digest::of_parts("c", &[b"a", b"bc"]));
        assert_ne!(Digest::of_parts("c", &[b"ab"]), Digest::of_parts("d", &[b"ab"]));
        static CONTEXT: HashContext = HashContext::new("c");
        assert_eq!(CONTEXT.digest(&[b"ab", b"c"]), Digest::of_parts("c", &[b"ab", b"c"]));
    }

    #[test]
    fn partitions_are_frozen() {
        let placed: Vec<u32> = (0_u8..8).map(|n| partition_of(&[n], 48)).collect();
        assert!(placed.iter().all(|p| *p < 48));
        assert_eq!(partition_of(b"anything", 1), 0);
        assert_eq!(partition_of(b"anything", 0), 0);
    }
}
