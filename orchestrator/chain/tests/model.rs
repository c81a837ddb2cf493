//! Random trees of blocks, followed by two nodes that change their minds, against a model of a few lines.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod blocks;

use std::collections::{BTreeMap, BTreeSet};

use blocks::{Shard, at, empty, facts, policy, spend, transfer};
use custos_chain::Chain;
use custos_domain::BlockRef;
use custos_messages::chain::BlockReport;
use custos_saga::machine::Machine;
use proptest::prelude::*;

const ETH: u64 = 4;
const USDX: u64 = 2;

/// Blocks by index; the parent of each has a lower index. Block 0 is the root.
#[derive(Clone, Debug)]
struct World {
    parents: Vec<usize>,
}

impl World {
    fn number(&self, block: usize) -> u64 {
        if block == 0 { 1 } else { self.number(self.parents[block]) + 1 }
    }

    fn at(&self, block: usize) -> BlockRef {
        at(self.number(block), u8::try_from(block).unwrap())
    }

    /// From the root to `block`.
    fn path(&self, block: usize) -> Vec<usize> {
        let mut path = vec![block];
        while *path.last().unwrap() != 0 {
            path.push(self.parents[*path.last().unwrap()]);
        }
        path.reverse();
        path
    }

    /// Every third block has ether in it, every fourth a token, every fifth a spend.
    fn report(&self, node: &str, block: usize) -> BlockReport {
        let parent = if block == 0 { at(0, 0) } else { self.at(self.parents[block]) };
        let mut report = empty(node, self.at(block), parent);
        let tx = u8::try_from(block).unwrap();
        if block.is_multiple_of(3) {
            report.transfers.push(transfer(tx, "ETH", 5));
        } else if block.is_multiple_of(4) {
            report.transfers.push(transfer(tx, "USDX", 5));
        } else if block.is_multiple_of(5) {
            report.spends.push(spend(tx));
        }
        report
    }

    fn needed(block: usize) -> Option<u64> {
        match block {
            block if block.is_multiple_of(3) || (block.is_multiple_of(5) && !block.is_multiple_of(4)) => Some(ETH),
            block if block.is_multiple_of(4) => Some(USDX),
            _ => None,
        }
    }
}

/// What should have been said: what is final stays so while its block is canonical, and canonical until both nodes show the same
/// block in its place.
#[derive(Default)]
struct Model {
    heads: BTreeMap<&'static str, usize>,
    canonical: Vec<usize>,
    settled: usize,
    finals: BTreeSet<usize>,
    told: BTreeMap<usize, &'static str>,
}

