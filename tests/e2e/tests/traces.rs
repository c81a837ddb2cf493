//! One request of the bank is one trace, through every part that has to do with it: the context travels in the headers of requests and
//! records, and what arrives is asked of a collector.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use custos_e2e::{CONFIRMATIONS, ETHER, Part, Withdrawal, World};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A collector of spans by OTLP over gRPC.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

impl Collector {
    /// Listens, and gives its address.
    async fn listen(&self) -> anyhow::Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let server = Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Ok(format!("http://{address}"))
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn attribute<'s>(span: &'s Span, name: &str) -> Option<&'s str> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The part that a span is of.
fn part(span: &Span) -> Option<&str> {
    attribute(span, "service").or_else(|| attribute(span, "machine"))
}

async fn watched(world: &mut World, collector: &Collector) -> anyhow::Result<()> {
    // From here on every part tells the collector, although its log says only what is wrong.
    world.stop().await?;
    let endpoint = collector.listen().await?;
    let path = world.installation.folder().join("custos.toml");
    let config = std::fs::read_to_string(&path)?;
    let told = config.replace("filter = \"info\"", &format!("filter = \"error\"\notlp = \"{endpoint}\""));
    anyhow::ensure!(told != config, "the configuration has a section for telemetry");
    std::fs::write(&path, told)?;
    world.start("all", &Part::ALL).await
}

async fn one_trace(world: &mut World, collector: &Collector) -> anyhow::Result<()> {
    watched(world, collector).await?;
    let (account, address) = world.client("client").await?;
    world.chain.pay(address, 20 * ETHER).await?;
    world.chain.mine(CONFIRMATIONS).await?;
    world.bank.has(&account, "ETH", custos_e2e::Balance::available(20 * ETHER)).await?;
    let wish = Withdrawal { key: "traced", asset: "ETH", amount: "1", to: World::stranger("traced"), fee_max: "0.01" };
    let id = world.bank.withdraw(&account, &wish).await?.map_err(|refused| anyhow::anyhow!("{}", refused.body))?;
    world.mine_until_done(&[&id]).await?;
    // What ends in order sends what it has not sent yet.
    tokio::time::timeout(Duration::from_secs(60), world.stop()).await.context("the worker does not end")??;
    let spans = collector.spans();
    let is_request = |span: &&Span| {
        attribute(span, "method") == Some("POST")
            && attribute(span, "path").is_some_and(|path| path.ends_with("/withdrawals"))
    };
    let root = spans.iter().find(is_request).with_context(|| format!("none of {} spans is the request", spans.len()))?;
    anyhow::ensure!(root.parent_span_id.is_empty(), "the bank named no trace, so the request begins one");
    let trace: Vec<&Span> = spans.iter().filter(|span| span.trace_id == root.trace_id).collect();
    let parts: BTreeSet<&str> = trace.iter().filter_map(|span| part(span)).collect();
    let expected = ["gateway", "accounts", "compliance", "treasury", "wallet", "blockchain"];
    for name in expected {
        anyhow::ensure!(parts.contains(name), "{name} is not in the trace of the withdrawal: {parts:?}");
    }
    let known: BTreeSet<&[u8]> = trace.iter().map(|span| span.span_id.as_slice()).collect();
    let lost =
        trace.iter().filter(|span| !span.parent_span_id.is_empty() && !known.contains(span.parent_span_id.as_slice()));
    anyhow::ensure!(lost.count() == 0, "every span has its parent in the trace");
    let signed = trace.iter().filter(|span| part(span) == Some("wallet")).count();
    eprintln!("one trace of {} spans through {parts:?}, {signed} of them the signer's", trace.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_is_one_trace_through_every_part_that_has_to_do_with_it() {
    let mut world = World::embedded().await.unwrap_or_else(|error| panic!("{error:?}"));
    let collector = Collector::default();
    // The world still stands while this fails, so that what its processes said is kept.
    if let Err(error) = one_trace(&mut world, &collector).await {
        panic!("{error:?}");
    }
}
