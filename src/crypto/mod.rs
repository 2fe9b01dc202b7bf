//! Tokens: minting and verifying.

mod tokens;

pub use tokens::{AddedClaims, Issuer, Keys, REGISTERED, RefreshKeys, Refusal, SigningFailed, TokenNames, Tokens};