impl Model {
    fn hear(&mut self, world: &World, node: &'static str, block: usize) -> BTreeMap<usize, &'static str> {
        match self.heads.get(node) {
            Some(head) if world.path(*head).contains(&block) => {}
            _ => {
                self.heads.insert(node, block);
            }
        }
        let Some(wanted) = self.heads.get("a").map(|head| world.path(*head)) else { return BTreeMap::new() };
        let other = self.heads.get("b").map_or(Vec::new(), |head| world.path(*head));
        let shared = |one: &[usize], two: &[usize]| one.iter().zip(two).take_while(|(one, two)| one == two).count();
        let fork = shared(&wanted, &self.canonical);
        let undoes = self.settled > fork || self.canonical[fork..].iter().any(|block| self.finals.contains(block));
        if undoes && wanted.get(fork).is_none_or(|instead| !other.contains(instead)) {
            return self.told.clone();
        }
        self.settled = self.settled.min(fork);
        self.canonical = wanted;
        let below = |length: usize| length.saturating_sub(usize::try_from(ETH).unwrap() - 1);
        let reached = below(self.canonical.len()).min(below(other.len())).min(shared(&self.canonical, &other));
        self.settled = self.settled.max(reached);
        self.finals.retain(|block| self.canonical.contains(block));
        self.told.clear();
        for block in &self.canonical {
            let Some(needed) = World::needed(*block) else { continue };
            let deep = |path: &[usize]| {
                let depth = path.iter().position(|own| own == block).map(|place| path.len() - place);
                depth.is_some_and(|depth| u64::try_from(depth).unwrap() >= needed)
            };
            if deep(&self.canonical) && deep(&other) {
                self.finals.insert(*block);
            }
            self.told.insert(*block, if self.finals.contains(block) { "final" } else { "seen" });
        }
        self.told.clone()
    }
}

/// Folds facts into what stands, and insists that each follows from what was said before.
fn fold(told: &mut BTreeMap<usize, &'static str>, words: Vec<String>) {
    for word in words.iter().filter(|word| !word.starts_with("alarm")) {
        let word = word.strip_prefix("spend ").unwrap_or(word);
        let (news, rest) = word.split_once(' ').unwrap();
        let block: usize = rest.split_once('@').unwrap().0.parse().unwrap();
        match (told.get(&block), news) {
            (None, "seen") => told.insert(block, "seen"),
            (Some(&"seen"), "final") => told.insert(block, "final"),
            (Some(_), "unseen") => told.remove(&block),
            impossible => panic!("{impossible:?}"),
        };
    }
}

fn worlds() -> impl Strategy<Value = World> {
    // Mostly a chain, now and then a fork near the tip.
    prop::collection::vec((0_usize..4, prop::bool::weighted(0.3)), 1..40).prop_map(|choices| {
        let mut parents = vec![0];
        for (back, fork) in choices {
            let last = parents.len() - 1;
            parents.push(if fork { last.saturating_sub(back) } else { last });
        }
        World { parents }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn followers_that_walk_from_fork_to_head_make_the_machine_say_what_the_model_says(
        world in worlds(),
        walks in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0_usize..3), 1..30),
    ) {
        let mut shard = Shard::new(policy(&["a", "b"], 4, 2, 64));
        let mut model = Model::default();
        let mut told = BTreeMap::new();
        for (first, target, overlap) in walks {
            let node = if first || !model.heads.contains_key("a") { "a" } else { "b" };
            let path = world.path(target.index(world.parents.len()));
            let known = model.heads.get(node).map_or(Vec::new(), |head| world.path(*head));
            let shared = path.iter().zip(&known).take_while(|(one, other)| one == other).count();
            for block in path.iter().skip(shared.saturating_sub(overlap)) {
                fold(&mut told, facts(&shard.report(&world.report(node, *block))));
                let expected = model.hear(&world, node, *block);
                prop_assert_eq!(&told, &expected, "after {} said {}", node, block);
            }
        }
    }

    #[test]
    fn any_reports_in_any_order_keep_the_books_of_what_was_said_and_replay_to_the_same_bytes(
        world in worlds(),
        reports in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..120),
        kept in 1_u32..12,
    ) {
        let mut shards = [Shard::new(policy(&["a", "b"], 4, 2, kept)), Shard::new(policy(&["a", "b"], 4, 2, kept))];
        let mut told = BTreeMap::new();
        for (first, block) in reports {
            let report = world.report(if first { "a" } else { "b" }, block.index(world.parents.len()));
            let [one, other] = &mut shards;
            let effects = one.report(&report);
            prop_assert_eq!(&effects, &other.report(&report));
            fold(&mut told, facts(&effects));
            let state = one.state.clone();
            let ignored = one.report(&report);
            fold(&mut told, facts(&ignored));
            prop_assert!(facts(&ignored).iter().all(|word| word.starts_with("alarm")), "a repeat says nothing of money");
            one.state = state;
        }
        for (key, entity) in shards[0].state.iter().filter(|(key, _)| **key != custos_chain::Key::Policy) {
            let bytes = Chain::encode_entity(entity);
            prop_assert_eq!(Chain::decode(&Chain::encode_key(key), &bytes).unwrap(), (key.clone(), entity.clone()));
        }
    }

    #[test]
    fn no_bytes_make_the_codec_panic(key in prop::collection::vec(any::<u8>(), 0..60), value in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Chain::decode(&key, &value);
    }
}
