//! Generates the state records from their contract, without a system `protoc`.

#[path = "../../proto/field_numbers.rs"]
mod field_numbers;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    let file = "custos/state/v1/accounts.proto";
    println!("cargo:rerun-if-changed={root}/{file}");
    let set = protox::compile([file], [root])?;
    println!("cargo:rerun-if-changed={root}/field_numbers.rs");
    let numbers = field_numbers::field_numbers(&set, "custos.state.v1.accounts");
    std::fs::write(std::path::Path::new(&std::env::var("OUT_DIR")?).join("custos.state.v1.accounts.numbers.rs"), numbers)?;
    prost_build::Config::new().compile_fds(set)?;
    Ok(())
}
