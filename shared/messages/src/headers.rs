//! The headers of a record: names and values in order, in one piece of memory.
//!
//! The piece is, for each header, the length of its name, the name, the length of its value and the value; a length is 64 bits,
//! little-endian. The embedded log writes it to disk as it stands, so this form does not change. Invariant: a [`Headers`] holds
//! nothing else, and its names are UTF-8. A record has a dozen headers and is written, sealed, kept, sent and read, so that two
//! allocations for each of them would be most of what a process allocates.

use std::fmt;

/// Bytes of a length.
const LENGTH: usize = 8;

/// Headers in order. A name may stand more than once, as in Kafka.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    bytes: Vec<u8>,
    count: usize,
}

/// The headers of a record, one after the other.
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a [u8]);

impl Headers {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), count: 0 }
    }

    /// None yet, with room for so many bytes of names, values and lengths.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), count: 0 }
    }

    /// Reads `count` headers from the beginning of `bytes`; what follows them is given back. `None` if `bytes` end before, or a
    /// name is not UTF-8.
    #[must_use]
    pub fn read(count: usize, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = bytes;
        for _ in 0..count {
            let (name, value) = split(rest)?;
            std::str::from_utf8(name).ok()?;
            (_, rest) = split(value)?;
        }
        let (taken, rest) = bytes.split_at_checked(bytes.len().checked_sub(rest.len())?)?;
        Some((Self { bytes: taken.to_vec(), count }, rest))
    }

    /// All of them in the form that [`Headers::read`] reads.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all names and values together.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.bytes.len().saturating_sub(self.count.saturating_mul(2 * LENGTH))
    }

    /// Appends one.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.push_with(name, |out| out.extend_from_slice(value.as_ref()));
    }

    /// Appends one whose value is what `write` appends to what it is given.
    pub fn push_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(&length(name.len()));
        self.bytes.extend_from_slice(name.as_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTH]);
        let begin = self.bytes.len();
        write(&mut self.bytes);
        let written = length(self.bytes.len().saturating_sub(begin));
        if let Some(place) = self.bytes.get_mut(at..begin) {
            place.copy_from_slice(&written);
        }
        self.count = self.count.saturating_add(1);
    }

    /// The value of the first header of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Drops every header that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &[u8]) -> bool) {
        *self = self.iter().filter(|(name, value)| keep(name, value)).collect();
    }

    /// Drops all.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// The same as bytes: names are compared more often than they are told.
    pub(crate) fn as_pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (name, more) = split(rest)?;
            let (value, more) = split(more)?;
            rest = more;
            Some((name, value))
        })
    }

    /// Each with its name and value, in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter(&self.bytes)
    }
}

/// The bytes that `bytes` begin with, behind their length, and what follows them.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

/// A length as it is written. No supported machine has wider addresses; saturates rather than wraps.
fn length(length: usize) -> [u8; LENGTH] {
    u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes()
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = split(self.0)?;
        let (value, rest) = split(rest)?;
        self.0 = rest;
        Some((std::str::from_utf8(name).unwrap_or_default(), value))
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Extend<(N, V)> for Headers {
    fn extend<T: IntoIterator<Item = (N, V)>>(&mut self, headers: T) {
        headers.into_iter().for_each(|(name, value)| self.push(name.as_ref(), value));
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(headers: T) -> Self {
        let mut all = Self::new();
        all.extend(headers);
        all
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const COUNT: usize> From<[(N, V); COUNT]> for Headers {
    fn from(headers: [(N, V); COUNT]) -> Self {
        headers.into_iter().collect()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_pushed_is_there_in_order_and_is_read_back(
            pairs in prop::collection::vec((".{0,9}", prop::collection::vec(any::<u8>(), 0..9)), 0..9),
            rest in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let headers: Headers = pairs.iter().map(|(name, value)| (name, value)).collect();
            let held: Vec<_> = headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            prop_assert_eq!(&held, &pairs);
            prop_assert_eq!((headers.len(), headers.is_empty()), (pairs.len(), pairs.is_empty()));
            prop_assert_eq!(headers.size(), pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>());
            for (name, _) in &pairs {
                let first = pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice());
                prop_assert_eq!(headers.get(name), first);
            }
            let bytes = [headers.as_bytes(), &rest].concat();
            prop_assert_eq!(Headers::read(pairs.len(), &bytes), Some((headers, rest.as_slice())));
        }

        #[test]
        fn bytes_of_anybody_are_read_whole_or_refused(count in 0_usize..4, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some((headers, rest)) = Headers::read(count, &bytes) {
                prop_assert_eq!(headers.iter().count(), count);
                prop_assert_eq!([headers.as_bytes(), rest].concat(), bytes);
            }
        }
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let headers = Headers::from([("ab", "xyz"), ("", "")]);
        let form = b"\x02\0\0\0\0\0\0\0ab\x03\0\0\0\0\0\0\0xyz\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(headers.as_bytes(), form);
        for end in 0..form.len() {
            assert_eq!(Headers::read(2, &form[..end]), None, "{end} bytes");
        }
        assert_eq!(Headers::read(usize::MAX, form), None);
        let name_that_is_no_text = b"\x01\0\0\0\0\0\0\0\xff\0\0\0\0\0\0\0\0";
        assert_eq!(Headers::read(1, name_that_is_no_text), None);
    }

    #[test]
    fn what_is_not_wanted_is_dropped() {
        let mut headers = Headers::from([("a", "1"), ("b", "2"), ("a", "3")]);
        headers.retain(|name, value| name == "b" || value == b"3");
        assert_eq!(headers, Headers::from([("b", "2"), ("a", "3")]));
        headers.clear();
        assert_eq!(headers, Headers::new());
    }
}
