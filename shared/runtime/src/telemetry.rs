//! Logs and traces of a process: structured logs on standard error, spans by OTLP when an endpoint is configured.
//!
//! The trace context travels in the `traceparent` header of every record; it is never part of what is hashed or authenticated.

use std::collections::HashMap;
use std::io::IsTerminal as _;

use custos_messages::TraceParent;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// For people.
    Text,
}

/// Keeps telemetry alive; dropping it sends what is left.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("the log filter `{0}` cannot be read")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// The exporter cannot be built.
    #[error("the OTLP exporter for {endpoint} cannot be built")]
    Exporter {
        /// Where to.
        endpoint: String,
        /// Why.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// Something else logs already.
    #[error("telemetry was already started")]
    Started(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logs (to standard error) and, when `otlp` names an endpoint such as `http://127.0.0.1:4317`, traces. Call it within
/// an asynchronous runtime when `otlp` is given.
///
/// # Errors
/// A filter that cannot be read, an endpoint that cannot be one, or a second start.
pub fn start(
    service: &'static str,
    filter: &str,
    format: LogFormat,
    otlp: Option<&str>,
) -> Result<Telemetry, TelemetryError> {
    let filter = self::filter(filter)?;
    let lines = match format {
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).with_filter(filter).boxed(),
        LogFormat::Text => {
            // Colours are for a terminal; a log file is searched.
            let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colours = std::io::stderr().is_terminal() && !unwanted;
            fmt::layer().with_ansi(colours).with_target(false).with_writer(std::io::stderr).with_filter(filter).boxed()
        }
    };
    let provider = otlp.map(|endpoint| exporter(service, endpoint)).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        // A quiet log is no reason for a trace with holes; libraries' own spans, the exporter's among them, would be in the way.
        let ours = filter_fn(|span| span.is_span() && span.target().starts_with("custos") && *span.level() <= Level::INFO);
        tracing_opentelemetry::layer().with_tracer(provider.tracer(service)).with_filter(ours)
    });
    tracing_subscriber::registry().with(lines).with(spans).try_init()?;
    Ok(Telemetry { provider })
}

/// The filter that `text` says, such as `info` or `custos_runtime=debug,info`.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(text).map_err(|source| TelemetryError::Filter(text.to_owned(), source))
}

fn exporter(service: &'static str, endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|source| TelemetryError::Exporter { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name(service).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.provider.take().map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "spans are lost");
        }
    }
}

/// Makes `span` a child of the trace that a record came with.
pub fn adopt_trace(span: &Span, trace: Option<&TraceParent>) {
    let Some(TraceParent(text)) = trace else { return };
    let carrier = HashMap::from([("traceparent".to_owned(), text.clone())]);
    // Without an exporter there is no layer to take the parent, which is no error.
    drop(span.set_parent(TraceContextPropagator::new().extract(&carrier)));
}

/// The current span as a `traceparent`, when it is part of a trace.
#[must_use]
pub fn current_trace() -> Option<TraceParent> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove("traceparent").map(TraceParent)
}
