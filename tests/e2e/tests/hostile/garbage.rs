//! Everything that is not a message: put aside with its reason where it stands, counted, and in nobody's way.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use custos_domain::partition_of;
use custos_e2e::{Ground, Hand, LONG, World, until};
use custos_messages::{Envelope, Headers, Machine, Record, Source, Topic};

use crate::fixed::Fixed;

/// Every stream that somebody acts upon, and as whom its readers count what they put aside.
const STREAMS: [(Topic, &str); 9] = [
    (Topic::Inbox(Machine::Accounts), "accounts"),
    (Topic::Inbox(Machine::Treasury), "treasury"),
    (Topic::Inbox(Machine::Chain), "chain"),
    (Topic::ComplianceCommands, "compliance"),
    (Topic::WalletCommands, "wallet"),
    (Topic::BlockchainCommands, "blockchain"),
    (Topic::Events, "projector"),
    (Topic::Addresses, "follower"),
    (Topic::GatewayReplies, "gateway"),
];
/// Just below what the log takes.
const NEARLY_TOO_LARGE: usize = 990_000;
const HUGE_HEADER: usize = 600_000;

/// Where a piece of garbage was put, and what must be said about it.
type Put = BTreeMap<(Topic, u32, u64), (&'static str, &'static str)>;

/// A name for the kind of garbage, the garbage, and the code that it must be put aside under.
type Piece = (&'static str, Record, &'static str);

/// A true message of the stream, to be spoilt: no timer and no policy, which may stand anywhere, and none that has its own number.
fn genuine(hand: &Hand, topic: Topic) -> anyhow::Result<(u32, Record)> {
    let mut entries = hand.read_all(topic)?.into_iter();
    let told = |record: &Record| {
        let envelope = hand.keyring().open(topic, record);
        envelope.is_ok_and(|envelope| {
            envelope.source != Source::Operator && !envelope.kind.contains("timer") && envelope.link.is_none()
        })
    };
    let found = entries.find(|entry| told(&entry.record)).with_context(|| format!("nothing true in {}", topic.name()))?;
    Ok((found.partition, found.record))
}

/// Every kind of garbage for a stream, made of a true message of it and one of another.
fn pieces(hand: &Hand, topic: Topic, good: &Record, foreign: &Record) -> anyhow::Result<Vec<Piece>> {
    let keyring = hand.keyring();
    let envelope = keyring.open(topic, good)?;
    let raw = |value: Option<Vec<u8>>| Record { key: good.key.clone(), value, headers: Headers::new() };
    let sealed = |envelope: &Envelope, value| keyring.seal(envelope, topic, good.key.clone(), value);
    let mut seal = good.headers.get("custos_auth").context("a seal")?.to_vec();
    *seal.last_mut().context("a seal with bytes")? ^= 1;
    let mut broken_seal = good.clone();
    broken_seal.headers.retain(|name, _| name != "custos_auth");
    broken_seal.headers.push("custos_auth", &seal);
    let mut altered = good.clone();
    altered.value.get_or_insert_default().push(0);
    let mut huge = good.clone();
    huge.headers.push("x-huge", "x".repeat(HUGE_HEADER));
    let mut twice = good.clone();
    twice.headers.extend(good.headers.iter().find(|(name, _)| *name == "ce_type"));
    let liar = Source::ALL.into_iter().find(|source| !source.may_say(&envelope.kind)).context("nobody may lie")?;
    let unknown = Envelope { kind: "custos.nonsense.v9".to_owned(), ..envelope.clone() };
    let borrowed = Envelope { source: liar, ..envelope.clone() };
    Ok(vec![
        ("random bytes", raw(Some(vec![0x8f, 0x03, 0xff, 0x00, 0x7c])), "malformed-envelope"),
        ("an empty value", raw(Some(Vec::new())), "malformed-envelope"),
        ("a tombstone", Record { key: b"nobody's key".to_vec(), ..raw(None) }, "malformed-envelope"),
        ("no headers", raw(good.value.clone()), "malformed-envelope"),
        ("a header twice", twice, "malformed-envelope"),
        ("a type that nobody knows", sealed(&unknown, good.value.clone()), "not-allowed"),
        ("a true type from a wrong source", sealed(&borrowed, good.value.clone()), "not-allowed"),
        ("a payload that is none", sealed(&envelope, Some(vec![0xff; 9])), "undecodable"),
        ("a wrong seal", broken_seal, "unauthenticated"),
        ("an altered value", altered, "unauthenticated"),
        ("a message of another topic", foreign.clone(), "unauthenticated"),
        ("nearly too large for the log", raw(Some(vec![7; NEARLY_TOO_LARGE])), "oversized"),
        ("a huge header", huge, "oversized"),
    ])
}

