//! What the chain adapter makes of a node's answers about fees, balances and nonces, and of its answer to a send.

use custos_blockchain::{Adapter, Nodes};
use custos_domain::{AssetKind, CommandId, TxHash};
use custos_messages::Mail;
use custos_messages::blockchain::{BlockchainCommand, BlockchainOrder};
use custos_messages::treasury::{FeeQuote, TreasuryInput};
use custos_runtime::service::{Service, Setback};
use custos_testkit as kit;
use sha3::{Digest as _, Keccak256};

use super::Target;
use super::node::{WORDS, node};

pub const TARGET: Target = Target { name: "estimate", seeds, run, words: WORDS, mutations: 150 };

fn seeds() -> Vec<Vec<u8>> {
    let head = r#"{"number":"0x10","hash":"0x0101010101010101010101010101010101010101010101010101010101010101","parentHash":"0x0202020202020202020202020202020202020202020202020202020202020202","baseFeePerGas":"0x3b9aca00"}"#;
    let word = "0x0000000000000000000000000000000000000000000000000de0b6b3a7640000";
    let hash = "0x0707070707070707070707070707070707070707070707070707070707070707";
    let healthy = format!(
        r#"{{"eth_getBlockByNumber":{head},"eth_getBlockByHash":{head},"eth_getBalance":"0xde0b6b3a7640000","eth_call":"{word}","eth_getTransactionCount":"0x5","eth_estimateGas":"0x5208","eth_maxPriorityFeePerGas":"0x1","eth_sendRawTransaction":"{hash}"}}"#
    );
    let refusing = format!(
        r#"{{"eth_getBlockByNumber":{head},"eth_getBalance":"0x0","eth_call":{{"refused":{{"code":3,"message":"execution reverted"}}}},"eth_getTransactionCount":"0x0","eth_estimateGas":{{"refused":{{"code":3,"message":"execution reverted"}}}},"eth_maxPriorityFeePerGas":{{"refused":{{"code":-32601,"message":"method not found"}}}},"eth_sendRawTransaction":{{"refused":{{"code":-32000,"message":"nonce too low"}}}}}}"#
    );
    vec![healthy.into_bytes(), refusing.into_bytes(), b"<html>502 Bad Gateway</html>".to_vec()]
}

fn run(input: &[u8]) {
    let node = node();
    node.says(input);
    node.runtime.block_on(async {
        // A node that serves another chain is refused at once; one that does not answer is asked again later.
        let Ok(nodes) = Nodes::connect(&node.config()).await else { return };
        let adapter = Adapter::new(nodes);
        let token = AssetKind::Erc20 { contract: kit::address("token") };
        for (number, kind) in [(1, AssetKind::Native), (2, token)] {
            let order = BlockchainOrder::Estimate {
                intent: kit::intent(&kit::saga("client", "withdrawal", "key"), "ETH", kit::ether("1"), kit::address("to"))
                    .id,
                from: kit::address("hot"),
                kind,
                to: kit::address("to"),
                value: kit::ether("1"),
                data: Vec::new(),
            };
            ask(&adapter, number, order).await;
        }
        let raw = vec![2, 0xc0];
        let tx = TxHash(Keccak256::digest(&raw).into());
        ask(&adapter, 3, BlockchainOrder::Send { tx, raw }).await;
    });
}

async fn ask(adapter: &Adapter, number: u8, order: BlockchainOrder) {
    let command = BlockchainCommand { id: CommandId([number; 32]), wallet: kit::wallet(), chain: kit::chain(), order };
    match adapter.handle(command).await {
        Ok(replies) => {
            for reply in replies {
                let Mail::Treasury(said) = reply else { panic!("the adapter answers treasury alone") };
                if let TreasuryInput::Estimated(estimated) = said {
                    within_the_protocol(&estimated.quote);
                }
            }
        }
        Err(Setback::Retry(error)) => assert!(!error.to_string().contains("http://"), "an error tells the node's address"),
        Err(Setback::Halt(error)) => panic!("a node's answer halts the adapter: {error}"),
    }
}

/// Whatever a node says, what treasury may sign by is within what the protocol takes.
fn within_the_protocol(quote: &FeeQuote) {
    if let FeeQuote::Quote { gas_limit, max_fee_per_gas, max_priority_fee_per_gas, .. } = quote {
        assert!((21_000..=1 << 24).contains(gas_limit), "{gas_limit}");
        assert!(max_priority_fee_per_gas <= max_fee_per_gas, "a tip above the whole fee is refused by every node");
        assert!(!max_priority_fee_per_gas.is_zero());
    }
}
