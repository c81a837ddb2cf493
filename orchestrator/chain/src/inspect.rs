//! What an operator is told about a chain: its head, its nodes, what it left out. Reads only.

use std::collections::BTreeMap;

use custos_domain::{BlockRef, ChainId, NodeName};
use custos_saga::machine::Settled;

use crate::state::{Entity, Key, Tree};

/// The node whose head decides.
fn first<'s>(state: &'s BTreeMap<Key, Entity>, tree: &Tree) -> Option<&'s NodeName> {
    let Some(Entity::Policy(held)) = state.get(&Key::Policy) else { return None };
    held.policy.chains.get(&tree.chain)?.nodes.first()
}

/// What `state` knows about `subject`, a chain's CAIP-2 name; nothing if it is not a chain of this shard.
#[must_use]
pub fn inspect(state: &BTreeMap<Key, Entity>, _: &Settled, subject: &str) -> Vec<(String, String)> {
    let tree = ChainId::new(subject).ok().and_then(|chain| state.get(&Key::Tree(chain)));
    let Some(Entity::Tree(tree)) = tree else { return Vec::new() };
    let shown = |block: BlockRef| format!("{} {}", block.number, block.hash);
    let maybe = |block: Option<BlockRef>| block.map_or_else(|| "none".to_owned(), shown);
    let mut facts = vec![
        ("head".to_owned(), maybe(tree.tip)),
        ("agreed by every node up to".to_owned(), maybe(tree.settled)),
        ("followers begin again at".to_owned(), maybe(tree.cursor)),
        ("lowest block kept".to_owned(), tree.floor.to_string()),
        ("blocks whose parents are unknown".to_owned(), tree.pending.len().to_string()),
        ("transfers left out".to_owned(), tree.ignored.to_string()),
    ];
    if let Some(node) = first(state, tree).filter(|_| tree.tip.is_some()) {
        match tree.nodes.get(node).and_then(|view| view.head) {
            None => facts.push(("held".to_owned(), format!("node {node}, whose head decides, has not reported yet"))),
            Some(head) if Some(head) != tree.tip => {
                facts.push(("held".to_owned(), format!("node {node}, whose head decides, is at {}", shown(head))));
            }
            Some(_) => {}
        }
    }
    for node in &tree.silent {
        facts.push((format!("node {node}"), "silent: nothing becomes final until it has caught up".to_owned()));
    }
    for (node, view) in &tree.nodes {
        facts.push((format!("node {node} reported"), shown(view.reported)));
    }
    facts
}
