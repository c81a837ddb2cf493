//! The event log against heads that were written down outside of it.

use std::fs::{copy, rename};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use custos_e2e::{Ground, World};

/// What stood at an earlier moment: the heads, and a copy of the log's file.
pub struct Earlier {
    pub heads: Vec<String>,
    /// On the embedded log alone: nobody puts an old log in the place of a cluster's.
    log: Option<PathBuf>,
}

/// The heads that an audit printed.
fn heads(said: &str) -> anyhow::Result<Vec<String>> {
    let heads: Vec<String> =
        said.lines().filter_map(|line| line.rsplit_once("head to write down: ")).map(|(_, head)| head.to_owned()).collect();
    ensure!(!heads.is_empty(), "an audit without heads: {said}");
    Ok(heads)
}

/// `partition:sequence`, and the hash.
fn parts(head: &str) -> anyhow::Result<(&str, &str)> {
    head.rsplit_once(':').with_context(|| format!("`{head}` is no head"))
}

pub fn trusting(heads: &[String]) -> Vec<&str> {
    heads.iter().flat_map(|head| ["--head", head]).collect()
}

fn proven(said: &str, heads: usize) -> anyhow::Result<()> {
    let held = said.matches("holds the trusted head").count();
    ensure!(said.ends_with("audit: proven\n") && held == heads && !said.contains("FOUND"), "{held} of {heads}: {said}");
    Ok(())
}

/// What an audit with these heads says; it must not be proven.
async fn found(world: &World, heads: &[String]) -> anyhow::Result<String> {
    let audit = world.installation.run("audit", &trusting(heads)).await?;
    ensure!(audit.code == Some(1), "the exit code is {:?}\n{}{}", audit.code, audit.out, audit.err);
    ensure!(audit.out.ends_with("audit: not proven\n"), "{}", audit.out);
    Ok(audit.out)
}

/// Audits a copy while the worker goes on, and keeps one for later.
pub async fn earlier(world: &World) -> anyhow::Result<Earlier> {
    let (arguments, file): (&[&str], _) = match world.ground() {
        Ground::Embedded => (&["--copy"], Some(world.installation.folder().join("journal/journal.log"))),
        Ground::Servers { .. } => (&[], None),
    };
    let said = world.installation.run("audit", arguments).await?.success()?;
    proven(&said, 0)?;
    let kept = world.installation.folder().join("earlier.log");
    let log = file.map(|file| copy(file, &kept).map(|_| kept.clone())).transpose()?;
    Ok(Earlier { heads: heads(&said)?, log })
}

pub async fn a_log_that_is_not_the_one_which_was_noted_is_found(world: &World, earlier: &Earlier) -> anyhow::Result<()> {
    let said = world.installation.run("audit", &[]).await?.success()?;
    proven(&said, 0)?;
    let now = heads(&said)?;
    ensure!(now != earlier.heads && now.len() == earlier.heads.len(), "the log went on: {now:?}");
    for trusted in [&now, &earlier.heads] {
        let said = world.installation.run("audit", &trusting(trusted)).await?.success()?;
        proven(&said, trusted.len())?;
        ensure!(heads(&said)? == now, "trust changes nothing: {said}");
    }
    another_hash_is_rewritten_history(world, &now).await?;
    if let Some(log) = &earlier.log {
        a_tail_that_was_cut_off_is_missed(world, log, &now).await?;
    }
    let again = world.installation.run("audit", &trusting(&now)).await?.success()?;
    proven(&again, now.len())
}

async fn another_hash_is_rewritten_history(world: &World, now: &[String]) -> anyhow::Result<()> {
    let (place, hash) = parts(now.first().context("no head")?)?;
    let digit = if hash.starts_with('0') { '1' } else { '0' };
    let other = hash.get(1..).context("a hash")?;
    let said = found(world, &[format!("{place}:{digit}{other}")]).await?;
    let (partition, sequence) = place.split_once(':').context("a place")?;
    let finding =
        format!("event {sequence} has hash {hash}, and had {digit}{other} when it was noted: history was rewritten");
    ensure!(said.contains(&format!("events/{partition}: FOUND: ")) && said.contains(&finding), "{said}");
    ensure!(said.matches("FOUND").count() == 1, "nothing else is wrong: {said}");
    Ok(())
}

/// The log as it was earlier is whole in itself, so only what was noted later tells that it is not all.
async fn a_tail_that_was_cut_off_is_missed(world: &World, earlier: &Path, now: &[String]) -> anyhow::Result<()> {
    let folder = world.installation.folder();
    let (log, kept) = (folder.join("journal/journal.log"), folder.join("whole.log"));
    rename(&log, &kept)?;
    copy(earlier, &log)?;
    let without_trust = world.installation.run("audit", &[]).await?.success()?;
    proven(&without_trust, 0)?;
    let before = heads(&without_trust)?;
    let said = found(world, now).await?;
    for (noted, last) in now.iter().zip(&before).filter(|(noted, last)| noted != last) {
        let (noted, last) = (parts(noted)?.0, parts(last)?.0);
        let (partition, noted) = noted.split_once(':').context("a place")?;
        let (_, last) = last.split_once(':').context("a place")?;
        let finding = format!(
            "events/{partition}: FOUND: the log ends at event {last}, and had event {noted} when it was noted: its tail was cut off"
        );
        ensure!(said.contains(&finding), "`{finding}` is not in {said}");
    }
    rename(&kept, &log)?;
    Ok(())
}
