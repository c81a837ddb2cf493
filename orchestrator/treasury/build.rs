//! Generates the state records from their contract, without a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    let file = "custos/state/v1/treasury.proto";
    println!("cargo:rerun-if-changed={root}/{file}");
    let set = protox::compile([file], [root])?;
    prost_build::Config::new().compile_fds(set)?;
    Ok(())
}
