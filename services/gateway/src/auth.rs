//! Who asks: API keys, their roles, and what a role may do.
//!
//! A key is `custos_<id>_<secret>`; the secret is 32 random bytes, of which only the SHA-256 digest is kept, so it needs no salt and
//! no slow hash. Comparison takes the same time for every key, known or not. Secrets are never printed or logged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::GatewayError;
use crate::problem::{Code, Problem};
use crate::server::App;

/// What a key may do. Every role reads everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The bank's back office: opens accounts and asks for addresses, withdrawals and transfers.
    Bank,
    /// Reads only.
    Read,
    /// Hands in officers' signed decisions.
    Officer,
}

/// A new key: the text that its holder gets once, and the entry that the gateway keeps.
pub struct ApiKey {
    /// `custos_<id>_<secret>`, to be shown once.
    pub text: Zeroizing<String>,
    /// What goes into the file.
    pub entry: ApiKeyEntry,
}

/// A key as the file keeps it: a `[[key]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyEntry {
    /// 1 to 32 of `a-z`, `0-9` and `-`.
    pub id: String,
    /// SHA-256 of the secret, 64 hexadecimal digits.
    pub hash: String,
    /// What it may do.
    pub role: Role,
}

/// The keys that the door opens for.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys(BTreeMap<String, ([u8; 32], Role)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<ApiKeyEntry>,
}

impl ApiKey {
    /// Draws a new key called `id`.
    ///
    /// # Errors
    /// The id is malformed, or the operating system gives no randomness.
    pub fn generate(id: &str, role: Role) -> Result<Self, GatewayError> {
        check_id(id)?;
        let mut secret = Zeroizing::new([0_u8; 32]);
        getrandom::fill(&mut *secret).map_err(GatewayError::Randomness)?;
        let digits = Zeroizing::new(hex::encode(secret.as_slice()));
        let entry = ApiKeyEntry { id: id.to_owned(), hash: hex::encode(Sha256::digest(secret.as_slice())), role };
        Ok(Self { text: Zeroizing::new(format!("custos_{id}_{}", *digits)), entry })
    }
}

impl ApiKeyEntry {
    /// The `[[key]]` table to append to the file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let role = match self.role {
            Role::Bank => "bank",
            Role::Read => "read",
            Role::Officer => "officer",
        };
        format!("[[key]]\nid = \"{}\"\nhash = \"{}\"\nrole = \"{role}\"\n", self.id, self.hash)
    }
}

fn check_id(id: &str) -> Result<(), GatewayError> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=32).contains(&id.len()) && id.bytes().all(fine) {
        Ok(())
    } else {
        Err(GatewayError::Key { id: id.chars().take(40).collect(), problem: "the id is 1 to 32 of a-z, 0-9 and '-'" })
    }
}

impl ApiKeys {
    /// The keys of these entries.
    ///
    /// # Errors
    /// A malformed id or hash, or an id that stands twice.
    pub fn new(entries: impl IntoIterator<Item = ApiKeyEntry>) -> Result<Self, GatewayError> {
        let mut keys = BTreeMap::new();
        for ApiKeyEntry { id, hash, role } in entries {
            check_id(&id)?;
            let wrong = |problem| GatewayError::Key { id: id.clone(), problem };
            let mut digest = [0; 32];
            hex::decode_to_slice(&hash, &mut digest).map_err(|_| wrong("the hash is 64 hexadecimal digits"))?;
            if keys.insert(id.clone(), (digest, role)).is_some() {
                return Err(wrong("the id stands twice"));
            }
        }
        Ok(Self(keys))
    }

    /// Reads the file of keys.
    ///
    /// # Errors
    /// Unreadable, not a list of keys, or a key that is wrong.
    pub fn read(path: &Path) -> Result<Self, GatewayError> {
        let text = std::fs::read_to_string(path).map_err(|source| GatewayError::File { path: path.to_owned(), source })?;
        let file: File = toml::from_str(&text).map_err(|source| GatewayError::Keys { path: path.to_owned(), source })?;
        Self::new(file.key)
    }

    /// Whose key `text` is.
    fn holder(&self, text: &str) -> Option<Caller> {
        let (id, digits) = text.strip_prefix("custos_")?.split_once('_')?;
        let mut secret = Zeroizing::new([0_u8; 32]);
        hex::decode_to_slice(digits, &mut *secret).ok()?;
        let given: [u8; 32] = Sha256::digest(secret.as_slice()).into();
        // An unknown id is compared too, so that time does not tell which ids exist.
        let known = self.0.get(id);
        let (digest, role) = known.copied().unwrap_or(([0; 32], Role::Read));
        let same = bool::from(digest.ct_eq(&given));
        (same && known.is_some()).then(|| Caller { id: id.to_owned(), role })
    }
}

/// Who was let in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) id: String,
    pub(crate) role: Role,
}

/// Lets only holders of a key pass.
pub(crate) async fn authenticate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token.and_then(|token| app.keys.holder(token)) {
        Some(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        None => Problem::new(Code::Unauthenticated).into_response(),
    }
}

/// Proof that the caller may ask in the bank's name.
pub(crate) struct Bank;

/// Proof that the caller may hand in decisions.
pub(crate) struct Officer;

fn require(parts: &Parts, role: Role) -> Result<(), Problem> {
    let caller = parts.extensions.get::<Caller>().ok_or(Problem::new(Code::Unauthenticated))?;
    if caller.role == role {
        Ok(())
    } else {
        tracing::warn!(key = caller.id, path = parts.uri.path(), "a key asked for what its role may not do");
        Err(Problem::new(Code::Forbidden))
    }
}

impl<S: Sync> FromRequestParts<S> for Bank {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        require(parts, Role::Bank).map(|()| Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Officer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        require(parts, Role::Officer).map(|()| Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_opens_and_no_other_text_does() {
        let key = ApiKey::generate("back-office", Role::Bank).unwrap();
        let file: File = toml::from_str(&key.entry.to_toml()).unwrap();
        let keys = ApiKeys::new(file.key).unwrap();
        assert_eq!(keys.holder(&key.text).map(|caller| (caller.id, caller.role)), Some(("back-office".into(), Role::Bank)));
        let other = ApiKey::generate("back-office", Role::Bank).unwrap();
        let zero = format!("custos_nobody_{}", "0".repeat(64));
        for text in ["", "custos", "custos_back-office_", "custos_back-office_00", &key.text[1..], &other.text, &zero] {
            assert!(keys.holder(text).is_none(), "{text}");
        }
        assert!(!key.entry.to_toml().contains(key.text.rsplit('_').next().unwrap()), "the file does not hold the secret");
    }

    #[test]
    fn wrong_entries_are_refused() {
        let entry = ApiKey::generate("a", Role::Read).unwrap().entry;
        assert!(ApiKeys::new([entry.clone(), entry.clone()]).is_err());
        assert!(ApiKeys::new([ApiKeyEntry { hash: "00".into(), ..entry.clone() }]).is_err());
        assert!(ApiKeys::new([ApiKeyEntry { id: "A_b".into(), ..entry }]).is_err());
        assert!(ApiKey::generate("with_underscore", Role::Read).is_err());
    }
}
