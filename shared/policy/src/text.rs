//! The policy as people write it: TOML with decimal amounts, checksummed addresses and spans such as `15 min`.
//!
//! Every key is mandatory, unknown keys are refused, and all problems are listed together.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use custos_domain::{Amount, Asset, AssetId, AssetKind, ChainId, EthAddress, Millis, NodeName, OfficerId, TenantId};
use toml::{Table, Value};

use crate::{AssetPolicy, ChainPolicy, Policy};

/// A table that is being read: what is left of it, where it stands, and what is wrong so far.
struct Reader<'a> {
    place: String,
    left: Table,
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn note(&mut self, name: &str, problem: impl std::fmt::Display) {
        self.problems.push(format!("{}{name}: {problem}", self.place));
    }

    /// The value of `name`, if it is there and `read` accepts it.
    fn take<T>(&mut self, name: &str, read: impl FnOnce(Value) -> Result<T, String>) -> Option<T> {
        let read = self.left.remove(name).ok_or_else(|| "is absent".to_owned()).and_then(read);
        read.map_err(|problem| self.note(name, problem)).ok()
    }

    fn text<T, E: ToString>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        self.take(name, |value| read(as_text(&value)?).map_err(|problem| problem.to_string()))
    }

    fn number(&mut self, name: &str) -> Option<u32> {
        self.take(name, |value| {
            let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| "is not a number between 0 and 4294967295".to_owned())
        })
    }

    fn span(&mut self, name: &str) -> Option<Millis> {
        self.take(name, |value| {
            read_span(&value).ok_or_else(|| "is not a span such as \"15 min\" or milliseconds".to_owned())
        })
    }

    /// Reads each entry of the table `name` with a reader of its own.
    fn each<K: Ord, V>(
        &mut self,
        name: &str,
        mut read: impl FnMut(&str, &mut Reader<'_>) -> Option<(K, V)>,
    ) -> Option<BTreeMap<K, V>> {
        let table = self.take(name, |value| match value {
            Value::Table(table) => Ok(table),
            _ => Err("is not a table".to_owned()),
        })?;
        let mut map = Some(BTreeMap::new());
        for (key, value) in table {
            let place = format!("{}{name}.{key}", self.place);
            let Value::Table(left) = value else {
                self.problems.push(format!("{place}: is not a table"));
                map = None;
                continue;
            };
            let mut reader = Reader { place: format!("{place}."), left, problems: self.problems };
            let entry = read(&key, &mut reader);
            reader.finish();
            map = map.zip(entry).map(|(mut map, (key, value))| {
                map.insert(key, value);
                map
            });
        }
        map
    }

    /// Whatever is left is unknown.
    fn finish(mut self) {
        for name in std::mem::take(&mut self.left).keys() {
            self.note(name, "is not a setting of the policy");
        }
    }
}

fn as_text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "is not a text".to_owned())
}

/// `N h`, `N min`, `N s`, `N ms`, or a number of milliseconds.
fn read_span(value: &Value) -> Option<Millis> {
    if let Some(number) = value.as_integer() {
        return u64::try_from(number).ok().map(Millis);
    }
    let (number, unit) = value.as_str()?.split_once(' ')?;
    let factor = match unit {
        "h" => 3_600_000,
        "min" => 60_000,
        "s" => 1_000,
        "ms" => 1,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).map(Millis)
}

fn read_key(value: Value) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    hex::decode_to_slice(as_text(&value)?, &mut key).map_err(|_| "is not 64 hexadecimal digits".to_owned())?;
    Ok(key)
}

fn read_nodes(value: Value) -> Result<Vec<NodeName>, String> {
    let list = value.as_array().ok_or_else(|| "is not a list".to_owned())?;
    list.iter().map(|node| NodeName::new(as_text(node)?).map_err(|problem| problem.to_string())).collect()
}

