//! Every record of the inboxes, commands, replies and events once more through the broker, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use custos_e2e::{Ground, Hand, LONG, World, until};
use custos_messages::{Machine, Topic};

use crate::fixed::{Fixed, Picture};

/// Where something is asked, answered or told. State is not a message; of the watch list the newest record of a key counts anyway.
const COPIED: [Topic; 8] = [
    Topic::Inbox(Machine::Accounts),
    Topic::Inbox(Machine::Treasury),
    Topic::Inbox(Machine::Chain),
    Topic::ComplianceCommands,
    Topic::WalletCommands,
    Topic::BlockchainCommands,
    Topic::Events,
    Topic::GatewayReplies,
];

/// How often the embedded log is copied after everything has ended.
const PASSES: u32 = 2;

/// Copies each record once, and no copy.
#[derive(Default)]
struct Copier {
    next: BTreeMap<(Topic, u32), u64>,
    copies: BTreeSet<(Topic, u32, u64)>,
}

impl Copier {
    /// Copies what has come since the last pass: how many records.
    fn pass(&mut self, hand: &Hand) -> anyhow::Result<usize> {
        let mut copied = 0;
        for topic in COPIED {
            for partition in 0..hand.partitions(topic)? {
                let next = self.next.entry((topic, partition)).or_default();
                for entry in hand.read(topic, partition, *next)? {
                    *next = entry.offset.saturating_add(1);
                    if !self.copies.contains(&(topic, partition, entry.offset)) {
                        let offset = hand.append(topic, partition, entry.record)?;
                        self.copies.insert((topic, partition, offset));
                        copied += 1;
                    }
                }
            }
        }
        Ok(copied)
    }

    fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts: BTreeMap<_, _> = COPIED.iter().map(|topic| (topic.name(), 0)).collect();
        for (topic, _, _) in &self.copies {
            *counts.entry(topic.name()).or_default() += 1;
        }
        counts
    }
}

/// The scenario with everything said twice leaves the picture that it leaves when everything is said once.
pub async fn everything_said_twice_changes_nothing(world: &mut World, plain: &Picture) -> anyhow::Result<()> {
    let copier = match world.ground() {
        Ground::Embedded => while_it_stands_still(world, plain).await?,
        Ground::Servers { .. } => while_it_runs(world, plain).await?,
    };
    let counts = copier.counts();
    eprintln!("copied once more: {counts:#?}");
    ensure!(counts.values().all(|count| *count > 0), "each topic is copied: {counts:?}");
    let repeated = world.counted("custos_dropped_total", r#"part="projector",code="event-repeat""#).await?;
    ensure!(repeated > 0, "the projector meets copies of events");
    let linked = world.counted("custos_dropped_total", r#"part="accounts",code="link-repeat""#).await?;
    ensure!(linked > 0, "accounts meets copies of what machines say to it");
    world.books_match().await?;
    let said = world.audit_healthy().await?;
    ensure!(said.contains("records stand here again") && said.ends_with("audit: proven\n"), "{said}");
    world.stop().await
}

/// The embedded log has one owner: copies are made while it is away, again and again.
async fn while_it_stands_still(world: &mut World, plain: &Picture) -> anyhow::Result<Copier> {
    let mut copier = Copier::default();
    let fixed = Fixed::begin(world, "fixed").await?;
    world.in_the_log(|hand| copier.pass(hand)).await?;
    fixed.finish(world).await?;
    // What is copied is answered again, and the answers are copied, too.
    for _ in 0..PASSES {
        world.in_the_log(|hand| copier.pass(hand)).await?;
        world.chain.mine(1).await?;
        world.caught_up().await?;
    }
    same(plain, &fixed.picture(world).await?)?;
    Ok(copier)
}

/// On Kafka the copier tails every topic while everything happens.
async fn while_it_runs(world: &World, plain: &Picture) -> anyhow::Result<Copier> {
    let (hand, stop, quiet) = (world.hand()?, Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let copying = std::thread::spawn({
        let (stop, quiet) = (Arc::clone(&stop), Arc::clone(&quiet));
        move || -> anyhow::Result<Copier> {
            let mut copier = Copier::default();
            while !stop.load(Ordering::Acquire) {
                quiet.store(copier.pass(&hand)? == 0, Ordering::Release);
            }
            Ok(copier)
        }
    });
    let fixed = Fixed::begin(world, "fixed").await?;
    fixed.finish(world).await?;
    world.caught_up().await?;
    until("everything is copied", LONG, || async { Ok(quiet.swap(false, Ordering::AcqRel).then_some(())) }).await?;
    until("and what the copies caused, too", LONG, || async { Ok(quiet.load(Ordering::Acquire).then_some(())) }).await?;
    let picture = fixed.picture(world).await?;
    stop.store(true, Ordering::Release);
    let copier = tokio::task::block_in_place(|| copying.join()).ok().context("the copier panicked")??;
    same(plain, &picture)?;
    Ok(copier)
}

fn same(plain: &Picture, doubled: &Picture) -> anyhow::Result<()> {
    ensure!(plain == doubled, "plain: {plain:#?}\ndoubled: {doubled:#?}");
    Ok(())
}
