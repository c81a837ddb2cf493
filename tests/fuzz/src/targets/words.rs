//! Amounts, addresses and names: each accepted text is the one spelling of what it means.

use custos_domain::{
    AccountId, Amount, AssetId, BlockHash, ChainId, EthAddress, IdempotencyKey, NodeName, OfficerId, SagaId, TenantId,
    TxHash,
};

use super::Target;

pub const TARGET: Target = Target { name: "words", seeds, run, words: WORDS, mutations: 10_000 };

const WORDS: &[&str] =
    &[".", "0", "00", "0x", "0X", "+", "-", "1e9", "eip155:", "\u{0660}", "\u{ff11}", "\u{200b}", " ", "\0"];

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "0",
        "1.5",
        "0.000000000000000001",
        "340282366920938463463374607431768211455",
        "340282366920938463463.374607431768211456",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x52908400098527886e0f7030069857d2e4169ee7",
        "ETH",
        "TUSD",
        "eip155:1",
        "eip155:31337",
        "eip155:01",
        "bip122:000000000019d6689c085ae165831e93",
        "alpha",
        "client-1",
    ];
    let mut seeds: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let account = custos_testkit::account("client");
    seeds.push(account.to_string().into_bytes());
    seeds.push(SagaId::derive(&account, "withdrawal", b"key").to_string().into_bytes());
    seeds.push(TxHash([7; 32]).to_string().into_bytes());
    seeds
}

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for decimals in [0, 2, 6, 18, 38, 39, 255] {
        amount(text, decimals);
    }
    // An address may come in any case; what is printed is the one that carries its checksum.
    if let Ok(address) = EthAddress::parse(text) {
        let printed = address.to_string();
        assert!(printed.eq_ignore_ascii_case(text), "{text} means {printed}");
        assert_eq!(EthAddress::parse_checksummed(&printed), Ok(address));
        assert_eq!(EthAddress::parse_checksummed(text).is_ok(), printed == text);
    }
    if let Ok(chain) = ChainId::new(text) {
        assert_eq!(chain.as_str(), text);
        if let Some(number) = chain.eip155_number() {
            assert_eq!(ChainId::eip155(number), chain, "two names of one chain");
        }
    }
    same(text, AssetId::new(text), |id| id.as_str().to_owned());
    same(text, TenantId::new(text), |id| id.as_str().to_owned());
    same(text, OfficerId::new(text), |id| id.as_str().to_owned());
    same(text, NodeName::new(text), |id| id.as_str().to_owned());
    same(text, IdempotencyKey::new(text), |key| key.as_str().to_owned());
    // Hexadecimal and base 32 are read in either case, and printed in one.
    either(text, AccountId::parse(text).map(|id| id.to_string()), |text| AccountId::parse(text).map(|id| id.to_string()));
    either(text, SagaId::parse(text).map(|id| id.to_string()), |text| SagaId::parse(text).map(|id| id.to_string()));
    either(text, TxHash::parse(text).map(|id| id.to_string()), |text| TxHash::parse(text).map(|id| id.to_string()));
    either(text, BlockHash::parse(text).map(|id| id.to_string()), |text| BlockHash::parse(text).map(|id| id.to_string()));
}

fn amount(text: &str, decimals: u8) {
    let Ok(amount) = Amount::parse(text, decimals) else { return };
    assert!(text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{text}");
    let printed = amount.to_decimal(decimals);
    assert_eq!(Amount::parse(&printed, decimals), Ok(amount), "{text} with {decimals} decimals is printed as {printed}");
    let bare = |text: &str| {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        (whole.trim_start_matches('0').to_owned(), part.trim_end_matches('0').to_owned())
    };
    assert_eq!(bare(&printed), bare(text), "with {decimals} decimals");
}

fn same<T, E>(text: &str, read: Result<T, E>, print: impl Fn(&T) -> String) {
    if let Ok(read) = read {
        assert_eq!(print(&read), text);
    }
}

fn either<E>(text: &str, printed: Result<String, E>, read: impl Fn(&str) -> Result<String, E>) {
    if let Ok(printed) = printed {
        assert!(printed.eq_ignore_ascii_case(text), "{text} means {printed}");
        assert_eq!(read(&printed).ok(), Some(printed));
    }
}
