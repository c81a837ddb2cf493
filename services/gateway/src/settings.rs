//! The gateway's settings, checked together before anything is opened.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use custos_policy::Policy;
use custos_runtime::metrics::Metrics;
use custos_runtime::settings::Problems;
use serde::Deserialize;

use crate::problem::chain;
use crate::{ApiKeys, CursorSecret};

/// How long a request waits for the decision of accounts.
const REPLY_WAIT: Duration = Duration::from_secs(2);
/// How long the reader of a stream, or of any answer, may take nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a caller may take for the head of a request, and a connection may rest between two of them.
const HEAD_WAIT: Duration = Duration::from_secs(30);

/// The section `gateway` of a configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    /// Where to listen, such as `127.0.0.1:8080`.
    pub listen: String,
    /// Listens beyond loopback. The gateway speaks plain HTTP: whoever says yes puts TLS in front of it.
    #[serde(default)]
    pub beyond_loopback: bool,
    /// This instance's partition of `gateway.replies`: every running instance has its own.
    pub instance: u32,
    /// The file of API keys: `[[key]]` tables with `id`, `hash` and `role`.
    pub api_keys: PathBuf,
    /// A file of 64 hexadecimal digits that cursors are signed with, the same for every instance.
    pub cursor_secret: PathBuf,
    /// The blockchain service's operator address, host:port.
    pub blockchain: String,
}

/// [`GatewaySettings`], checked, still without a policy.
#[derive(Clone)]
pub struct CheckedGateway {
    listen: SocketAddr,
    instance: u32,
    keys: ApiKeys,
    cursors: CursorSecret,
    blockchain: String,
}

/// Everything that a gateway needs to know.
#[derive(Clone)]
pub struct GatewayConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// This instance's partition of `gateway.replies`.
    pub instance: u32,
    /// The keys that it opens for.
    pub keys: ApiKeys,
    /// What cursors are signed with.
    pub cursors: CursorSecret,
    /// The blockchain service's operator address, host:port.
    pub blockchain: String,
    /// The registry that requests are read by, verified by whoever loads it.
    pub policy: Policy,
    /// How long a request waits for the decision of accounts.
    pub reply_wait: Duration,
    /// How long the reader of a stream, or of any answer, may take nothing.
    pub patience: Duration,
    /// How long a caller may take for the head of a request, and a connection may rest between two of them.
    pub head_wait: Duration,
    /// Where it is counted what is put aside.
    pub metrics: Metrics,
}

impl GatewaySettings {
    /// The typed configuration; whatever is wrong goes to `problems`. Reads the files that it names.
    pub fn check(&self, problems: &mut Problems) -> Option<CheckedGateway> {
        let listen = self.listen.parse::<SocketAddr>().map_err(|_| "is not an IP address and a port");
        let listen = listen.and_then(|address| {
            if address.ip().is_loopback() || self.beyond_loopback {
                Ok(address)
            } else {
                Err("is beyond loopback: set `beyond_loopback = true` and put TLS in front")
            }
        });
        let listen = problems.take("gateway.listen", listen);
        let keys = problems.take("gateway.api_keys", ApiKeys::read(&self.api_keys).map_err(|error| chain(&error)));
        let cursors =
            problems.take("gateway.cursor_secret", CursorSecret::read(&self.cursor_secret).map_err(|error| chain(&error)));
        let blockchain = problems.take("gateway.blockchain", host_and_port(&self.blockchain));
        Some(CheckedGateway {
            listen: listen?,
            instance: self.instance,
            keys: keys?,
            cursors: cursors?,
            blockchain: blockchain?,
        })
    }
}

fn host_and_port(text: &str) -> Result<String, &'static str> {
    let fine = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if fine { Ok(text.to_owned()) } else { Err("is host:port") }
}

impl CheckedGateway {
    /// The configuration under `policy`, which the caller has verified.
    #[must_use]
    pub fn under(self, policy: Policy) -> GatewayConfig {
        let Self { listen, instance, keys, cursors, blockchain } = self;
        let (reply_wait, patience, head_wait) = (REPLY_WAIT, PATIENCE, HEAD_WAIT);
        let metrics = Metrics::default();
        GatewayConfig { listen, instance, keys, cursors, blockchain, policy, reply_wait, patience, head_wait, metrics }
    }
}

impl GatewayConfig {
    /// The same, counting in `metrics`.
    #[must_use]
    pub fn counted_in(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiKey, Role};

    fn settings(folder: &std::path::Path) -> GatewaySettings {
        let key = ApiKey::generate("back-office", Role::Bank).unwrap();
        std::fs::write(folder.join("keys.toml"), key.entry.to_toml()).unwrap();
        std::fs::write(folder.join("cursors"), format!("{}\n", "0f".repeat(32))).unwrap();
        let text = format!(
            "listen = \"127.0.0.1:8080\"\ninstance = 0\napi_keys = \"{0}/keys.toml\"\ncursor_secret = \"{0}/cursors\"\n\
             blockchain = \"127.0.0.1:9001\"\n",
            folder.display()
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn good_settings_are_typed() {
        let folder = tempfile::tempdir().unwrap();
        let mut problems = Problems::default();
        let config = settings(folder.path()).check(&mut problems).unwrap().under(custos_testkit::policy());
        assert!(problems.is_empty());
        assert_eq!((config.listen.port(), config.blockchain.as_str()), (8080, "127.0.0.1:9001"));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let bad = GatewaySettings {
            listen: "0.0.0.0:80".to_owned(),
            api_keys: folder.path().join("absent"),
            cursor_secret: folder.path().join("keys.toml"),
            blockchain: "http://127.0.0.1:9001".to_owned(),
            ..settings(folder.path())
        };
        let mut problems = Problems::default();
        assert!(bad.check(&mut problems).is_none());
        assert_eq!(problems.lines().len(), 4, "{:?}", problems.lines());
        let open = GatewaySettings { listen: "0.0.0.0:80".to_owned(), beyond_loopback: true, ..settings(folder.path()) };
        assert!(open.check(&mut Problems::default()).is_some());
    }
}
