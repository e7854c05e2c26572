//! libFuzzer's way into [`plasma_store_fuzz::ring`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    plasma_store_fuzz::ring(data);
});
