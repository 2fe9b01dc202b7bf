//! The keys that sign tokens. This module knows nothing of tokens, users or settings.
//!
//! A rotation of the keys in `jwt.keys_dir`, with no message between replicas:
//!
//! 1. `signet keys generate` writes `<kid>.<made>.next.ES256.pem`. Each replica reads the folder every ten seconds and
//!    adds the key to its key set. The key is *next*: it is published but does not sign.
//! 2. `signet keys rotate` renames the file to `<kid>.<made>.<activates_at>.ES256.pem`, five minutes after `<made>` at
//!    the earliest. By then the file is on every replica, and every key set that a service has cached contains the key.
//! 3. At that time each replica begins to sign with the key. It is *active*; the key before it is *retiring*: it only
//!    verifies.
//! 4. When the last token of the retiring key has expired, that key has *ended*. Its file can be deleted.
//!
//! `signet keys rotate --now` writes `now` in place of the time, for use after a leak: each replica signs with the key
//! as soon as it reads the file. A state follows from the times in the file names alone and is never stored.
//!
//! | file | what |
//! |---|---|
//! | `signing_key` | a single key: parses, generates, signs, verifies |
//! | `ring` | several keys and the state of each |
//! | `file_name` | what the name of a file says |
//! | `files` | reads and writes key files |

mod file_name;
pub mod files;
mod ring;
mod signing_key;
#[cfg(test)]
mod vectors;

pub use ring::{Activation, KeyRing, KeyState, MAX_AGE, PUBLISHED_BEFORE};
pub(crate) use signing_key::TokenKey;
pub use signing_key::{KeyFault, SigningKey, generate, is_monotonous};
