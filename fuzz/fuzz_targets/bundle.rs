//! libFuzzer's way into [`plasma_store_fuzz::bundle`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    plasma_store_fuzz::bundle(data);
});
