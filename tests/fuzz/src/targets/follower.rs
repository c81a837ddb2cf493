//! What a follower makes of a node's blocks, receipts and traces: whatever it reports can be read, and says nothing of other blocks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use custos_blockchain::{FollowSettings, Nodes, followers};
use custos_journal::{EmbeddedJournal, Journal, Provision, Start};
use custos_messages::chain::ChainInput;
use custos_messages::watch::{AddressRole, WatchRecord, WatchedAddress};
use custos_messages::{Machine, Message, Postmark, Source, Topic};
use custos_runtime::metrics::Metrics;
use custos_runtime::serve::Work;
use custos_testkit as kit;

use super::Target;
use super::node::{WORDS, node};

pub const TARGET: Target = Target { name: "follower", seeds, run, words: WORDS, mutations: 30 };

/// So long a follower is given before it is stopped.
const SPELL: Duration = Duration::from_millis(40);

fn seeds() -> Vec<Vec<u8>> {
    let (one, two, tx) = ("01".repeat(32), "02".repeat(32), "07".repeat(32));
    let to = kit::address("client").to_string().to_lowercase();
    let token = kit::address("token").to_string().to_lowercase();
    let from = kit::address("stranger").to_string().to_lowercase();
    let padded = |address: &str| format!("0x{}{}", "0".repeat(24), address.trim_start_matches("0x"));
    let transfer = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
    let block = format!(
        r#"{{"number":"0x1","hash":"0x{one}","parentHash":"0x{two}","timestamp":"0x6ab00000","baseFeePerGas":"0x1","transactions":[{{"hash":"0x{tx}","from":"{from}","to":"{to}","value":"0xde0b6b3a7640000","nonce":"0x0"}}]}}"#
    );
    let receipt = format!(
        r#"[{{"transactionHash":"0x{tx}","blockHash":"0x{one}","status":"0x1","gasUsed":"0x5208","effectiveGasPrice":"0x1","logs":[{{"address":"{token}","topics":["{transfer}","{}","{}"],"data":"0x{}","logIndex":"0x0"}}]}}]"#,
        padded(&from),
        padded(&to),
        format_args!("{:0>64x}", 1_000_000)
    );
    let trace = format!(
        r#"[{{"txHash":"0x{tx}","result":{{"type":"CALL","from":"{from}","to":"{to}","value":"0xde0b6b3a7640000","gas":"0x5208","gasUsed":"0x5208","input":"0x","calls":[{{"type":"CALL","from":"{to}","to":"{to}","value":"0x1","gas":"0x1","gasUsed":"0x1","input":"0x"}}]}}}}]"#
    );
    let script = format!(
        r#"{{"eth_getBlockByNumber":{block},"eth_getBlockByHash":{block},"eth_getBlockReceipts":{receipt},"debug_traceBlockByHash":{trace},"eth_call":"0x{:0>64x}"}}"#,
        1_000_000
    );
    let untraced = format!(
        r#"{{"eth_getBlockByNumber":{block},"eth_getBlockByHash":{block},"eth_getBlockReceipts":{receipt},"debug_traceBlockByHash":{{"refused":{{"code":-32601,"message":"method not found"}}}},"eth_getBalance":"0x1"}}"#
    );
    vec![script.into_bytes(), untraced.into_bytes()]
}

fn run(input: &[u8]) {
    let node = node();
    node.says(input);
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Arc::new(EmbeddedJournal::open(folder.path()).expect("a log"));
    journal.provision(&Provision { partitions: 1, gateways: 1, replication: 1 }).expect("topics");
    watch(&journal);
    let Ok(nodes) = node.runtime.block_on(Nodes::connect(&node.config())) else { return };
    let settings = FollowSettings {
        journal: Arc::<EmbeddedJournal>::clone(&journal),
        keyring: Arc::new(kit::keyring()),
        partitions: 1,
        metrics: Metrics::default(),
        work: Work::Tokio(node.runtime.handle().clone()),
        lead_max: 8,
    };
    let follower = followers(&nodes, &settings).expect("the log").pop().expect("one node, one follower");
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let following = std::thread::spawn(move || follower.run(seen));
    let until = Instant::now() + SPELL;
    while Instant::now() < until && journal.bounds(Topic::Inbox(Machine::Chain), 0).expect("the log").1 == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    stop.store(true, Ordering::Release);
    let ended = following.join().expect("no panic");
    assert!(ended.is_ok(), "a node's answer ends a follower: {ended:?}");
    read(&journal);
}

/// Everything that was reported, as the chain machine would read it.
fn read(journal: &EmbeddedJournal) {
    let topic = Topic::Inbox(Machine::Chain);
    let mut feed = journal.read(topic, 0, Start::Earliest).expect("the log");
    for entry in feed.poll(1_000, Duration::ZERO).expect("the log") {
        let (envelope, input) = kit::keyring().open_message::<ChainInput>(topic, &entry.record).expect("it is authentic");
        assert_eq!(envelope.source, Source::Blockchain);
        let ChainInput::Block(report) = input else { panic!("a follower reports blocks alone") };
        for transfer in &report.transfers {
            assert_eq!(transfer.to, kit::address("client"), "only what concerns us is reported");
            assert!(!transfer.amount.is_zero());
        }
    }
}

fn watch(journal: &EmbeddedJournal) {
    let record = WatchRecord::Address(WatchedAddress {
        chain: kit::chain(),
        address: kit::address("client"),
        account: kit::account("client"),
        wallet: kit::wallet(),
        role: AddressRole::Deposit,
    });
    assert!(!record.key().is_empty());
    let record = kit::keyring().seal_message(Topic::Addresses, Source::Treasury, &record, Postmark::default());
    journal.appender().expect("the log").append(Topic::Addresses, 0, record).expect("the log takes it");
}
