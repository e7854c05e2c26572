//! How much is played: in `make test` a little of everything, in `make soak` (`PLASMA_SOAK=1`) all of it.

/// Whether this is `make soak`.
pub fn is_soaking() -> bool {
    std::env::var_os("PLASMA_SOAK").is_some()
}

/// How often something is done: `bounded` times in `make test`, `whole` times in `make soak`.
pub fn times(bounded: u64, whole: u64) -> u64 {
    if is_soaking() { whole } else { bounded }
}

/// A line for the summary of `make soak`.
pub fn report(line: &str) {
    if is_soaking() {
        println!("\nSOAK: {line}");
    }
}

/// Says now and then how far it is.
pub fn progress(done: u64, whole: u64, what: &str) {
    if is_soaking() && done > 0 && done.is_multiple_of(whole.div_ceil(10)) {
        println!("\n{done} of {whole} {what}");
    }
}
