//! Generates the Protobuf types of the policy without a system `protoc`.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../proto");
    println!("cargo::rerun-if-changed=../../proto/custos/v1/policy.proto");
    prost_build::Config::new().compile_fds(protox::compile([root.join("custos/v1/policy.proto")], [root])?)?;
    Ok(())
}
