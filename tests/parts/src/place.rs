//! Where things are on this machine: ports, fetched programs, readiness.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::PartError;

/// Images and cluster, pinned once for this crate and for `up.sh`.
const PINS: &str = include_str!("../../containers/pins.env");

/// The value of a pin.
pub(crate) fn pin(name: &str) -> &'static str {
    let value = PINS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("pins.env names {name}"))
}

/// The folder that `up.sh` fills.
pub(crate) fn parts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/parts")
}

/// What the environment names, else what `up.sh` has fetched, if it is there.
pub(crate) fn fetched(variable: &str, within: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(|| parts().join(within), PathBuf::from);
    path.exists().then_some(path)
}

/// The folder of compiled token contracts, such as `ERC20PresetFixedSupply.json` (fields `abi` and `bytecode`).
///
/// # Errors
/// [`PartError::Missing`] if it was not fetched.
pub fn contracts() -> Result<PathBuf, PartError> {
    fetched("CUSTOS_TEST_CONTRACTS", "npm/node_modules/@openzeppelin/contracts/build/contracts")
        .ok_or(PartError::Missing("the compiled contracts are not on this machine"))
}

/// A port of the loopback interface that nothing listens on, below those that the system gives to outgoing connections: what is
/// started a moment later, or once more, must find it free, however many connections were made in the meantime.
///
/// # Errors
/// [`PartError::Program`] if every port is taken.
pub fn free_port() -> Result<u16, PartError> {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Test programs run beside each other, so each begins somewhere else.
    let next = NEXT.get_or_init(|| {
        let chance = RandomState::new().hash_one(std::process::id()) % u64::from(COUNT);
        AtomicU16::new(u16::try_from(chance).unwrap_or_default())
    });
    let mut last = None;
    for _ in 0..COUNT {
        let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
        match TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    let source = last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
    Err(PartError::Program { program: "a listener", source })
}

/// Waits until something accepts connections on a port of the loopback interface.
pub(crate) fn accepts(port: u16, within: Duration) -> bool {
    let address = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
    wait_for(within, || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

/// Asks again and again until the answer is yes or time is up.
pub(crate) fn wait_for(within: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + within;
    loop {
        if ready() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
