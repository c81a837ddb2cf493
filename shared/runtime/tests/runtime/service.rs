//! The skeleton of services: durable replies before the acknowledgement, another try, quarantine, and a halt.

use std::io::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use custos_domain::{CommandId, Digest, Timestamp};
use custos_messages::accounts::{AccountsInput, Finding, Screened};
use custos_messages::compliance::{Direction, Party, Screen};
use custos_messages::{Headers, Mail, Postmark, Source, Topic};
use custos_runtime::pace::{Clock, Time};
use custos_runtime::serve::{ServeSettings, ServeStop, Work, run_service};
use custos_runtime::service::{Service, Setback};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::stage::faults::Faults;
use crate::stage::{INBOX, PARTITIONS, Stage};

const COMMANDS: Topic = Topic::ComplianceCommands;

/// Answers each question as its number says.
#[derive(Default)]
struct Screener {
    stop: Arc<AtomicBool>,
    handled: Mutex<Vec<u32>>,
    tries: AtomicUsize,
    gate: Notify,
    faults: Arc<Faults>,
}

/// Fails the first two times, and until the replies to three others are durable.
const FLAKY: u32 = 100;
/// Has to wait for ever.
const HOPELESS: u32 = 150;
/// Never succeeds.
const BROKEN: u32 = 200;
/// Waits for [`OPENER`].
const SLOW: u32 = 300;
const OPENER: u32 = 301;

impl Screener {
    fn replied(&self) -> usize {
        self.faults.trace().iter().filter(|line| *line == "append custos.accounts.inbox.v1").count()
    }
}

impl Service for Screener {
    type Command = Screen;

    const NAME: &'static str = "screener";
    const COMMANDS: Topic = COMMANDS;
    const SOURCE: Source = Source::Compliance;

    async fn handle(&self, command: Screen) -> Result<Vec<Mail>, Setback> {
        let number = command.sent_count_last_day;
        match number {
            FLAKY => {
                let tries = self.tries.fetch_add(1, Ordering::SeqCst);
                if tries < 2 || (tries < 6 && self.replied() < 3) {
                    return Err(Setback::retry(Error::other("later")));
                }
                assert_eq!(self.replied(), 3, "the others' replies did not wait for this one");
            }
            HOPELESS => return Err(Setback::retry(Error::other("never"))),
            BROKEN => return Err(Setback::halt(Error::other("broken"))),
            SLOW => self.gate.notified().await,
            OPENER => self.gate.notify_one(),
            _ => {}
        }
        self.handled.lock().unwrap().push(number);
        let (command, saga) = (command.id, command.saga);
        let answer = Screened { command, saga, finding: Finding::Clear, versions: Vec::new() };
        Ok(vec![Mail::Accounts(AccountsInput::Screened(answer))])
    }
}

fn ask(stage: &Stage, partition: u32, number: u32) {
    let screen = Screen {
        id: CommandId::derive(b"test", "screen", number, &Digest([0; 32])),
        saga: custos_testkit::saga("ann", "withdrawal", "1"),
        account: custos_testkit::account("ann"),
        direction: Direction::Out,
        party: Party::Account(custos_testkit::account("bob")),
        asset: custos_testkit::asset("ETH"),
        amount: custos_testkit::ether("1"),
        sent_last_day: custos_testkit::ether("0"),
        sent_count_last_day: number,
    };
    let record = stage.keyring.seal_message(COMMANDS, Source::Accounts, &screen, Postmark::default());
    stage.append(COMMANDS, partition, record);
}

struct Running {
    service: Arc<Screener>,
    runtime: Runtime,
    settings: ServeSettings,
}

fn running(stage: &Stage) -> Running {
    let runtime = Runtime::new().unwrap();
    let settings = ServeSettings {
        journal: Arc::clone(&stage.journal),
        keyring: Arc::clone(&stage.keyring),
        partitions: PARTITIONS,
        metrics: stage.metrics.clone(),
        work: Work::Tokio(runtime.handle().clone()),
        clock: Clock::HOST,
        parallel: 4,
    };
    Running { service: Arc::new(Screener { faults: Arc::clone(&stage.faults), ..Screener::default() }), runtime, settings }
}

impl Running {
    /// Runs until so many acknowledgements were made, or until it stops by itself.
    fn until(&self, stage: &Stage, acknowledged: usize) -> Result<(), ServeStop> {
        let (faults, stop) = (Arc::clone(&stage.faults), Arc::clone(&self.service.stop));
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let watch = std::thread::spawn(move || {
            let count = || faults.trace().iter().filter(|line| line.starts_with("acknowledge")).count();
            while count() < acknowledged && !ended.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Release);
        });
        let result = run_service(&self.service, &self.settings, &self.service.stop);
        over.store(true, Ordering::Release);
        watch.join().unwrap();
        result
    }
}

