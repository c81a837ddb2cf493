//! The contracts that a development chain can deploy: a real ERC-20 as published, and small ones assembled here.

use alloy::{
    primitives::{Address, Bytes, U256, hex},
    sol,
    sol_types::{SolCall, SolValue},
};

// See fixtures/README.md for where it comes from.
const TOKEN: &str = include_str!("../fixtures/erc20_preset_minter_pauser.hex");

sol! {
    /// What the ERC-20 of this crate can do.
    interface Token {
        /// Emitted by every movement of tokens.
        event Transfer(address indexed from, address indexed to, uint256 value);
        /// Pays the caller's tokens.
        function transfer(address to, uint256 amount) external returns (bool);
        /// A balance in base units.
        function balanceOf(address account) external view returns (uint256);
        /// Creates tokens: the deployer only.
        function mint(address to, uint256 amount) external;
        /// Makes every transfer revert: the deployer only.
        function pause() external;
        /// Ends a pause.
        function unpause() external;
    }
}

/// Creation code of the ERC-20 with its constructor's arguments.
#[must_use]
pub fn token_code(name: &str, symbol: &str) -> Bytes {
    // The fixture is a file of the crate, and a test decodes it: an empty code would deploy nothing.
    let mut code = hex::decode(TOKEN.trim()).unwrap_or_default();
    code.extend((name.to_owned(), symbol.to_owned()).abi_encode_params());
    code.into()
}

/// Call data of a mint: creates base units of the token for `to`, if its deployer calls.
#[must_use]
pub fn mint_data(to: Address, units: U256) -> Bytes {
    Token::mintCall { to, amount: units }.abi_encode().into()
}

pub(crate) fn transfer(to: Address, amount: U256) -> Bytes {
    Token::transferCall { to, amount }.abi_encode().into()
}

pub(crate) fn pause() -> Bytes {
    Token::pauseCall {}.abi_encode().into()
}

pub(crate) fn unpause() -> Bytes {
    Token::unpauseCall {}.abi_encode().into()
}

mod op {
    pub(super) const STOP: u8 = 0x00;
    pub(super) const CALLVALUE: u8 = 0x34;
    pub(super) const CODECOPY: u8 = 0x39;
    pub(super) const JUMPI: u8 = 0x57;
    pub(super) const GAS: u8 = 0x5a;
    pub(super) const JUMPDEST: u8 = 0x5b;
    pub(super) const PUSH0: u8 = 0x5f;
    pub(super) const PUSH1: u8 = 0x60;
    pub(super) const PUSH20: u8 = 0x73;
    pub(super) const DUP1: u8 = 0x80;
    pub(super) const CALL: u8 = 0xf1;
    pub(super) const RETURN: u8 = 0xf3;
    pub(super) const REVERT: u8 = 0xfd;
}

/// Creation code of a contract that passes the ether of every call on to `target` by an internal call, and reverts when that
/// fails. The ether's arrival leaves no log: only a trace shows it.
pub(crate) fn forwarder(target: Address) -> Bytes {
    // call(gas, target, callvalue, 0, 0, 0, 0)
    let mut runtime = vec![op::PUSH0, op::PUSH0, op::PUSH0, op::PUSH0, op::CALLVALUE, op::PUSH20];
    runtime.extend(target.as_slice());
    runtime.extend([op::GAS, op::CALL]);
    // JUMPDEST stands behind PUSH1 x JUMPI PUSH0 PUSH0 REVERT, six bytes; the code before is 28 long.
    runtime.extend([op::PUSH1, 34, op::JUMPI, op::PUSH0, op::PUSH0, op::REVERT, op::JUMPDEST, op::STOP]);
    deploying(&runtime)
}

/// Creation code of a contract that reverts whatever it is sent.
pub(crate) fn rejecter() -> Bytes {
    deploying(&[op::PUSH0, op::PUSH0, op::REVERT])
}

/// Creation code that returns `runtime`, which is at most 255 bytes long.
fn deploying(runtime: &[u8]) -> Bytes {
    let length = u8::try_from(runtime.len()).unwrap_or(u8::MAX);
    // codecopy(0, 9, length); return(0, length): nine bytes.
    let mut code = vec![op::PUSH1, length, op::DUP1, op::PUSH1, 9, op::PUSH0, op::CODECOPY, op::PUSH0, op::RETURN];
    code.extend(runtime);
    code.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_token_is_code() {
        assert_eq!(hex::decode(TOKEN.trim()).expect("hex").len(), 7_440);
        assert!(token_code("a", "b").len() > 7_440 + 64);
    }
}
