//! Where things are on this machine: ports, fetched programs, readiness.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
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

/// A port of the loopback interface that is free now.
pub(crate) fn free_port() -> Result<u16, PartError> {
    let port = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|source| PartError::Program { program: "a listener", source })
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