fn replies(stage: &Stage) -> usize {
    let count = |partition| stage.read(INBOX, partition).len();
    (0..PARTITIONS).map(count).sum()
}

#[test]
fn a_reply_is_durable_before_its_command_is_acknowledged() {
    let stage = Stage::new();
    (0..3).for_each(|number| ask(&stage, 0, number));
    stage.faults.refuse_appends(
        INBOX,
        custos_domain::partition_of(custos_testkit::account("ann").as_bytes(), PARTITIONS),
        2,
    );
    let running = running(&stage);
    running.until(&stage, 1).unwrap();
    assert_eq!(replies(&stage), 3);
    let trace = stage.faults.trace();
    let from = trace.iter().position(|line| line == "append custos.accounts.inbox.v1").unwrap();
    assert_eq!(trace[from..].last().unwrap(), "acknowledge 2");
    assert_eq!(trace[from..].iter().filter(|line| line.ends_with("inbox.v1")).count(), 3);
    drop(running.runtime);
}

#[test]
fn a_command_that_has_to_wait_is_tried_again_and_holds_back_no_other() {
    let stage = Stage::new();
    [FLAKY, SLOW, 1, OPENER].into_iter().for_each(|number| ask(&stage, 0, number));
    let running = running(&stage);
    running.until(&stage, 1).unwrap();
    assert_eq!(replies(&stage), 4);
    assert_eq!(running.service.handled.lock().unwrap().last(), Some(&FLAKY));
    assert!(running.service.tries.load(Ordering::SeqCst) >= 3);
}

/// A time in which a second lasts a millisecond.
struct Fast(Instant);

impl Time for Fast {
    fn now(&self) -> Instant {
        self.0 + self.0.elapsed() * 1_000
    }

    fn date(&self) -> Timestamp {
        Clock::HOST.date()
    }
}

#[test]
fn a_command_that_can_never_be_dealt_with_is_let_go_and_the_next_ones_are_taken() {
    let stage = Stage::new();
    [HOPELESS, 1].into_iter().for_each(|number| ask(&stage, 0, number));
    let mut running = running(&stage);
    running.settings.clock = Clock::of(Arc::new(Fast(Instant::now())));
    running.until(&stage, 1).unwrap();
    assert_eq!(replies(&stage), 1);
    assert_eq!(stage.faults.trace().last().unwrap(), "acknowledge 1");
    let counted = "custos_dropped_total{part=\"screener\",code=\"given-up\"} 1";
    assert!(stage.metrics.text().contains(counted), "{}", stage.metrics.text());
}

#[test]
fn poison_is_put_aside_and_acknowledged_and_the_rest_is_answered() {
    let stage = Stage::new();
    let garbage = custos_messages::Record { key: vec![1], value: Some(vec![2]), headers: Headers::new() };
    stage.append(COMMANDS, 0, garbage.clone());
    ask(&stage, 0, 1);
    stage.append(COMMANDS, 0, custos_messages::Record { value: Some(vec![3; 999_990]), ..garbage });
    let running = running(&stage);
    running.until(&stage, 1).unwrap();
    assert_eq!(stage.quarantined(0), ["malformed-envelope", "oversized"]);
    assert_eq!(replies(&stage), 1);
    assert_eq!(stage.faults.trace().last().unwrap(), "acknowledge 2");
}

#[test]
fn a_halt_acknowledges_nothing_and_the_command_comes_again() {
    let stage = Stage::new();
    ask(&stage, 0, 1);
    ask(&stage, 0, BROKEN);
    let running = running(&stage);
    let stop = running.until(&stage, 1).unwrap_err();
    assert!(matches!(stop, ServeStop::Halted { service: "screener", .. }), "{stop}");
    assert!(!stage.faults.trace().iter().any(|line| line.starts_with("acknowledge")));
    let again = self::running(&stage);
    assert!(again.until(&stage, 1).is_err());
    assert_eq!(again.service.handled.lock().unwrap().first(), Some(&1), "both commands came again");
}

#[test]
fn a_command_that_was_repeated_while_the_service_was_away_is_answered_once() {
    let stage = Stage::new();
    [1, 2, 1, 1, 2].into_iter().for_each(|number| ask(&stage, 0, number));
    let running = running(&stage);
    running.until(&stage, 1).unwrap();
    let mut handled = running.service.handled.lock().unwrap().clone();
    handled.sort_unstable();
    assert_eq!(handled, [1, 2]);
    assert_eq!(replies(&stage), 2);
    assert_eq!(stage.faults.trace().last().unwrap(), "acknowledge 4", "the repeats are over, too");
    let counted = "custos_dropped_total{part=\"screener\",code=\"repeat\"} 3";
    assert!(stage.metrics.text().contains(counted), "{}", stage.metrics.text());
}
