//! `custos check` tells every problem of a configuration and of what it names at once.

use std::path::Path;
use std::process::{Command, Output};

const CUSTOS: &str = env!("CARGO_BIN_EXE_custos");

fn custos(arguments: &[&str]) -> Output {
    let mut command = Command::new(CUSTOS);
    // What names the servers of tests is no variable of custos, which refuses what it does not know.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CUSTOS_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("custos starts")
}

fn checked(folder: &Path) -> (Option<i32>, String) {
    let output = custos(&["check", "--config", &folder.join("custos.toml").display().to_string()]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Changes the configuration, word by word.
fn broken(folder: &Path, whole: &str, changes: &[(&str, &str)]) {
    let text = changes.iter().fold(whole.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replace(old, new)
    });
    std::fs::write(folder.join("custos.toml"), text).expect("written");
}

#[test]
fn every_problem_of_the_file_and_then_of_what_it_names_is_told_at_once() {
    let temporary = tempfile::tempdir().expect("a folder");
    let home = temporary.path().join("bank");
    let token = "TUSD=0x5FbDB2315678afecb367f032d93F642f64180aa3:18";
    let made = custos(&["init", &home.display().to_string(), "--node", "a=http://127.0.0.1:1", "--token", token]);
    assert!(made.status.success());
    let whole = std::fs::read_to_string(home.join("custos.toml")).expect("written by init");
    let (code, said) = checked(&home);
    assert!(code == Some(0) && said.contains("usable"), "{said}");

    let of_the_file = [
        ("tenant = \"alpha\"", "tenant = \"Alpha!\""),
        ("partitions = 2", "partitions = 0"),
        ("format = \"text\"", "format = \"xml\""),
        ("lists = [\"list.toml\"]", "lists = []"),
        ("guard = \"sqlite", "guard = \"mysql"),
        ("poll_ms = 1000", "poll_ms = 0"),
        ("native = \"ETH\"", "native = \"e th\""),
        ("contract = \"0x", "contract = \"0y"),
        ("url = \"http", "url = \"ftp"),
        ("api_keys = \"api-keys.toml\"", "api_keys = \"nowhere.toml\""),
    ];
    broken(&home, &whole, &of_the_file);
    let (code, said) = checked(&home);
    assert_eq!(code, Some(2));
    for path in
        ["tenant:", "log:", "telemetry:", "compliance.lists:", "wallet.guard:", "poll_ms:", "native:", "tokens:", "nodes:"]
    {
        assert!(said.contains(path), "{path} is not in: {said}");
    }
    assert!(said.contains("nowhere.toml"), "{said}");

    let of_what_it_names = [
        ("member = \"custos-1\"\nkeys = \"keys\"", "member = \"custos-1\"\nkeys = \"nokeys\""),
        ("keystore = \"keystore.age\"", "keystore = \"nokeystore\""),
        ("passphrase_file = \"passphrase\"", "passphrase_file = \"nopassphrase\""),
        ("lists = [\"list.toml\"]", "lists = [\"nolist.toml\"]"),
        ("tenant = \"alpha\"", "tenant = \"beta\""),
        ("name = \"a\"", "name = \"b\""),
        ("asset = \"TUSD\"", "asset = \"XUSD\""),
        ("filter = \"info\"", "filter = \"custos=loud\"\notlp = \"nowhere\""),
        ("read_model = \"sqlite", "read_model = \"mysql"),
    ];
    broken(&home, &whole, &of_what_it_names);
    let (code, said) = checked(&home);
    assert_eq!(code, Some(2));
    for words in [
        "nokeys/accounts.key",
        "nokeys/wallet.key",
        "wallet.keystore",
        "wallet.passphrase_file",
        "nolist.toml",
        "this installation of `beta`",
        "no node `b`",
        "waits for node `a`",
        "does not list XUSD",
        "telemetry.filter",
        "telemetry.otlp",
        "read_model",
    ] {
        assert!(said.contains(words), "{words} is not in: {said}");
    }
}
