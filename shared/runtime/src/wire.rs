//! Generated Protobuf code of the runtime's own records and of the operator service.

#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::as_conversions)]

pub mod state {
    tonic::include_proto!("custos.state.v1");
}

pub mod ops {
    tonic::include_proto!("custos.ops.v1");
}
