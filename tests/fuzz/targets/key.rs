//! Parses texts as keys of every algorithm: nothing panics, every accepted key signs, and no fault repeats the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use signet::{domain::Algorithm, keys::SigningKey};

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let Some(algorithm) = Algorithm::all().cycle().nth(usize::from(*choice)) else { return };
    let secret = text.as_ref().into();
    match SigningKey::parse(&secret, algorithm) {
        Ok(key) => {
            assert!(!key.kid().is_empty());
            // A private key is refused as a verifying key.
            assert!(key.check_public_half(&secret).is_err());
        }
        Err(fault) => assert!(text.len() < 40 || !fault.0.contains(&*text)),
    }
});
