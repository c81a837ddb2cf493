//! The configuration file.

use custos::config::Config;

use super::Target;

pub const TARGET: Target = Target { name: "config", seeds, run, words: WORDS, mutations: 1_000 };

const WORDS: &[&str] =
    &["[[", "]]", "\"\"\"", "127.0.0.1:99999", "[::1]:0", "file:///", "http://\u{0}", "-1", "1e400", "\u{feff}"];

fn seeds() -> Vec<Vec<u8>> {
    let example = include_str!("../../../../custos.example.toml");
    // The sections of parts name files, which are not here; what comes before them is read whole.
    let head = example.split("\n[wallet]").next().unwrap_or_default();
    vec![example.as_bytes().to_vec(), head.as_bytes().to_vec()]
}

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = |text: &str| Config::parse(text, std::iter::empty());
    match read(text) {
        Ok(config) => {
            assert!(!config.member.is_empty());
            assert!(config.provision.partitions > 0 && config.provision.gateways > 0 && config.provision.replication > 0);
            assert!(config.lists.is_none_or(|lists| !lists.is_empty()), "screening by nothing is not screening");
            // A setting that nobody knows is refused, wherever the file is otherwise good.
            let more = format!("unknown_setting_of_nobody = 1\n{text}");
            assert!(read(&more).is_err());
        }
        Err(error) => assert!(!format!("{error:#}").is_empty()),
    }
}
