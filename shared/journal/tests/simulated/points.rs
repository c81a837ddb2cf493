//! One late request, one takeover, one death, at every point of a transaction: enumerated, not drawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use custos_journal::{
    Appender, Defence, Defences, Journal, JournalError, Provision, RequestKind, SimulatedCluster, SimulatedSettings,
};

use crate::counting::judge::{Kept, Report, judge};
use crate::counting::{INBOX, Owner, SharedDiary, input, take_over};

/// More requests than a transaction here has.
const POINTS: u64 = 14;
/// Seeds for each point: what is sent with what differs.
const SEEDS: u64 = 6;

struct Scene {
    cluster: Arc<SimulatedCluster>,
    diary: SharedDiary,
    owner: Owner,
    appender: Box<dyn Appender>,
}

impl Scene {
    fn new(seed: u64, defences: Defences) -> Self {
        let cluster = Arc::new(SimulatedCluster::new(SimulatedSettings { defences, ..SimulatedSettings::new(seed) }));
        let process = cluster.process();
        process.provision(&Provision { partitions: 1, gateways: 1, replication: 1 }).unwrap();
        let diary = SharedDiary::default();
        let appender = cluster.process().appender().unwrap();
        let owner = take_over(&process, 0, &diary, true).unwrap();
        let scene = Self { cluster, diary, owner, appender };
        scene.put(1..4);
        scene
    }

    fn put(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.appender.append(INBOX, 0, input(number)).unwrap();
        }
    }

    /// Before the request number `point` from now on, `act` happens once. Returns where the requests are counted.
    fn at(&self, point: u64, act: impl Fn(&Arc<SimulatedCluster>) + Send + 'static) -> Arc<AtomicU64> {
        let (count, cluster) = (Arc::new(AtomicU64::new(0)), Arc::downgrade(&self.cluster));
        let counted = Arc::clone(&count);
        self.cluster.at_each_request(move |_| {
            if counted.fetch_add(1, Ordering::Relaxed) == point
                && let Some(cluster) = cluster.upgrade()
            {
                act(&cluster);
            }
        });
        count
    }

    /// Everything comes to rest under a last owner.
    fn conclude(self) -> Result<Report, String> {
        self.cluster.heal();
        self.put(20..22);
        let process = self.cluster.process();
        let rest = || -> Result<(), JournalError> {
            let mut owner = take_over(&process, 0, &self.diary, true)?;
            while owner.serve(4, 0)? {}
            Ok(())
        };
        rest().map_err(|error| error.to_string())?;
        if let Some(violation) = self.diary.lock().unwrap().violation.take() {
            return Err(violation);
        }
        let mut report = judge(&process, 0, &self.diary.lock().unwrap(), Kept::All)?;
        report.counts = self.cluster.counts();
        Ok(report)
    }
}

/// A transaction whose end is late, and a second one in which that end arrives before the request number `point`.
fn late_end(kind: RequestKind, point: u64, seed: u64, defences: Defences) -> Result<Report, String> {
    let mut scene = Scene::new(seed, defences);
    scene.cluster.hold_next(kind);
    let first = if kind == RequestKind::Commit { scene.owner.serve(2, 0).map(drop) } else { scene.owner.think_better() };
    // A slow abort costs the shard, when that is a reason.
    if first.is_err() {
        scene.owner = take_over(&scene.cluster.process(), 0, &scene.diary, true).unwrap();
    }
    scene.put(10..13);
    scene.at(point, |cluster| {
        // Nothing, when the first transaction had asked for nothing and so needed no end.
        cluster.release();
    });
    drop(scene.owner.serve(9, 0));
    scene.conclude()
}

