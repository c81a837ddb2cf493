//! Generates the Protobuf types of `custos.v1` without a system `protoc`.

use std::error::Error;
use std::path::Path;

#[path = "../../proto/field_numbers.rs"]
mod field_numbers;

/// Everything but the policy, which `custos-policy` owns.
const FILES: [&str; 11] = [
    "value",
    "accounts",
    "treasury",
    "chain",
    "wallet",
    "compliance",
    "blockchain",
    "events",
    "gateway",
    "watch",
    "runtime",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../proto");
    println!("cargo::rerun-if-changed=../../proto/custos/v1");
    let files = FILES.map(|name| root.join(format!("custos/v1/{name}.proto")));
    println!("cargo::rerun-if-changed=../../proto/field_numbers.rs");
    let set = protox::compile(files, [root])?;
    let numbers = field_numbers::field_numbers(&set, "custos.v1");
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("custos.v1.numbers.rs"), numbers)?;
    prost_build::Config::new().compile_fds(set)?;
    Ok(())
}
