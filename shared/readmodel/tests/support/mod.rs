//! A log to fold, and databases to fold it into.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use custos_domain::{AccountId, Amount, AssetId, BlockHash, BlockRef, ChainId, SagaId, TenantId, Timestamp};
use custos_messages::events::{EntryReason, Event, EventBody, HouseBook, JournalEntry, LedgerAccount, Leg, Side};
use custos_messages::{Chained, Message as _};
use custos_readmodel::Arrival;

/// An event log in the making.
#[derive(Default)]
pub struct Log {
    heads: BTreeMap<u32, (u64, custos_domain::Digest)>,
    accounts: BTreeMap<AccountId, u64>,
    pub arrivals: Vec<Arrival>,
}

impl Log {
    /// Tells `body` of `account` in `partition`, a second after the event before.
    pub fn tell(&mut self, partition: u32, account: AccountId, saga: Option<SagaId>, body: EventBody) -> &Arrival {
        let sequence = self.accounts.entry(account).or_default();
        *sequence += 1;
        let at = Timestamp(1_700_000_000_000 + 1_000 * u64::try_from(self.arrivals.len()).unwrap());
        let event = Event { account, sequence: *sequence, at, saga, body };
        let (head, previous) = self.heads.get(&partition).copied().unwrap_or((0, Chained::GENESIS));
        let place = Chained::place(&event, partition, head + 1, previous);
        self.heads.insert(partition, (place.sequence, place.hash));
        let payload = event.encode();
        // Offsets have holes where the log keeps its own records.
        let offset = 2 * place.sequence + 1;
        self.arrivals.push(Arrival { partition, offset, place, event, payload });
        self.arrivals.last().unwrap()
    }

    /// Posts `legs` at `block`.
    pub fn post(&mut self, partition: u32, account: AccountId, block: Option<u64>, legs: Vec<Leg>) {
        let block = block.map(|number| (chain(), block_ref(number)));
        let entry = JournalEntry { reason: EntryReason::DepositSeen, block, legs };
        self.tell(partition, account, None, EventBody::Posted(entry));
    }
}

pub fn bank() -> TenantId {
    TenantId::new("alpha").unwrap()
}

pub fn client(key: &str) -> AccountId {
    AccountId::derive(&bank(), key)
}

pub fn chain() -> ChainId {
    ChainId::eip155(1)
}

pub fn asset(code: &str) -> AssetId {
    AssetId::new(code).unwrap()
}

pub fn block_ref(number: u64) -> BlockRef {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    BlockRef { number, hash: BlockHash(hash) }
}

pub fn leg(ledger: LedgerAccount, units: u128, side: Side) -> Leg {
    Leg { ledger, asset: asset("ETH"), amount: Amount::new(units), side }
}

pub fn custody(partition: u32) -> LedgerAccount {
    LedgerAccount::House { partition, book: HouseBook::Custody }
}

/// A database of its own for one test.
pub struct Database {
    pub url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Database {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("read.db").display());
        Self { url, _folder: Some(folder) }
    }
}

/// A PostgreSQL server: the one that `CUSTOS_TEST_POSTGRES` names, or one that this test starts and ends.
pub struct Postgres {
    /// Up to and without the database's name.
    base: String,
    admin: String,
    server: Option<(Child, tempfile::TempDir)>,
}

impl Postgres {
    /// The server, or why there is none.
    pub fn start() -> Result<Self, String> {
        if let Ok(admin) = std::env::var("CUSTOS_TEST_POSTGRES") {
            let base =
                admin.rsplit_once('/').map(|(base, _)| base.to_owned()).ok_or("CUSTOS_TEST_POSTGRES names no database")?;
            return Ok(Self { base, admin, server: None });
        }
        let (initdb, postgres) = programs().ok_or("neither CUSTOS_TEST_POSTGRES nor initdb and postgres are here")?;
        let folder = tempfile::tempdir().map_err(|cause| cause.to_string())?;
        let user = unprivileged(folder.path())?;
        let data = folder.path().join("data");
        let made = as_user(Command::new(initdb), user)
            .args(["--auth=trust", "--username=custos", "--no-sync", "--encoding=UTF8", "-D"])
            .arg(&data)
            .output()
            .map_err(|cause| format!("initdb: {cause}"))?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(|cause| cause.to_string())?.port();
        let server = as_user(Command::new(postgres), user)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-F", "-k"])
            .arg(folder.path())
            .arg("-D")
            .arg(&data)
            .stderr(std::fs::File::create(folder.path().join("said")).map_err(|cause| cause.to_string())?)
            .spawn()
            .map_err(|cause| format!("postgres: {cause}"))?;
        let base = format!("postgres://custos@127.0.0.1:{port}");
        let mut started = Self { admin: format!("{base}/postgres"), base, server: Some((server, folder)) };
        started.until_ready(port).map(|()| started)
    }

    fn until_ready(&mut self, port: u16) -> Result<(), String> {
        let Some((server, folder)) = &mut self.server else { return Ok(()) };
        let ready = folder.path().join("data/postmaster.pid");
        for _ in 0..600 {
            if let Ok(Some(_)) = server.try_wait() {
                let said = std::fs::read_to_string(folder.path().join("said")).unwrap_or_default();
                return Err(format!("postgres on port {port}: {said}"));
            }
            if std::fs::read_to_string(&ready).is_ok_and(|text| text.lines().any(|line| line.trim() == "ready")) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("postgres was not ready within 30 s".to_owned())
    }

    /// A fresh, empty database.
    pub async fn database(&self, name: &str) -> Database {
        use sqlx::Connection as _;
        sqlx::any::install_default_drivers();
        let name = format!("custos_test_{name}_{}", std::process::id());
        let mut admin = sqlx::AnyConnection::connect(&self.admin).await.unwrap();
        for sql in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        }
        admin.close().await.unwrap();
        Database { url: format!("{}/{name}", self.base), _folder: None }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some((server, _)) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn programs() -> Option<(PathBuf, PathBuf)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(debian).collect();
    let found = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file());
    Some((found("initdb")?, found("postgres")?))
}

/// The server refuses to run as root: then it runs as `postgres` or `nobody`, who is given the folder.
fn unprivileged(folder: &Path) -> Result<Option<(u32, u32)>, String> {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata(folder).map_err(|cause| cause.to_string())?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|cause| cause.to_string())?;
    let ids = |name: &str| {
        let mut fields =
            users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?.skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let user: (u32, u32) = ids("postgres").or_else(|| ids("nobody")).ok_or("running as root, and there is no other user")?;
    std::os::unix::fs::chown(folder, Some(user.0), Some(user.1)).map_err(|cause| cause.to_string())?;
    Ok(Some(user))
}

fn as_user(mut command: Command, user: Option<(u32, u32)>) -> Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    command
}
