//! The signed policy file: what `custos policy sign` writes and `custos topics` publishes.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use custos_messages::SignedPolicy;
use custos_policy::{Policy, verify};
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedFile {
    policy: String,
    signature: String,
}

/// The signed policy at `path`, verified.
///
/// # Errors
/// An unreadable file, or a policy that `root` did not sign or that is not usable.
pub fn read_signed(path: &Path, root: &VerifyingKey) -> anyhow::Result<(SignedPolicy, Policy)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("the policy {} cannot be read", path.display()))?;
    let file: SignedFile =
        serde_json::from_str(&text).with_context(|| format!("{} is not a signed policy", path.display()))?;
    let signed = SignedPolicy { bytes: hex::decode(file.policy)?, signature: hex::decode(file.signature)? };
    let policy = verify(&signed, root).with_context(|| format!("the policy {} is refused", path.display()))?;
    Ok((signed, policy))
}

/// Signs the policy written in TOML at `from` and writes it to `to`.
///
/// # Errors
/// Every problem of the policy, a line each; or a file that cannot be read or written.
pub fn sign_file(from: &Path, root: &SigningKey, to: &Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(from).with_context(|| format!("{} cannot be read", from.display()))?;
    let policy = Policy::from_toml(&text).map_err(|problems| anyhow!("{}:\n{}", from.display(), problems.join("\n")))?;
    write_signed(&policy, root, to)?;
    Ok(policy)
}

/// Signs `policy` and writes it to `to`.
///
/// # Errors
/// The policy is not usable, or the file cannot be written.
pub fn write_signed(policy: &Policy, root: &SigningKey, to: &Path) -> anyhow::Result<()> {
    let signed = policy.sign(root)?;
    let file = SignedFile { policy: hex::encode(signed.bytes), signature: hex::encode(signed.signature) };
    std::fs::write(to, serde_json::to_string_pretty(&file)?).with_context(|| format!("{} cannot be written", to.display()))
}

/// The policy must speak of this installation.
///
/// # Errors
/// Another bank's, or for another number of shards.
pub fn fits(policy: &Policy, tenant: &custos_domain::TenantId, partitions: u32) -> anyhow::Result<()> {
    if policy.tenant != *tenant {
        bail!("the policy is of `{}`, this installation of `{tenant}`", policy.tenant);
    }
    if policy.partitions != partitions {
        bail!("the policy names {} partitions, the configuration {partitions}", policy.partitions);
    }
    Ok(())
}