fn read_asset(name: &str, reader: &mut Reader<'_>) -> Option<(AssetId, AssetPolicy)> {
    let id = AssetId::new(name).map_err(|problem| reader.note("", problem)).ok();
    let chain = reader.text("chain", ChainId::new);
    let erc20 = reader.text("kind", |kind| match kind {
        "native" => Ok(false),
        "erc20" => Ok(true),
        _ => Err("is neither `native` nor `erc20`"),
    });
    let kind = match erc20 {
        Some(true) => reader.text("contract", EthAddress::parse_checksummed).map(|contract| AssetKind::Erc20 { contract }),
        Some(false) => Some(AssetKind::Native),
        None => None,
    };
    let decimals = reader.take("decimals", |value| {
        value.as_integer().and_then(|number| u8::try_from(number).ok()).ok_or_else(|| "is not a number up to 255".to_owned())
    });
    let confirmations = reader.number("confirmations");
    let approval_from = reader.text("approval_from", |text| Amount::parse(text, decimals.unwrap_or(0)));
    let id = id?;
    let asset = Asset { id: id.clone(), chain: chain?, kind: kind?, decimals: decimals? };
    Some((id, AssetPolicy { asset, confirmations: confirmations?, approval_from: approval_from? }))
}

fn read_chain(
    name: &str,
    reader: &mut Reader<'_>,
    assets: Option<&BTreeMap<AssetId, AssetPolicy>>,
) -> Option<(ChainId, ChainPolicy)> {
    let chain = ChainId::new(name).map_err(|problem| reader.note("", problem)).ok();
    let native = reader.text("native", AssetId::new);
    let decimals = native.as_ref().and_then(|native| Some(assets?.get(native)?.asset.decimals));
    let amount = |text: &str| match decimals {
        Some(decimals) => Amount::parse(text, decimals).map_err(|problem| problem.to_string()),
        None => Err("cannot be read, since the native asset is not registered".to_owned()),
    };
    let (hot, nodes) = (reader.text("hot", EthAddress::parse_checksummed), reader.take("nodes", read_nodes));
    let (kept_blocks, mark_every) = (reader.number("kept_blocks"), reader.number("mark_every"));
    let (fee_max, house_fee_max) = (reader.text("fee_max", amount), reader.text("house_fee_max", amount));
    let (fee_wait, fee_every) = (reader.span("fee_wait"), reader.span("fee_every"));
    let (resend_every, bump_after) = (reader.span("resend_every"), reader.span("bump_after"));
    let policy = ChainPolicy {
        native: native?,
        hot: hot?,
        nodes: nodes?,
        kept_blocks: kept_blocks?,
        mark_every: mark_every?,
        fee_max: fee_max?,
        house_fee_max: house_fee_max?,
        fee_wait: fee_wait?,
        fee_every: fee_every?,
        resend_every: resend_every?,
        bump_after: bump_after?,
    };
    Some((chain?, policy))
}

fn read_policy(reader: &mut Reader<'_>) -> Option<Policy> {
    let (version, tenant) = (reader.number("version"), reader.text("tenant", TenantId::new));
    let (partitions, quorum) = (reader.number("partitions"), reader.number("quorum"));
    let (approval_wait, screening_wait) = (reader.span("approval_wait"), reader.span("screening_wait"));
    let intent_validity = reader.span("intent_validity");
    let attester = reader.take("attester", read_key);
    let assets = reader.each("assets", read_asset);
    let chains = reader.each("chains", |name, entry| read_chain(name, entry, assets.as_ref()));
    let officers = reader.each("officers", |name, entry| {
        let officer = OfficerId::new(name).map_err(|problem| entry.note("", problem)).ok();
        let key = entry.take("key", read_key);
        Some((officer?, key?))
    });
    Some(Policy {
        version: version?,
        tenant: tenant?,
        partitions: partitions?,
        chains: chains?,
        assets: assets?,
        officers: officers?,
        quorum: quorum?,
        approval_wait: approval_wait?,
        screening_wait: screening_wait?,
        intent_validity: intent_validity?,
        attester: Some(attester?),
    })
}

