//! The controls over RPC, so that another process can drive the chain: `evm_mine`, the `dev_` methods, and payments out of the
//! faucet's account by `eth_sendTransaction`.
//!
//! | method | parameters | answer |
//! |---|---|---|
//! | `evm_mine` | `[count?]` | the new head's number |
//! | `dev_reorg` | `[depth, {"reinject": bool, "blocks": [[raw]]?}?]` | dropped hashes, or with `blocks` the hashes of the new branch |
//! | `dev_setBaseFee` | `[wei]` | true |
//! | `dev_setAuto` | `[milliseconds or null]` | true |
//! | `dev_faucet` | `[address, wei]` | transaction hash |
//! | `dev_setBalance` | `[address, wei]` | true |
//! | `dev_requests` | `[]` | what clients asked |
//! | `dev_lie` | `[Lies]` | true |
//! | `dev_dropPool` | `[]` | dropped hashes |
//! | `dev_dropTransaction` | `[hash]` | whether it was there |
//! | `dev_deployToken` | `[name, symbol]` | address |
//! | `dev_sendToken`, `dev_mintToken` | `[token, to, amount]` | transaction hash |
//! | `dev_pauseToken`, `dev_unpauseToken` | `[token]` | transaction hash |
//! | `dev_deployForwarder` | `[target]` | address |

use std::time::Duration;

use alloy::primitives::{Address, Bytes, TxKind, U64, U128, U256};
use serde::Deserialize;

use super::{Answer, Args, RpcError, json, quantity};
use crate::{DevChain, Dropped, dev_address, faucet_key};

/// Blocks that one call may mine.
const MINE_MAX: u64 = 10_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reorg {
    #[serde(default)]
    reinject: bool,
    blocks: Option<Vec<Vec<Bytes>>>,
}

pub(super) fn control(node: &DevChain, method: &str, args: &Args) -> Answer {
    match method {
        "evm_mine" => {
            let count = args.optional::<U64>(0)?.map_or(1, |count| count.to::<u64>());
            if count > MINE_MAX {
                return Err(RpcError::invalid(format!("at most {MINE_MAX} blocks at once")));
            }
            node.mine_n(count);
            quantity(node.head().number)
        }
        "dev_reorg" => reorg(node, args),
        "dev_setBaseFee" => {
            node.set_base_fee(args.required::<U128>(0)?.to())?;
            json(true)
        }
        "dev_setAuto" => {
            node.set_auto(args.optional::<U64>(0)?.map(|every| Duration::from_millis(every.to())));
            json(true)
        }
        "dev_faucet" => json(node.send_ether(args.required(0)?, args.required(1)?)?),
        "dev_setBalance" => {
            node.set_balance(args.required(0)?, args.required(1)?);
            json(true)
        }
        "dev_requests" => json(node.requests()),
        "dev_lie" => {
            node.set_lies(args.optional(0)?.unwrap_or_default());
            json(true)
        }
        "dev_dropPool" => json(node.drop_pool()),
        "dev_dropTransaction" => json(node.drop_transaction(args.required(0)?)),
        _ => contract(node, method, args),
    }
}

/// What `eth_sendTransaction` is given. Fees, gas and nonce are the node's business here, so other fields are ignored.
#[derive(Debug, Deserialize)]
struct Spending {
    from: Address,
    to: Option<Address>,
    #[serde(default)]
    value: U256,
    #[serde(default, alias = "data")]
    input: Bytes,
}

/// `eth_sendTransaction`: the faucet's account is unlocked, as the accounts of any development node are.
pub(super) fn spend(node: &DevChain, args: &Args) -> Answer {
    let Spending { from, to, value, input } = args.required(0)?;
    if from != dev_address(0) {
        return Err(RpcError::server("unknown account"));
    }
    json(node.spend(&faucet_key(), to.map_or(TxKind::Create, TxKind::Call), value, input)?)
}

fn reorg(node: &DevChain, args: &Args) -> Answer {
    let depth = args.required::<U64>(0)?.to::<u64>();
    let how: Reorg = args.optional(1)?.unwrap_or_default();
    let fate = if how.reinject { Dropped::Reinject } else { Dropped::Lose };
    match how.blocks {
        None => json(node.reorg(depth, fate)?),
        Some(blocks) => json(node.replace(depth, fate, &blocks)?.iter().map(|block| block.hash).collect::<Vec<_>>()),
    }
}

fn contract(node: &DevChain, method: &str, args: &Args) -> Answer {
    let amount = || args.required::<U256>(2);
    match method {
        "dev_deployToken" => json(node.deploy_token(&args.required::<String>(0)?, &args.required::<String>(1)?)?),
        "dev_deployForwarder" => json(node.deploy_forwarder(args.required(0)?)?),
        "dev_sendToken" => json(node.send_token(args.required(0)?, args.required(1)?, amount()?)?),
        "dev_mintToken" => json(node.mint_token(args.required(0)?, args.required(1)?, amount()?)?),
        "dev_pauseToken" => json(node.pause_token(args.required(0)?)?),
        "dev_unpauseToken" => json(node.unpause_token(args.required(0)?)?),
        _ => Err(RpcError::new(-32_601, format!("the method {method} does not exist/is not available"))),
    }
}
