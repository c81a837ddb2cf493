//! `custos check`: a configuration, the files that it names, and whether they speak of the same installation; every problem at once.
//!
//! Nothing is connected to and no secret is decrypted: it may run where the servers cannot be reached.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use custos_compliance::Compliance;
use custos_domain::AssetKind;
use custos_messages::Source;
use custos_policy::Policy;
use custos_runtime::settings::Problems;
use custos_runtime::telemetry;
use custos_wallet::{PassphraseSource, WalletConfig};

use crate::config::Config;
use crate::policy::{fits, read_signed};
use crate::{ConfigArgs, say, secrets};

/// Checks and says the policy's version.
///
/// # Errors
/// Every problem of the configuration, a line each; if it has none, every problem of what it names.
pub fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    let mut problems = Problems::default();
    let policy = files(&config, &mut problems);
    if let Some(policy) = &policy {
        agreement(&config, policy, &mut problems);
    }
    match policy {
        Some(policy) if problems.is_empty() => {
            say(&format!("the configuration is usable; policy {} is signed by its root", policy.version));
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("{} is not usable:\n{}", args.config.display(), problems.lines().join("\n")),
    }
}

/// What the files that the configuration names say; gives the policy.
fn files(config: &Config, problems: &mut Problems) -> Option<Policy> {
    for source in Source::ALL {
        told(problems, "keys", secrets::read_secret(&config.keys, source));
    }
    if let Some(wallet) = &config.wallet {
        signer(wallet, problems);
    }
    for list in config.lists.iter().flatten() {
        told(problems, "compliance.lists", Compliance::open(vec![list.clone()]).map_err(anyhow::Error::from));
    }
    if let Some(scheme) = config.read_model.as_deref().and_then(|url| url.split(':').next())
        && !["postgres", "postgresql", "sqlite"].contains(&scheme)
    {
        problems.add("read_model", format!("is postgres://… or sqlite:///absolute/path, not `{scheme}:`"));
    }
    told(problems, "telemetry.filter", telemetry::filter(&config.telemetry.filter).map_err(anyhow::Error::from));
    if let Some(endpoint) = config.telemetry.otlp.as_deref()
        && !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme))
    {
        problems.add("telemetry.otlp", "is an address such as http://127.0.0.1:4317");
    }
    told(problems, "policy", read_signed(&config.policy, &config.policy_root)).map(|(_, policy)| policy)
}

fn signer(wallet: &WalletConfig, problems: &mut Problems) {
    told(problems, "wallet.keystore", there(&wallet.keystore));
    match &wallet.passphrase {
        PassphraseSource::File(path) => {
            told(problems, "wallet.passphrase_file", there(path));
        }
        PassphraseSource::Variable(name) if std::env::var_os(name).is_none() => {
            problems.add("wallet.passphrase_env", format!("{name} is not set"));
        }
        PassphraseSource::Variable(_) => {}
    }
}

/// Whether configuration and policy speak of the same bank, nodes and tokens.
fn agreement(config: &Config, policy: &Policy, problems: &mut Problems) {
    told(problems, "policy", fits(policy, &config.tenant, config.provision.partitions));
    if let Some(wallet) = config.wallet.as_ref().filter(|wallet| wallet.tenant != config.tenant) {
        problems.add(
            "wallet.tenant",
            format!("the signer's bank is `{}`, the installation's `{}`", wallet.tenant, config.tenant),
        );
    }
    for chain in config.blockchain.iter().flat_map(|blockchain| &blockchain.chains) {
        let path = |what: &str| format!("blockchain.chains.{}{what}", chain.chain);
        let Some(listed) = policy.chains.get(&chain.chain) else {
            problems.add(&path(""), "the policy has no such chain");
            continue;
        };
        for node in chain.nodes.iter().filter(|node| !listed.nodes.contains(&node.name)) {
            problems.add(&path(".nodes"), format!("the policy has no node `{}`: what it reports is not heard", node.name));
        }
        for node in listed.nodes.iter().filter(|node| !chain.nodes.iter().any(|here| here.name == **node)) {
            problems.add(&path(".nodes"), format!("the policy waits for node `{node}`, which is not configured"));
        }
        for (contract, asset) in &chain.tokens {
            let kind = AssetKind::Erc20 { contract: *contract };
            if policy.assets.get(asset).is_none_or(|entry| entry.asset.kind != kind || entry.asset.chain != chain.chain) {
                problems.add(&path(".tokens"), format!("the policy does not list {asset} at {contract}"));
            }
        }
        let of_chain = policy.assets.values().filter(|entry| entry.asset.chain == chain.chain);
        for entry in of_chain {
            if let AssetKind::Erc20 { contract } = entry.asset.kind
                && !chain.tokens.contains_key(&contract)
            {
                problems.add(
                    &path(".tokens"),
                    format!("deposits of {} are not looked for: the policy lists it", entry.asset.id),
                );
            }
        }
    }
}

fn there(path: &Path) -> anyhow::Result<()> {
    std::fs::metadata(path).map(drop).with_context(|| format!("{} cannot be read", path.display()))
}

/// Notes an error with its causes, or gives the value.
fn told<T>(problems: &mut Problems, path: &str, result: anyhow::Result<T>) -> Option<T> {
    problems.take(path, result.map_err(|error| format!("{error:#}").trim_end().to_owned()))
}
