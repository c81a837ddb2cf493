//! The disk of the embedded log is full: the product stops and says so, has lost nothing, and goes on when there is room again.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use custos_e2e::{LONG, Part, Stream, World, until};

use crate::say;

const MEBIBYTES: u32 = 24;
const APPROVED_EVERY: usize = 3;
const ROUNDS: usize = 3;
const CHUNK: usize = 16 << 10;

/// A file system of a size, in memory; gone when dropped.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Puts one in the place of a folder, with what is in it.
    fn instead_of(folder: &Path) -> anyhow::Result<Option<Self>> {
        let before = folder.with_extension("before");
        fs::rename(folder, &before)?;
        fs::create_dir(folder)?;
        let size = format!("size={MEBIBYTES}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).status();
        if !mounted.is_ok_and(|status| status.success()) {
            fs::remove_dir(folder)?;
            fs::rename(&before, folder)?;
            return Ok(None);
        }
        let disk = Self { folder: folder.to_path_buf() };
        for file in fs::read_dir(&before)? {
            let file = file?;
            fs::copy(file.path(), folder.join(file.file_name()))?;
        }
        Ok(Some(disk))
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Fills it to the last byte.
    fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::create(self.ballast())?;
        while file.write_all(&[0xff; CHUNK]).is_ok() {}
        Ok(())
    }

    /// Makes room again.
    fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} was not unmounted", self.folder.display());
        }
    }
}

async fn stops_and_goes_on(world: &mut World) -> anyhow::Result<()> {
    world.stop().await?;
    let Some(disk) = Disk::instead_of(&world.installation.folder().join("journal"))? else {
        say("chaos: a full disk: not run: only root can mount a file system");
        ensure!(std::env::var("CI").as_deref() != Ok("true"), "not run in CI");
        return Ok(());
    };
    world.start("all", &Part::ALL).await?;
    let mut stream = Stream::open(world, APPROVED_EVERY).await?;
    for _ in 0..ROUNDS {
        stream.flow(world).await?;
    }
    disk.fill()?;
    let mut process = world.take("all")?;
    for _ in 0..ROUNDS {
        stream.flow(world).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let errors = until("the product says that the disk is full", LONG, || {
        let said = process.errors();
        async move { Ok(said.to_lowercase().contains("no space left").then_some(said)) }
    })
    .await?;
    let ended = until("the product has stopped", LONG, || {
        let ended = process.ended();
        async move { ended }
    })
    .await?;
    let said = errors.lines().find(|line| line.to_lowercase().contains("no space left")).context("a line")?;
    say(&format!("chaos: the disk is full: {ended}: {said}"));
    ensure!(!ended.success(), "it ended as if nothing were: {ended}");
    disk.free()?;
    world.start("all", &Part::ALL).await?;
    stream.flow(world).await?;
    stream.ends_exact(world).await?;
    world.books_match().await?;
    world.audit_healthy().await?;
    say(&format!("chaos: there is room again: {}: each paid exactly once", stream.told()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_product_and_loses_nothing() {
    let mut world = World::embedded().await.unwrap_or_else(|error| panic!("{error:?}"));
    if let Err(error) = stops_and_goes_on(&mut world).await {
        panic!("{error:?}");
    }
}
