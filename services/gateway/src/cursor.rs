//! Cursors: the place of a page in a list, signed so that only a cursor that this list gave is taken.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::GatewayError;
use crate::problem::{Code, Fault, Problem};

/// Bytes of the signature that a cursor carries.
const SEAL: usize = 16;
/// Longer texts are not looked at.
const LONGEST: usize = 256;

/// The secret that cursors are signed with; all instances share one. Never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CursorSecret([u8; 32]);

impl CursorSecret {
    /// The secret of 32 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits from a file.
    ///
    /// # Errors
    /// Unreadable, or not 64 hexadecimal digits.
    pub fn read(path: &Path) -> Result<Self, GatewayError> {
        let text = zeroize::Zeroizing::new(
            std::fs::read_to_string(path).map_err(|source| GatewayError::File { path: path.to_owned(), source })?,
        );
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim_end(), &mut bytes)
            .map_err(|_| GatewayError::CursorSecret { path: path.to_owned() })?;
        Ok(Self(bytes))
    }

    /// The text of `place` in `list`: the list's name with its filters.
    pub(crate) fn write(&self, list: &str, place: &impl fmt::Display) -> String {
        let place = place.to_string();
        let bytes = [self.seal(list, &place).as_slice(), place.as_bytes()].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place in `list` that `text` names, if this list gave it.
    pub(crate) fn place<T: FromStr>(&self, list: &str, text: &str) -> Result<T, Problem> {
        self.open(list, text).ok_or_else(|| Problem {
            code: Code::InvalidCursor,
            detail: None,
            errors: vec![Fault::new("query:cursor", "invalid-cursor", "not a cursor of this list with these filters")],
        })
    }

    fn open<T: FromStr>(&self, list: &str, text: &str) -> Option<T> {
        if text.len() > LONGEST {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (seal, place) = bytes.split_at_checked(SEAL)?;
        let place = std::str::from_utf8(place).ok()?;
        if !bool::from(self.seal(list, place).as_slice().ct_eq(seal)) {
            return None;
        }
        place.parse().ok()
    }

    fn seal(&self, list: &str, place: &str) -> Vec<u8> {
        // HMAC takes a key of any length, so this cannot fail; an empty seal would open nothing.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return Vec::new() };
        mac.update(b"custos cursor\0");
        mac.update(list.as_bytes());
        mac.update(b"\0");
        mac.update(place.as_bytes());
        mac.finalize().into_bytes().into_iter().take(SEAL).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_list_that_gave_a_cursor_takes_it() {
        let secret = CursorSecret::new([7; 32]);
        let text = secret.write("accounts", &42_u64);
        assert_eq!(secret.open::<u64>("accounts", &text), Some(42));
        assert_eq!(secret.open::<u64>("accounts?x", &text), None, "another list");
        assert_eq!(CursorSecret::new([8; 32]).open::<u64>("accounts", &text), None, "another secret");
        for forged in ["", "AAAA", "!", &text[1..], &format!("{text}A"), &"A".repeat(300)] {
            assert_eq!(secret.open::<u64>("accounts", forged), None, "{forged}");
        }
    }
}
