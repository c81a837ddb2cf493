//! One target under libFuzzer. `cargo xtask fuzz` builds and runs it; `CUSTOS_FUZZ_TARGET` names the target.
#![no_main]
#![allow(unsafe_code, reason = "libFuzzer calls by name, which the macro declares")]

use std::sync::OnceLock;

use custos_fuzz::{Target, named};

fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("CUSTOS_FUZZ_TARGET").expect("CUSTOS_FUZZ_TARGET names the target");
        named(&name).expect("there is such a target")
    })
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| (target().run)(input));