/// Puts every kind of garbage into every partition that somebody reads.
fn litter(hand: &Hand, streams: &[(Topic, &'static str)]) -> anyhow::Result<Put> {
    let mut put = Put::new();
    for (topic, reader) in streams.iter().copied() {
        let (home, good) = genuine(hand, topic)?;
        let other = if topic == Topic::WalletCommands { Topic::BlockchainCommands } else { Topic::WalletCommands };
        let foreign = genuine(hand, other)?.1;
        // A gateway reads the partition of its own instance alone.
        let partitions = if topic == Topic::GatewayReplies { 1 } else { hand.partitions(topic)? };
        for partition in 0..partitions {
            let strange = matches!(topic, Topic::Inbox(_)) && partition != home;
            for (what, piece, code) in pieces(hand, topic, &good, &foreign)? {
                // A shard looks into what belongs to it alone.
                let code = if strange && code == "undecodable" { "misrouted" } else { code };
                let offset = hand.append(topic, partition, piece).with_context(|| format!("{what} in {}", topic.name()))?;
                put.insert((topic, partition, offset), (reader, code));
            }
        }
        // True, and in another partition than its own: a command is answered again there, and any other message must not act.
        let strayed = (home + 1) % hand.partitions(topic)?.max(1);
        let acts = matches!(topic, Topic::Inbox(_) | Topic::Events);
        if acts && partition_of(&good.key, hand.partitions(topic)?) == home {
            let offset = hand.append(topic, strayed, good)?;
            put.insert((topic, strayed, offset), (reader, "misrouted"));
        }
    }
    Ok(put)
}

/// What stands in quarantine, by where it came from.
fn aside(hand: &Hand) -> anyhow::Result<BTreeMap<(String, u32, u64), String>> {
    let mut found = BTreeMap::new();
    for entry in hand.read_all(Topic::Quarantine)? {
        let header = |name: &str| -> anyhow::Result<String> {
            let name = format!("custos_quarantine_{name}");
            let found = entry.record.headers.get(&name).with_context(|| format!("no header {name}"))?;
            Ok(String::from_utf8(found.to_vec())?)
        };
        ensure!(!header("reason")?.is_empty(), "put aside without a reason");
        found.insert((header("topic")?, header("partition")?.parse()?, header("offset")?.parse()?), header("code")?);
    }
    Ok(found)
}

/// Whether all of it stands in quarantine, each piece under its code.
fn all_aside(put: &Put, found: &BTreeMap<(String, u32, u64), String>) -> anyhow::Result<bool> {
    for ((topic, partition, offset), (_, expected)) in put {
        let Some(code) = found.get(&(topic.name().to_owned(), *partition, *offset)) else { return Ok(false) };
        ensure!(code == expected, "{}/{partition}/{offset}: put aside as {code}, not as {expected}", topic.name());
    }
    Ok(true)
}

/// Garbage everywhere while money moves.
pub async fn garbage_is_put_aside_and_holds_nothing_up(world: &mut World) -> anyhow::Result<()> {
    let load = Fixed::begin(world, "littered").await?;
    // A gateway that starts reads what comes from then on, so while it stands still nothing false can reach it.
    let embedded = matches!(world.ground(), Ground::Embedded);
    let streams = STREAMS.into_iter().filter(|(topic, _)| !embedded || *topic != Topic::GatewayReplies).collect::<Vec<_>>();
    let put = world.in_the_log(|hand| litter(hand, &streams)).await?;
    load.finish(world).await?;

    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    put.values().for_each(|piece| *counts.entry(*piece).or_default() += 1);
    for ((part, code), expected) in &counts {
        until(&format!("{part} counts {expected} as {code}"), LONG, || async {
            let counted = world.counted("custos_quarantined_total", &format!("part=\"{part}\",code=\"{code}\"")).await?;
            if counted >= *expected { Ok(Some(())) } else { bail!("it has counted {counted}") }
        })
        .await?;
    }
    let found = world.in_the_log(aside).await?;
    ensure!(all_aside(&put, &found)?, "all of it stands in quarantine: {put:?}\n{found:?}");
    eprintln!("{} pieces of garbage were put aside: {counts:?}", put.len());
    for topic in streams.iter().map(|(topic, _)| topic) {
        ensure!(put.keys().any(|(at, ..)| at == topic), "{} had its share", topic.name());
    }
    world.books_match().await
}
