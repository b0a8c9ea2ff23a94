#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ambassador::fuzzing::etcd_v3(data));
