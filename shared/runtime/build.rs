//! Compiles the runtime's own records and the operator service, without a system protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}/custos/state/v1/runtime.proto");
    println!("cargo:rerun-if-changed={root}/custos/ops/v1/ops.proto");
    let descriptors = protox::compile(["custos/state/v1/runtime.proto", "custos/ops/v1/ops.proto"], [root])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