#[test]
fn a_late_end_at_any_point_of_the_next_transaction_loses_nothing() {
    let exposed = Defences::ALL.without(Defence::RenewalAfterSlowEnd);
    let mut sum = Report::default();
    for kind in [RequestKind::Commit, RequestKind::Abort] {
        for point in 0..POINTS {
            for seed in 0..SEEDS {
                for defences in [exposed, Defences::ALL] {
                    let report = late_end(kind, point, seed, defences);
                    let report = report.unwrap_or_else(|what| panic!("{kind:?} at {point}, seed {seed}: {what}"));
                    if defences == Defences::ALL {
                        assert_eq!((report.tears, report.counts.stray_ends), (0, 0), "{kind:?} at {point}, seed {seed}");
                    }
                    sum = sum.with(&report);
                }
            }
        }
    }
    println!("late ends at every point: {sum}");
    assert!(sum.counts.stray_ends > 50 && sum.tears > 10 && sum.repairs > 5, "{sum}");
}

/// What the renewal is for: a late abort takes a whole bracket away, and a late repetition of `AddPartitionsToTxn` makes the brokers take
/// the commit that follows for that of an open transaction.
#[test]
fn two_late_requests_defeat_the_bracket_and_the_renewal_stops_them() {
    for (defences, survives) in [(Defences::ALL.without(Defence::RenewalAfterSlowEnd), false), (Defences::ALL, true)] {
        let mut scene = Scene::new(1, defences);
        scene.cluster.hold_next(RequestKind::Abort);
        if scene.owner.think_better().is_err() {
            scene.owner = take_over(&scene.cluster.process(), 0, &scene.diary, true).unwrap();
        }
        // Released behind the abort that was held first.
        scene.cluster.hold_next(RequestKind::Add);
        let cluster = Arc::downgrade(&scene.cluster);
        scene.cluster.at_each_request(move |kind| {
            if kind == RequestKind::Commit
                && let Some(cluster) = cluster.upgrade()
            {
                cluster.release();
            }
        });
        assert!(scene.owner.serve(9, 0).unwrap(), "the log says that it is committed");
        let outcome = scene.conclude();
        assert_eq!(outcome.is_ok(), survives, "{outcome:?}");
        assert!(
            survives || outcome.clone().unwrap_err().contains("was committed, and its manifest is not there"),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_takeover_at_any_point_of_a_transaction_is_harmless() {
    let mut sum = Report::default();
    for point in 0..POINTS {
        for seed in 0..SEEDS {
            let mut scene = Scene::new(seed, Defences::ALL);
            let diary = Arc::clone(&scene.diary);
            let count = scene.at(point, move |cluster| {
                let mut other = take_over(&cluster.process(), 0, &diary, true).unwrap();
                other.serve(1, 0).unwrap();
            });
            let served = scene.owner.serve(9, 0);
            let superseded = count.load(Ordering::Relaxed) > point;
            assert_eq!(served.is_err(), superseded, "at {point}, seed {seed}: {served:?}");
            assert!(!superseded || scene.owner.dawdle().is_err(), "a former owner goes on");
            let report = scene.conclude().unwrap_or_else(|what| panic!("at {point}, seed {seed}: {what}"));
            sum = sum.with(&report);
        }
    }
    println!("takeovers at every point: {sum}");
    // One for each scene, one in its conclusion, and those in the middle.
    assert!(sum.takeovers > POINTS * SEEDS * 5 / 2, "{sum}");
}

#[test]
fn a_death_at_any_point_of_a_transaction_is_harmless() {
    for point in 0..POINTS {
        for seed in 0..SEEDS {
            let mut scene = Scene::new(seed, Defences::ALL);
            let process = Arc::new(scene.cluster.process());
            scene.owner = take_over(&*process, 0, &scene.diary, true).unwrap();
            let victim = Arc::clone(&process);
            let count = scene.at(point, move |_| victim.kill());
            let served = scene.owner.serve(9, 0);
            assert_eq!(served.is_err(), count.load(Ordering::Relaxed) > point, "at {point}, seed {seed}: {served:?}");
            scene.conclude().unwrap_or_else(|what| panic!("at {point}, seed {seed}: {what}"));
        }
    }
}
