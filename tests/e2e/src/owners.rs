//! Who committed in each shard: only ever its owner.

use std::collections::BTreeMap;

use anyhow::ensure;
use custos_messages::{Machine, Topic};
use custos_runtime::shard::{Manifest, is_manifest};

use crate::log::read_all;
use crate::world::World;

/// In each shard the manifests' attempts never go back: nobody has committed after another has taken the shard over. How many
/// transactions there were, and how often each shard changed hands.
///
/// # Errors
/// Somebody committed who was not the owner, or a transaction is missing.
pub async fn only_owners_committed(world: &World) -> anyhow::Result<(u64, BTreeMap<String, u32>)> {
    let (mut manifests, mut changes) = (0_u64, BTreeMap::new());
    for machine in Machine::ALL {
        for (partition, entries) in read_all(world, Topic::State(machine)).await?.into_iter().enumerate() {
            let shard = format!("{}/{partition}", machine.name());
            let mut last: Option<Manifest> = None;
            for entry in entries.into_iter().filter(|entry| is_manifest(&entry.record)) {
                let manifest = Manifest::read(entry.record.value.as_deref().unwrap_or_default())?;
                if let Some(last) = &last {
                    ensure!(manifest.attempt >= last.attempt, "{shard}: {} committed after {}", manifest.owner, last.owner);
                    ensure!(manifest.attempt > last.attempt || manifest.owner == last.owner, "{shard}: two owners at once");
                    ensure!(manifest.transaction == last.transaction + 1, "{shard}: a transaction is missing");
                }
                manifests += 1;
                last = Some(manifest);
            }
            changes.insert(shard, last.map_or(0, |manifest| manifest.attempt));
        }
    }
    Ok((manifests, changes))
}
