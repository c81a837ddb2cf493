//! `custos demo` as a person runs it: with each part switched to the real thing, several at once, twice in a row, interrupted, killed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use custos_parts::{require, start_anvil, start_kafka, start_postgres};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CUSTOS: &str = env!("CARGO_BIN_EXE_custos");
const MATCH: &str = "books match the chains: yes";
/// Demonstrations have deadlines of their own: those that are not meant to run beside others do not.
static ALONE: Mutex<()> = Mutex::new(());
/// How long anything may take on a machine that has other things to do.
const MOST: Duration = Duration::from_secs(240);

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn custos(arguments: &[&str]) -> Command {
    let mut command = Command::new(CUSTOS);
    // What names the servers of tests is no variable of custos, which refuses what it does not know.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CUSTOS_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A demonstration from its beginning to its end.
fn played(switches: &[&str]) {
    let arguments = [&["demo", "--exit"], switches].concat();
    let output = custos(&arguments).output().expect("custos starts");
    let (out, err) = words(&output);
    assert!(output.status.success() && out.contains(MATCH), "{arguments:?}: {:?}\n{out}\n{err}", output.status);
}

fn words(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A demonstration that is running; killed when dropped.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    said: String,
}

impl Running {
    fn start(switches: &[&str]) -> Self {
        let mut child = custos(&[&["demo"], switches].concat()).spawn().expect("custos starts");
        let lines = BufReader::new(child.stdout.take().expect("an output"));
        Self { child, lines, said: String::new() }
    }

    /// Reads on to a line that holds `words`. The demonstration has its own deadlines, so this ends.
    fn line(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("the output can be read");
            assert!(read > 0, "it ended without saying `{words}`:\n{}", self.said);
            self.said.push_str(&line);
            if line.contains(words) {
                return line;
            }
        }
    }

    fn worker(&mut self) -> Pid {
        let line = self.line("  worker      process ");
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        Pid::from_raw(digits.parse().expect("a process id"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("a process id")), signal).expect("it runs");
    }

    /// Waits for its end and gives its exit code.
    fn ended(&mut self) -> Option<i32> {
        self.lines.read_to_string(&mut self.said).expect("the output can be read");
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + MOST;
    while !done() {
        assert!(Instant::now() < until, "{what}: not within {} s", MOST.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn gone(process: Pid) -> bool {
    kill(process, None).is_err()
}

#[test]
fn each_part_can_be_the_real_thing_alone_at_once_and_again_all_together() {
    let test = "each_part_can_be_the_real_thing_alone_at_once_and_again_all_together";
    let Some(kafka) = require(test, start_kafka()) else { return };
    let Some(postgres) = require(test, start_postgres()) else { return };
    let Some(anvil) = require(test, start_anvil(&[])) else { return };
    let _alone = alone();
    let url = anvil.url();
    let switches = [["--kafka", kafka.bootstrap()], ["--postgres", postgres.url()], ["--ethereum", &url]];
    // Three demonstrations on one machine at the same time.
    std::thread::scope(|scope| {
        for switch in &switches {
            scope.spawn(|| played(switch));
        }
    });
    // Each server has seen one demonstration; the next begins clean.
    played(&switches.concat());
}

#[test]
fn a_public_network_is_refused_by_name_before_anything_is_sent() {
    let test = "a_public_network_is_refused_by_name_before_anything_is_sent";
    let Some(anvil) = require(test, start_anvil(&["--chain-id", "1"])) else { return };
    let output = custos(&["demo", "--exit", "--ethereum", &anvil.url()]).output().expect("custos starts");
    let (_, err) = words(&output);
    assert!(output.status.code() == Some(2) && err.contains("chain 1 is Ethereum"), "{err}");
}

#[test]
fn an_unknown_point_to_kill_at_is_told_every_point() {
    let output = custos(&["demo", "--kill-at", "somewhere"]).output().expect("custos starts");
    let (_, err) = words(&output);
    assert_eq!(output.status.code(), Some(2));
    for point in ["guard-recorded", "before-sign", "screen-again", "open-transaction:pay"] {
        assert!(err.contains(point), "{err}");
    }
}

#[test]
fn an_open_demonstration_has_a_faucet_and_ends_in_order_when_interrupted() {
    let _alone = alone();
    // Killed where only officers bring it: before the commit of their approval.
    let mut demo = Running::start(&["--kill-at", "open-transaction:screen-again"]);
    demo.line(MATCH);
    let exports = demo.line("export CUSTOS_CONFIG=");
    let variables: Vec<(&str, &str)> = exports.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
    demo.line("custos audit");
    let act = |arguments: &[&str]| {
        let output = custos(arguments).envs(variables.iter().copied()).output().expect("custos starts");
        let (out, err) = words(&output);
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out
    };
    let held = || {
        let sheet = act(&["books"]);
        let row = sheet.lines().find(|line| line.starts_with("clients: available")).map(str::to_owned);
        row.expect("a row of available money")
    };
    let before = held();
    assert!(act(&["faucet", "bob", "1000.5", "TUSD"]).contains("deposit address of bob"));
    wait_until("the faucet's money is available", || held() != before);
    assert!(held().contains("5750.5"), "{}", held());
    demo.signal(Signal::SIGINT);
    assert_eq!(demo.ended(), Some(0), "{}", demo.said);
}

#[test]
fn no_process_outlives_a_demonstration_however_it_ends() {
    let _alone = alone();
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGKILL, None)] {
        let mut demo = Running::start(&["--exit"]);
        let worker = demo.worker();
        demo.line("alice  account");
        assert!(!gone(worker));
        demo.signal(signal);
        assert_eq!(demo.ended(), code, "{}", demo.said);
        wait_until("the worker is gone", || gone(worker));
    }
}
