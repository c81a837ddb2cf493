//! A list file of sanctioned addresses and limits.

use std::path::Path;

use custos_compliance::{ListFile, Lists};

use super::Target;

pub const TARGET: Target = Target { name: "list", seeds, run, words: WORDS, mutations: 2_000 };

const WORDS: &[&str] = &[
    "[[address]]\n",
    "[[velocity]]\n",
    "chain = ",
    "eip155:01",
    "eip155:+1",
    "\"\"\"",
    "nan",
    "1e9",
    "\u{feff}",
    "\r",
    "[[[[",
];

fn seeds() -> Vec<Vec<u8>> {
    let text = "name = \"ofac\"\nversion = \"2026-11-01\"\n\n[[address]]\nchain = \"eip155:1\"\n\
                address = \"0x52908400098527886e0f7030069857d2e4169ee7\"\ncode = \"sanctioned-address\"\n\n\
                [[velocity]]\nasset = \"ETH\"\nmax_base_units = \"1000000000000000000\"\nmax_count = 3\n";
    vec![text.as_bytes().to_vec()]
}

fn run(input: &[u8]) {
    // As it is read from the disk: what is no text is refused before.
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lists = Lists::default();
    if let Err(error) = lists.add(Path::new("list.toml"), text) {
        assert!(!error.to_string().is_empty());
        return;
    }
    assert_eq!(lists.versions().len(), 1);
    let file: ListFile = toml::from_str(text).expect("it was read");
    for entry in &file.address {
        // Whoever is on the list is found under the one name that the chain has elsewhere.
        let chain = custos_domain::ChainId::new(&entry.chain).expect("it was read");
        let chain = chain.eip155_number().map_or(chain, custos_domain::ChainId::eip155);
        let address = custos_domain::EthAddress::parse(&entry.address).expect("it was read");
        assert!(lists.against(&chain, &address).any(|code| *code == entry.code), "{} is not found", entry.address);
    }
    for entry in &file.velocity {
        let asset = custos_domain::AssetId::new(&entry.asset).expect("it was read");
        let limit = lists.limit(&asset).expect("a limit that was read is in force");
        let own = custos_domain::Amount::parse(&entry.max_base_units, 0).expect("it was read");
        assert!(limit.amount <= own && limit.count <= entry.max_count, "the tightest limit is in force");
    }
}
