#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| appm_fuzz::targets::web_socket(data));
