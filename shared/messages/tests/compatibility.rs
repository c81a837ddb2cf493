//! What was ever published on the wire stays as it was: names, numbers and types of every message, field and enum value.
//!
//! The memory is `proto/custos.v1.descriptors.binpb`. After an addition, `CUSTOS_BLESS=custos cargo test -p custos-messages --test
//! compatibility` adds it to the memory (a longer prefix, such as `custos.v1`, adds the packages of that name only); it still
//! refuses to forget anything.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// Everything that a peer may rely on, one line each.
type Surface = BTreeMap<String, String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto")
}

fn proto_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            proto_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    found.sort();
}

fn current() -> FileDescriptorSet {
    let mut files = Vec::new();
    proto_files(&root(), &mut files);
    assert!(files.len() >= 12, "the contract files are found");
    protox::compile(files, [root()]).unwrap()
}

fn describe_enum(scope: &str, item: &EnumDescriptorProto, surface: &mut Surface) {
    for value in &item.value {
        let name = format!("{scope}.{} = {}", item.name(), value.number());
        surface.insert(name, value.name().to_owned());
    }
}

fn describe_message(scope: &str, message: &DescriptorProto, surface: &mut Surface) {
    let name = format!("{scope}.{}", message.name());
    surface.insert(name.clone(), "message".to_owned());
    for field in &message.field {
        let oneof = field.oneof_index.and_then(|at| message.oneof_decl.get(usize::try_from(at).unwrap()));
        let group = oneof.map_or("", |oneof| oneof.name());
        let form = format!("{} {:?} {:?} {} [{group}]", field.name(), field.label(), field.r#type(), field.type_name());
        surface.insert(format!("{name}#{}", field.number()), form);
    }
    message.nested_type.iter().for_each(|nested| describe_message(&name, nested, surface));
    message.enum_type.iter().for_each(|nested| describe_enum(&name, nested, surface));
}

fn surface(set: &FileDescriptorSet) -> Surface {
    let mut surface = Surface::new();
    for file in &set.file {
        file.message_type.iter().for_each(|message| describe_message(file.package(), message, &mut surface));
        file.enum_type.iter().for_each(|item| describe_enum(file.package(), item, &mut surface));
    }
    surface
}

/// What `now` changed or forgot of `before`.
fn broken(before: &Surface, now: &Surface) -> Vec<String> {
    let changed = before.iter().filter(|(name, form)| now.get(*name) != Some(form));
    changed.map(|(name, form)| format!("{name}: was `{form}`, is {:?}", now.get(name))).collect()
}

#[test]
fn nothing_that_was_published_has_changed() {
    let memory = root().join("custos.v1.descriptors.binpb");
    let bless = std::env::var("CUSTOS_BLESS").ok();
    let mut now = current();
    let before = match std::fs::read(&memory) {
        Ok(bytes) => FileDescriptorSet::decode(bytes.as_slice()).unwrap(),
        Err(_) if bless.is_some() => FileDescriptorSet::default(),
        Err(problem) => panic!("{}: {problem}", memory.display()),
    };
    assert_eq!(broken(&surface(&before), &surface(&now)), Vec::<String>::new());
    if let Some(prefix) = bless {
        now.file
            .retain(|file| file.package().starts_with(&prefix) || before.file.iter().any(|old| old.name() == file.name()));
        std::fs::write(&memory, now.encode_to_vec()).unwrap();
    }
}

#[test]
fn a_changed_number_type_or_name_is_noticed() {
    let now = surface(&current());
    for name in now.keys() {
        let mut forgotten = now.clone();
        forgotten.remove(name);
        assert_eq!(broken(&now, &forgotten).len(), 1);
        let mut changed = now.clone();
        changed.insert(name.clone(), "something else".to_owned());
        assert_eq!(broken(&now, &changed).len(), 1);
        assert!(broken(&forgotten, &now).is_empty(), "an addition is fine");
    }
}
