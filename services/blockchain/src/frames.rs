//! Ether that moves inside transactions: leaves no log, only a call trace shows it.
//!
//! A frame's position counts every frame of its transaction in depth-first order from 0, whatever it does, so that it is the same
//! on every node. Ether moves by calls, creations and self-destructions that nothing above them has reverted; a delegate, static
//! or callcode call moves none.

use alloy::primitives::{Address, B256, U256};
use serde::Deserialize;

use crate::BlockchainError;

/// Calls nest up to 1,024 deep, and a reader of nested text needs stack for each level. Whoever sends a transaction chooses the
/// depth, so that a smaller stack would let anyone stop a follower.
const STACK_BYTES: usize = 64 << 20;
/// Text that cannot nest deeper than this is read where it arrives.
const SHALLOW: usize = 128;

/// Ether that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EtherMove {
    /// See the module.
    pub(crate) position: u32,
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: U256,
}

/// The moves of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TracedTransaction {
    /// The transaction, if the node says so.
    pub(crate) tx: Option<B256>,
    pub(crate) moves: Vec<EtherMove>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "txHash")]
    tx: Option<B256>,
    result: Option<Frame>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    from: Address,
    to: Option<Address>,
    value: Option<U256>,
    error: Option<String>,
    #[serde(default)]
    calls: Vec<Frame>,
}

/// The moves in a node's answer to `debug_traceBlockByHash`, transaction by transaction; the problem as text if it cannot be read.
pub(crate) async fn read(text: String) -> Result<Result<Vec<TracedTransaction>, String>, BlockchainError> {
    if opening(&text) <= SHALLOW {
        return Ok(parse(&text));
    }
    let (said, hear) = tokio::sync::oneshot::channel();
    let reader = std::thread::Builder::new().name("traces".to_owned()).stack_size(STACK_BYTES);
    reader
        .spawn(move || said.send(parse(&text)))
        .map_err(|source| BlockchainError::Thread { purpose: "read call traces", source })?;
    Ok(hear.await.unwrap_or_else(|_| Err("the reader of call traces failed".to_owned())))
}

/// How many brackets open in `text`: it nests no deeper.
fn opening(text: &str) -> usize {
    text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count()
}

fn parse(text: &str) -> Result<Vec<TracedTransaction>, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    json.disable_recursion_limit();
    let entries = Vec::<Entry>::deserialize(&mut json).map_err(|error| error.to_string())?;
    entries.into_iter().map(traced).collect()
}

fn traced(entry: Entry) -> Result<TracedTransaction, String> {
    match entry {
        Entry { result: Some(root), error: None, tx } => {
            let mut walk = Walk { next: 0, moves: Vec::new() };
            walk.visit(&root, true);
            Ok(TracedTransaction { tx, moves: walk.moves })
        }
        Entry { error, tx, .. } => Err(format!("{tx:?} has no trace: {}", error.unwrap_or_default())),
    }
}

struct Walk {
    next: u32,
    moves: Vec<EtherMove>,
}

impl Walk {
    fn visit(&mut self, frame: &Frame, above_holds: bool) {
        let position = self.next;
        self.next = self.next.saturating_add(1);
        let holds = above_holds && frame.error.is_none();
        let carries = matches!(frame.kind.as_str(), "CALL" | "CREATE" | "CREATE2" | "SELFDESTRUCT");
        let value = frame.value.unwrap_or_default();
        if let Some(to) = frame.to.filter(|to| holds && carries && !value.is_zero() && *to != frame.from) {
            self.moves.push(EtherMove { position, from: frame.from, to, value });
        }
        for call in &frame.calls {
            self.visit(call, holds);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const A: &str = "0x00000000000000000000000000000000000000aa";
    const B: &str = "0x00000000000000000000000000000000000000bb";

    fn frame(kind: &str, value: u64, calls: &[Value]) -> Value {
        json!({ "type": kind, "from": A, "to": B, "value": format!("{value:#x}"), "input": "0x", "calls": calls })
    }

    fn reverted(mut frame: Value) -> Value {
        frame["error"] = "execution reverted".into();
        frame
    }

    fn moved(root: &Value) -> Vec<(u32, u64)> {
        let text = json!([{ "txHash": B256::ZERO, "result": root }]).to_string();
        let moves = parse(&text).unwrap().remove(0).moves;
        moves.iter().map(|one| (one.position, one.value.to())).collect()
    }

    #[test]
    fn positions_are_depth_first_and_count_every_frame() {
        let first = frame("CALL", 2, &[frame("STATICCALL", 0, &[]), frame("CALL", 3, &[])]);
        let root = frame("CALL", 1, &[first, frame("SELFDESTRUCT", 4, &[]), frame("CREATE2", 5, &[])]);
        assert_eq!(moved(&root), [(0, 1), (1, 2), (3, 3), (4, 4), (5, 5)]);
    }

    #[test]
    fn what_was_reverted_or_only_lent_moves_nothing() {
        let dead = reverted(frame("CALL", 2, &[frame("CALL", 3, &[])]));
        let quiet = [dead, frame("DELEGATECALL", 4, &[frame("CALL", 5, &[])]), frame("CALLCODE", 6, &[])];
        assert_eq!(moved(&frame("CALL", 1, &quiet)), [(0, 1), (4, 5)]);
        assert_eq!(moved(&reverted(frame("CALL", 1, &[frame("CALL", 2, &[])]))), []);
        let mut to_itself = frame("CALL", 1, &[]);
        to_itself["to"] = A.into();
        assert_eq!(moved(&to_itself), []);
    }

    #[tokio::test]
    async fn calls_as_deep_as_the_protocol_allows_are_read() {
        let open = format!(r#"{{"type":"CALL","from":"{A}","to":"{B}","value":"0x1","input":"0x","calls":["#);
        let depth = 1_025;
        let text = format!(r#"[{{"result":{}{}}}]"#, open.repeat(depth), "]}".repeat(depth));
        let traced = read(text).await.unwrap().unwrap();
        assert_eq!(traced[0].moves.len(), depth);
        assert_eq!(traced[0].moves[depth - 1].position, 1_024);
    }

    #[test]
    fn a_transaction_without_a_trace_is_a_problem() {
        assert!(parse(&json!([{ "txHash": B256::ZERO, "error": "tracing failed" }]).to_string()).is_err());
        assert!(parse("{}").is_err());
    }
}
