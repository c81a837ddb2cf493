//! `custos faucet`: worthless money for an account of a demonstration, from the unlocked account of its development node.
//!
//! It pays on chain, as somebody outside of the bank would: the deposit takes the same way as any other. It knows no way to pay on a
//! public network.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use custos_domain::{AccountId, Amount, Asset, AssetId, AssetKind, EthAddress};
use custos_policy::Policy;
use serde_json::Value;

use crate::config::Config;
use crate::demo::Bank;
use crate::devnode::DevNode;
use crate::policy::read_signed;
use crate::{ConfigArgs, say};

#[derive(Args)]
pub struct FaucetArgs {
    /// An account's key, such as `alice`, an account's id, or an address.
    to: String,
    /// How much, in the asset's unit, such as 1.5.
    amount: String,
    /// The asset's code in the policy, such as ETH.
    asset: String,
    #[command(flatten)]
    config: ConfigArgs,
    /// The API key that the account's deposit address is read with; without it, the one of the installation's folder.
    #[arg(long, env = "CUSTOS_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

/// Pays and says what it did.
///
/// # Errors
/// The asset or the account is not known, the amount is not one, or the node is not one for development or refuses.
pub async fn run(args: FaucetArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config.config)?;
    let (_, policy) = read_signed(&config.policy, &config.policy_root)?;
    let (asset, confirmations) = listed(&policy, &args.asset)?;
    let amount = Amount::parse(&args.amount, asset.decimals).with_context(|| {
        format!("`{}` is not an amount of {} with at most {} decimals", args.amount, asset.id, asset.decimals)
    })?;
    let node = node(&config, asset).await?;
    let (address, whose) = match EthAddress::parse(&args.to) {
        Ok(address) => (address, String::new()),
        Err(_) => (deposit_address(&config, &policy, asset, &args).await?, format!(", deposit address of {}", args.to)),
    };
    let tx = match asset.kind {
        AssetKind::Native => node.pay_ether(&address, amount).await?,
        AssetKind::Erc20 { contract } => node.mint_token(&contract, &address, amount).await?,
    };
    say(&format!("{} {} to {address}{whose}", amount.to_decimal(asset.decimals), asset.id));
    say(&format!("transaction {tx}"));
    say(&format!("pending as soon as a block holds it, available after {confirmations} confirmations"));
    Ok(ExitCode::SUCCESS)
}

fn listed<'a>(policy: &'a Policy, code: &str) -> anyhow::Result<(&'a Asset, u32)> {
    let found = AssetId::new(code).ok().and_then(|id| policy.assets.get(&id));
    let codes = || policy.assets.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let found = found.with_context(|| format!("`{code}` is no asset of the policy, which lists {}", codes()))?;
    Ok((&found.asset, found.confirmations))
}

async fn node(config: &Config, asset: &Asset) -> anyhow::Result<DevNode> {
    let chains = &config.blockchain.as_ref().context("the section `blockchain` of the configuration is missing")?.chains;
    let chain = chains.iter().find(|entry| entry.chain == asset.chain);
    let entry = chain.with_context(|| format!("the configuration names no node of {}", asset.chain))?;
    // Checked before anything is asked: the configuration of a real installation must not even be tried.
    let node = DevNode::connect(entry.nodes.first().context("a chain without a node")?.url.expose()).await?;
    if node.number() != entry.number {
        bail!("the node serves chain {}, the configuration says {}", node.number(), entry.number);
    }
    Ok(node)
}

/// The newest deposit address of an account on the asset's chain.
async fn deposit_address(config: &Config, policy: &Policy, asset: &Asset, args: &FaucetArgs) -> anyhow::Result<EthAddress> {
    let account = AccountId::parse(&args.to).unwrap_or_else(|_| AccountId::derive(&policy.tenant, &args.to));
    let gateway = config.gateway_at.context("the section `gateway` of the configuration is missing")?;
    let key = match &args.api_key {
        Some(key) => key.clone(),
        // The configuration's folder is the working folder.
        None => std::fs::read_to_string(Path::new("api-key.txt"))
            .context("no API key: name one with --api-key or CUSTOS_API_KEY")?
            .trim()
            .to_owned(),
    };
    let answer = Bank::new(&format!("http://{gateway}"), &key)?.get(&format!("/accounts/{account}/addresses")).await;
    let page = answer.with_context(|| format!("`{}` is neither an address nor an account with one", args.to))?;
    let here = |item: &&Value| item.get("chain").and_then(Value::as_str) == Some(asset.chain.as_str());
    let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let newest = items.iter().rfind(here).and_then(|item| item.get("address")).and_then(Value::as_str);
    let newest = newest.with_context(|| format!("account `{}` has no deposit address on {}", args.to, asset.chain))?;
    Ok(EthAddress::parse(newest)?)
}
