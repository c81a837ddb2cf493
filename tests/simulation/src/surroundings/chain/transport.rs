//! The wire between the adapter and a node: alloy's client speaks to the network without sockets.

use std::task::{Context, Poll};

use alloy::rpc::json_rpc::{ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use serde_json::Value;
use serde_json::value::to_raw_value;
use tower::Service;

use super::answer::Answer;
use super::network::SharedNetwork;

/// The way to one node. Every request ends at once: a node that is silent is an error of the transport.
#[derive(Clone)]
pub struct Wire {
    network: SharedNetwork,
    node: usize,
}

impl Wire {
    /// The way to the node at this place in the settings.
    #[must_use]
    pub const fn new(network: SharedNetwork, node: usize) -> Self {
        Self { network, node }
    }

    fn one(&self, request: &SerializedRequest) -> Result<Response, TransportError> {
        let params = request.params().map_or(Ok(Value::Null), |params| serde_json::from_str(params.get()));
        let params = params.map_err(TransportErrorKind::custom)?;
        let payload = match self.network.lock().answer(self.node, request.method(), &params) {
            Answer::Result(value) => ResponsePayload::Success(to_raw_value(&value).map_err(TransportErrorKind::custom)?),
            Answer::Error(code, message) => {
                ResponsePayload::Failure(ErrorPayload { code, message: message.into(), data: None })
            }
            Answer::Silence => return Err(TransportErrorKind::custom_str("no answer in time")),
        };
        Ok(Response { id: request.id().clone(), payload })
    }
}

impl Service<RequestPacket> for Wire {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, asked: RequestPacket) -> Self::Future {
        let answered = match &asked {
            RequestPacket::Single(request) => self.one(request).map(ResponsePacket::Single),
            RequestPacket::Batch(requests) => {
                requests.iter().map(|request| self.one(request)).collect::<Result<_, _>>().map(ResponsePacket::Batch)
            }
        };
        Box::pin(std::future::ready(answered))
    }
}
