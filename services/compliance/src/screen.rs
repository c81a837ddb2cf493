//! The decision: what the lists in force say about one question.

use std::collections::BTreeSet;

use custos_messages::accounts::Finding;
use custos_messages::compliance::{Direction, Party, Screen};

use crate::Lists;

/// What `lists` say about `question`. A function of its arguments: the same lists give the same answer.
#[must_use]
pub fn screen(lists: &Lists, question: &Screen) -> Finding {
    let mut codes: BTreeSet<String> = BTreeSet::new();
    if let Party::Address { chain, address } = &question.party {
        codes.extend(lists.against(chain, address).cloned());
    }
    if question.direction == Direction::Out
        && let Some(limit) = lists.limit(&question.asset)
    {
        let total = question.sent_last_day.plus(question.amount);
        let too_much = total.map_or(true, |total| total > limit.amount);
        if too_much || question.sent_count_last_day >= limit.count {
            codes.insert("velocity".to_owned());
        }
    }
    if codes.is_empty() { Finding::Clear } else { Finding::Hit { codes: codes.into_iter().collect() } }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use custos_domain::{AccountId, Amount, AssetId, ChainId, CommandId, EthAddress, SagaId, TenantId};

    use super::*;

    const LIST: &str = r#"
        name = "house"
        version = "7"
        [[address]]
        chain = "eip155:31337"
        address = "0x000000000000000000000000000000000000dEaD"
        code = "sanctioned-address"
        [[velocity]]
        asset = "ETH"
        max_base_units = "100"
        max_count = 3
    "#;

    fn lists() -> Lists {
        let mut lists = Lists::default();
        lists.add(Path::new("house.toml"), LIST).unwrap();
        lists
    }

    fn question(direction: Direction, to: &str, amount: u128, sent: u128, count: u32) -> Screen {
        let account = AccountId::derive(&TenantId::new("alpha").unwrap(), "c");
        Screen {
            id: CommandId([1; 32]),
            saga: SagaId::derive(&account, "withdrawal", b"k"),
            account,
            direction,
            party: Party::Address { chain: ChainId::eip155(31337), address: EthAddress::parse(to).unwrap() },
            asset: AssetId::new("ETH").unwrap(),
            amount: Amount::new(amount),
            sent_last_day: Amount::new(sent),
            sent_count_last_day: count,
        }
    }

    #[test]
    fn listed_addresses_and_exceeded_limits_are_hits_and_all_else_is_clear() {
        let dead = "0x000000000000000000000000000000000000dead";
        let fine = "0x00000000000000000000000000000000000000aa";
        let hit = |codes: &[&str]| Finding::Hit { codes: codes.iter().map(ToString::to_string).collect() };
        let cases = [
            (question(Direction::Out, fine, 100, 0, 0), Finding::Clear),
            (question(Direction::Out, fine, 101, 0, 0), hit(&["velocity"])),
            (question(Direction::Out, fine, 1, 100, 0), hit(&["velocity"])),
            (question(Direction::Out, fine, 1, 0, 3), hit(&["velocity"])),
            (question(Direction::Out, fine, u128::MAX, u128::MAX, 0), hit(&["velocity"])),
            (question(Direction::Out, dead, 1, 0, 0), hit(&["sanctioned-address"])),
            (question(Direction::Out, dead, 101, 0, 0), hit(&["sanctioned-address", "velocity"])),
            (question(Direction::In, dead, 1, 0, 0), hit(&["sanctioned-address"])),
            (question(Direction::In, fine, u128::MAX, u128::MAX, 9), Finding::Clear),
        ];
        for (question, expected) in cases {
            assert_eq!(screen(&lists(), &question), expected, "{question:?}");
        }
    }

    #[test]
    fn another_chain_is_another_address() {
        let mut other = question(Direction::Out, "0x000000000000000000000000000000000000dead", 1, 0, 0);
        other.party = Party::Address {
            chain: ChainId::eip155(1),
            address: EthAddress::parse("0x000000000000000000000000000000000000dead").unwrap(),
        };
        assert_eq!(screen(&lists(), &other), Finding::Clear);
    }

    #[test]
    fn a_list_that_means_nothing_is_refused_whole() {
        let cases = [
            "",
            "name = \"a\"",
            "name = \"a\"\nversion = \"\"",
            "name = \"a\"\nversion = \"1\"\nsurprise = 1",
            "name = \"a\"\nversion = \"1\"\n[[address]]\nchain = \"nowhere\"\naddress = \"0x00\"\ncode = \"x\"",
            "name = \"a\"\nversion = \"1\"\n[[velocity]]\nasset = \"ETH\"\nmax_base_units = \"1.5\"\nmax_count = 1",
        ];
        for text in cases {
            assert!(Lists::default().add(Path::new("x"), text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_version_names_the_list_its_edition_and_its_content() {
        let versions = lists().versions();
        assert_eq!(versions.len(), 1);
        assert!(versions.iter().all(|version| version.starts_with("house@7+")), "{versions:?}");
    }
}
