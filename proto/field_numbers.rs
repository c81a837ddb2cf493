//! Field numbers as constants, for build scripts: the numbers that `wire` writes are those of the contract, and stand nowhere else.
//!
//! `Message::field` for every field, and for a field of a choice also `Message::Variant`, named as the generated variant is.

use std::fmt::Write as _;

use prost_types::{DescriptorProto, FileDescriptorSet};

/// The constants of every message of `package`.
pub fn field_numbers(set: &FileDescriptorSet, package: &str) -> String {
    let files = set.file.iter().filter(|file| file.package() == package);
    files.flat_map(|file| &file.message_type).map(numbers_of).collect()
}

fn numbers_of(message: &DescriptorProto) -> String {
    let mut text = format!("pub mod {} {{\n", message.name());
    for field in &message.field {
        // Some names are words that Rust keeps for itself.
        let _ = writeln!(text, "pub const r#{}: u32 = {};", field.name(), field.number());
        if field.oneof_index.is_some() && !field.proto3_optional() {
            let _ = writeln!(text, "pub const {}: u32 = {};", variant(field.name()), field.number());
        }
    }
    message.nested_type.iter().for_each(|nested| text.push_str(&numbers_of(nested)));
    text.push_str("}\n");
    text
}

fn variant(field: &str) -> String {
    let word =
        |word: &str| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect::<String>();
    field.split('_').map(word).collect()
}
