#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| adaloss_fuzz_capi::capi(bytes));
