//! Any text has a block of base64 in its one canonical form, or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moat_sm::pem;

fuzz_target!(|text: &str| {
    if let Ok(bytes) = pem::decode(pem::PUBLIC_KEY, text) {
        let again = pem::encode(pem::PUBLIC_KEY, &bytes);
        assert_eq!(pem::decode(pem::PUBLIC_KEY, &again), Ok(bytes));
        let unix = text.replace("\r\n", "\n");
        let lines: Vec<&str> = again.lines().skip(1).collect();
        let body = lines.split_last().map(|(_, body)| body.join("\n")).unwrap_or_default();
        assert!(unix.contains(&body));
    }
});
