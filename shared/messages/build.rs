//! Generates the Protobuf types of `custos.v1` without a system `protoc`.

use std::error::Error;
use std::path::Path;

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
    prost_build::Config::new().compile_fds(protox::compile(files, [root])?)?;
    Ok(())
}