impl Policy {
    /// Reads and checks the form that people write; see `Policy::to_toml` for its keys.
    ///
    /// # Errors
    /// Every problem, one line each: `place: problem`.
    pub fn from_toml(text: &str) -> Result<Self, Vec<String>> {
        let left = text.parse::<Table>().map_err(|problem| vec![problem.to_string()])?;
        let mut problems = Vec::new();
        let mut reader = Reader { place: String::new(), left, problems: &mut problems };
        let policy = read_policy(&mut reader);
        reader.finish();
        if let Some(policy) = &policy {
            problems.extend(policy.defects().into_iter().map(|defect| {
                let point = if defect.place.is_empty() { "" } else { "." };
                format!("{}{point}{}: {}", defect.place, defect.field, defect.problem)
            }));
        }
        match policy {
            Some(policy) if problems.is_empty() => Ok(policy),
            _ => Err(problems),
        }
    }

    /// The form that people read and write: [`Policy::from_toml`] reads it back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = format!(
            "version = {}\ntenant = \"{}\"\npartitions = {}\nquorum = {}\napproval_wait = \"{}\"\nscreening_wait = \"{}\"\n\
             intent_validity = \"{}\"\n",
            self.version,
            self.tenant,
            self.partitions,
            self.quorum,
            self.approval_wait,
            self.screening_wait,
            self.intent_validity
        );
        // Writing to a text cannot fail.
        let _ = self.attester.iter().try_for_each(|key| writeln!(out, "attester = \"{}\"", hex::encode(key)));
        for (officer, key) in &self.officers {
            let _ = write!(out, "\n[officers.{officer}]\nkey = \"{}\"\n", hex::encode(key));
        }
        self.chains.iter().for_each(|(chain, policy)| self.write_chain(chain, policy, &mut out));
        self.assets.iter().for_each(|(id, entry)| write_asset(id, entry, &mut out));
        out
    }

    fn write_chain(&self, chain: &ChainId, policy: &ChainPolicy, out: &mut String) {
        let decimals = self.assets.get(&policy.native).map_or(0, |entry| entry.asset.decimals);
        let nodes: Vec<String> = policy.nodes.iter().map(|node| format!("\"{node}\"")).collect();
        let _ = write!(
            out,
            "\n[chains.\"{chain}\"]\nnative = \"{}\"\nhot = \"{}\"\nnodes = [{}]\nkept_blocks = {}\nmark_every = {}\n\
             fee_max = \"{}\"\nhouse_fee_max = \"{}\"\nfee_wait = \"{}\"\nfee_every = \"{}\"\nresend_every = \"{}\"\n\
             bump_after = \"{}\"\n",
            policy.native,
            policy.hot,
            nodes.join(", "),
            policy.kept_blocks,
            policy.mark_every,
            policy.fee_max.to_decimal(decimals),
            policy.house_fee_max.to_decimal(decimals),
            policy.fee_wait,
            policy.fee_every,
            policy.resend_every,
            policy.bump_after,
        );
    }
}

fn write_asset(id: &AssetId, entry: &AssetPolicy, out: &mut String) {
    let kind = match entry.asset.kind {
        AssetKind::Native => "kind = \"native\"".to_owned(),
        AssetKind::Erc20 { contract } => format!("kind = \"erc20\"\ncontract = \"{contract}\""),
    };
    let _ = write!(
        out,
        "\n[assets.\"{id}\"]\nchain = \"{}\"\n{kind}\ndecimals = {}\nconfirmations = {}\napproval_from = \"{}\"\n",
        entry.asset.chain,
        entry.asset.decimals,
        entry.confirmations,
        entry.approval_from.to_decimal(entry.asset.decimals),
    );
}
