//! Several byte strings in one: each with its length before it, so that an engine can change one without moving the others.
//!
//! Reading is total: a length beyond the end means the rest.

/// The parts of an input.
#[must_use]
pub fn split(input: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), input);
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (part, after) = behind.split_at(usize::from(u16::from_le_bytes(*length)).min(behind.len()));
        parts.push(part);
        rest = after;
    }
    parts
}

/// The input with these parts.
///
/// # Panics
/// A part longer than 65,535 bytes.
#[must_use]
pub fn join<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    let mut input = Vec::new();
    for part in parts {
        let part = part.as_ref();
        input.extend(u16::try_from(part.len()).expect("a part is short").to_le_bytes());
        input.extend(part);
    }
    input
}
